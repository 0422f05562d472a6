// Real Wine: a base is updated by a second version of it, and a prefix with a change of its own goes there: the conflict is
// shown, decided, and the way back taken. The second version is the installed one with another wine.inf and another builtin.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cliIn, MAIN } from '../cli/cli.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { secondWine } from './second-wine.js';

const skip = requires({ packages: ['wine64'], commands: ['wine'], features: ['fuse'] });

test('a new Wine updates the base once, and a prefix follows it with what is its own', {
  skip,
}, (t) => {
  const folder = tempDir(t);
  const { env } = cliIn(folder);
  mkdirSync(join(folder, 'home'));
  Object.assign(env, {
    HOME: join(folder, 'home'),
    VARVE_WINE_DIR: join(folder, 'wine'),
    WINEDEBUG: '-all',
  });
  for (const name of ['DISPLAY', 'WINEPREFIX', 'WINEPREFIX_OVERLAYS']) delete env[name];
  const prefix = join(folder, 'wine/prefixes/p');
  const varve = (code: number, ...args: string[]): string => {
    // Whatever else this machine does meanwhile: a base is 700 MB.
    const options = { cwd: folder, env, encoding: 'utf8', timeout: 300_000 } as const;
    const ran = spawnSync(process.execPath, [MAIN, 'wine', ...args], options);
    assert.equal(ran.status, code, `${args.join(' ')}: ${ran.stderr}`);
    return ran.stdout;
  };
  t.after(() => spawnSync('wineserver', ['-k'], { env: { ...env, WINEPREFIX: prefix } }));
  const build = secondWine(join(folder, 'second'), {
    inf: ['HKLM,Software\\Varve,"Version",,"2"', 'HKCU,Software\\Varve,"Choice",,"theirs"'],
    builtins: ['winver.exe'],
  });
  // As Debian's is older than any test.
  utimesSync(join(folder, 'second/share/wine/wine.inf'), 1_800_000_000, 1_800_000_000);

  varve(0, 'base', 'add', 'default');
  varve(0, 'create', 'p');
  varve(0, 'run', 'p', 'reg', 'add', 'HKCU\\Software\\Varve', '/v', 'Choice', '/d', 'ours', '/f');
  const base = join(folder, 'wine/bases/default');
  const look = (): string =>
    spawnSync('sh', ['-c', 'find 1 -printf "%p %i %s %T@ %m\\n" | sort; cat 1/*.reg | sha256sum'], {
      cwd: base,
      encoding: 'utf8',
    }).stdout;
  const before = look();

  const made = JSON.parse(varve(0, 'update', 'default', '--wine', build, '--json')).update;
  assert.equal(made.to, 'default@2');
  assert.equal(made.changed, 1, 'builtins with the bytes that they had are not changed');
  assert.equal(look(), before, 'the version before is untouched');
  const winver = (version: number): string =>
    join(base, String(version), 'drive_c/windows/system32/winver.exe');
  assert.notEqual(statSync(winver(1)).size, statSync(winver(2)).size);

  const report = JSON.parse(varve(8, 'update', 'p', '--json')).prefix;
  assert.equal(report.to, 'default@2');
  assert.deepEqual(
    report.conflicts.map(({ name, value, ours, theirs }: Record<string, unknown>) => [
      name,
      value,
      ours,
      theirs,
    ]),
    [
      [
        'HKEY_CURRENT_USER\\Software\\Varve',
        'Choice',
        { type: 'REG_SZ', text: 'ours' },
        { type: 'REG_SZ', text: 'theirs' },
      ],
    ],
  );
  assert.match(readFileSync(join(prefix, 'system.reg'), 'latin1'), /"Version"="2"/);
  assert.match(readFileSync(join(prefix, 'user.reg'), 'latin1'), /"Choice"="ours"/);
  assert.match(
    varve(8, 'update', 'p', '--conflicts'),
    /^1 {2}HKEY_CURRENT_USER\\Software\\Varve: "Choice": ours "ours", theirs "theirs", before nothing$/m,
  );

  varve(0, 'update', 'p', '--resolve', 'theirs', 'HKCU\\Software\\Varve');
  // The second Wine runs in it, finds nothing to update, and reads what was decided.
  varve(
    0,
    'run',
    '--wine',
    build,
    'p',
    'cmd',
    '/c',
    'reg query HKCU\\Software\\Varve /v Choice > C:\\out.txt',
  );
  assert.match(readFileSync(join(prefix, 'drive_c/out.txt'), 'latin1'), /Choice\s+REG_SZ\s+theirs/);
  assert.equal(readFileSync(join(prefix, '.update-timestamp'), 'utf8'), 'disable\n');

  varve(0, 'update', 'p', '--to', 'default@1');
  assert.doesNotMatch(readFileSync(join(prefix, 'system.reg'), 'latin1'), /"Version"="2"/);
  const own = spawnSync('du', ['-sm', prefix], { encoding: 'utf8' }).stdout;
  assert.ok(Number.parseInt(own, 10) < 5, own);
});
