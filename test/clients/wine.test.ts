// Wine prefixes in layers, with Wine itself: real installers, programs that run, a base that nobody ever writes.
// One pristine base serves all tests of this file; each test has prefixes of its own.
// Oracle: what the same installers and programs do in a plain prefix is known from their scripts (wine-fixtures.ts).

import assert from 'node:assert/strict';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { parseHive } from '../../src/wine/registry/parse.js';
import { writeHive } from '../../src/wine/registry/write.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { installVarve } from './installed.js';
import { makeUser, openFuseDevice, privately } from './private.js';
import { quote } from './shell.js';
import {
  fingerprint,
  greetingOf,
  type Installer,
  msiInstaller,
  nsisInstaller,
  storedBelow,
  Wine,
} from './wine-fixtures.js';

/** Waits for something that happens soon. */
async function until(what: string, happened: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!happened()) {
    if (Date.now() > deadline) throw new Error(`waited for a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Files by their ending, links not followed. */
function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path, ending);
    return entry.isFile() && path.endsWith(ending) ? [path] : [];
  });
}

const plain = { skip: requires({ root: true, features: ['userns', 'plain-user'] }) };

const skip = requires({
  features: ['fuse'],
  packages: ['wine', 'wine64', 'nsis', 'wixl'],
});

suite('Wine prefixes in layers', { skip }, () => {
  let folder = '';
  let wine: Wine;
  let stone: Installer;
  let reed: Installer;
  /** The folder of the base, which every test uses. */
  let base = '';
  let untouched: string[] = [];
  const at = (...names: string[]): string => join(folder, ...names);
  const prefixAt = (name: string): string => at('wine/prefixes', name);

  before(async () => {
    folder = makeTempDir();
    wine = new Wine(folder);
    const made = wine.must(['wine', 'base', 'add', 'pristine']);
    stone = nsisInstaller(at('stone'));
    reed = msiInstaller(at('reed'));
    await made;
    base = at('wine/bases/pristine/1');
    symlinkSync(base, at('default_pfx'));
    untouched = fingerprint(base);
  });

  after(async () => {
    if (folder === '') return;
    await wine.killAll();
    removeTempDir(folder);
  });

  /** Runs a program of a prefix by name. The prefix stays up for a moment, so that the next one starts at once. */
  const run = (prefix: string, ...command: string[]) =>
    wine.varve(['wine', 'run', '--detach', prefix, ...command]);

  /** Waits until it is down again. */
  const stop = (prefix: string) => wine.must(['wine', 'stop', '--quiet', prefix]);

  async function says(prefix: string, app: Installer, expected: string | undefined): Promise<void> {
    const { code, out, err } = await run(prefix, app.program, 'to', 'you');
    if (expected === undefined) assert.notEqual(code, 7, `${prefix}: ${app.name} ran`);
    else assert.deepEqual([code, out], [7, expected], err);
  }

  async function hasKey(prefix: string, key: string, expected: boolean): Promise<void> {
    const { code, err } = await run(prefix, 'reg', 'query', key);
    assert.equal(code === 0, expected, `${prefix}: ${key}: ${err}`);
  }

  const uninstallKey = (name: string): string =>
    `HKLM\\Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\${name}`;

  test('the command of the proposal stacks the listed folders, and leaves them alone', async () => {
    const layer = { WINEPREFIX: at('pfx_layer1'), WINEPREFIX_OVERLAYS: at('default_pfx/drive_c') };
    await wine.must(['wine', ...stone.silently], layer);
    assert.ok(existsSync(at('pfx_layer1/drive_c/Stone/Stone.exe')));
    assert.ok(!existsSync(at('pfx_layer1/drive_c/windows/system32/ntdll.dll')));
    const before = fingerprint(at('pfx_layer1'));
    const env = {
      WINEPREFIX: at('.wine'),
      WINEPREFIX_OVERLAYS: `${at('pfx_layer1/drive_c')}:${at('default_pfx/drive_c')}`,
    };
    await wine.must(['wine', 'winecfg'], env);
    // The layers are remembered, and so is what was set.
    await wine.must(['wine', '--detach', 'winecfg', '/v', 'win7'], env);
    const later = { WINEPREFIX: at('.wine') };
    assert.equal((await wine.must(['wine', '--detach', 'winecfg', '/v'], later)).trim(), 'win7');
    const ran = await wine.varve(['wine', stone.program, 'a', 'b c'], later);
    assert.deepEqual([ran.code, ran.out], [7, greetingOf(stone, 'a "b c"')], ran.err);
    // Only drive_c was a mount, and it is none any more.
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(at('.wine')));
    assert.equal(lstatSync(at('.wine')).dev, lstatSync(folder).dev);
    assert.deepEqual(fingerprint(at('pfx_layer1')), before);
    assert.ok(storedBelow(at('.wine')) < 5e6);
  });

  test('what an installer has put into the menu goes into the prefix, and no more of it is made', async () => {
    const prefix = at('pfx_layer1');
    const applications = at('home/.local/share/applications');
    const entries = (): string[] =>
      filesBelow(applications, '.desktop').filter((path) =>
        readFileSync(path, 'utf8').includes(prefix),
      );
    assert.equal(entries().length, 1);
    const report = JSON.parse(await wine.must(['wine', 'doctor', '--json', '--fix', prefix])) as {
      prefixes: [{ findings: { name: string }[] }];
    };
    assert.deepEqual(
      report.prefixes[0].findings.map(({ name }) => name),
      ['drive'],
    );
    const profile = readdirSync(join(prefix, 'drive_c/users')).filter((name) => name !== 'Public');
    assert.ok(
      lstatSync(join(prefix, 'drive_c/users', profile[0] as string, 'Desktop')).isDirectory(),
    );
    await wine.must(['wine', ...stone.silently], { WINEPREFIX: prefix });
    assert.deepEqual(entries(), []);
  });

  test('two installers in two layers: both run, and taking one away takes only what is its own', async () => {
    const record = ({ name, silently }: Installer): Promise<string> =>
      wine.must([
        ...['wine', 'layer', 'add', name.toLowerCase(), '--base', 'pristine'],
        ...['--', ...silently],
      ]);
    await Promise.all([record(stone), record(reed)]);
    // A menu entry would start the prefix in which it was recorded.
    for (const path of filesBelow(at('home/.local/share/applications'), '.desktop')) {
      assert.ok(!readFileSync(path, 'utf8').includes(at('wine')), path);
    }
    await wine.must([
      ...['wine', 'create', 'both', '--base', 'pristine'],
      ...['--layer', 'stone', '--layer', 'reed'],
    ]);
    const layers = [fingerprint(at('wine/layers/stone')), fingerprint(at('wine/layers/reed'))];
    await says('both', stone, greetingOf(stone, 'to you'));
    await says('both', reed, greetingOf(reed, 'to you'));
    await hasKey('both', uninstallKey('Stone'), true);
    await hasKey('both', 'HKCR\\.stone', true);
    await hasKey('both', 'HKCR\\.reed', true);
    // A change of the prefix itself, in a key of a layer that goes and in one that stays.
    await run('both', 'reg', 'add', 'HKCU\\Software\\Mine', '/v', 'a', '/f');
    await stop('both');
    await wine.must(['wine', 'layer', 'take', 'stone', 'both']);
    await says('both', stone, undefined);
    await says('both', reed, greetingOf(reed, 'to you'));
    await hasKey('both', 'HKLM\\Software\\Varve\\Stone', false);
    await hasKey('both', uninstallKey('Stone'), false);
    await hasKey('both', 'HKCR\\.stone', false);
    await hasKey('both', 'HKCR\\.reed', true);
    await hasKey('both', 'HKCU\\Software\\Mine', true);
    await stop('both');
    await wine.must(['wine', 'layer', 'put', 'stone', 'both']);
    await says('both', stone, greetingOf(stone, 'to you'));
    // The uninstaller of a layer's application works as well: in this prefix only.
    await run('both', 'C:\\Stone\\uninstall.exe', '/S');
    await says('both', stone, undefined);
    await hasKey('both', uninstallKey('Stone'), false);
    await stop('both');
    assert.deepEqual(
      [fingerprint(at('wine/layers/stone')), fingerprint(at('wine/layers/reed'))],
      layers,
    );
  });

  test('ten prefixes over one base take less than 5 MB each, and their servers never meet', async () => {
    const names = Array.from({ length: 10 }, (_, i) => `p${i}`);
    for (const name of names) await wine.must(['wine', 'create', name, '--base', 'pristine']);
    // All at once: each sets a value of its own while the others run.
    const own = (name: string): string[] => ['reg', 'add', 'HKCU\\Own', '/v', 'name', '/d', name];
    await Promise.all(names.map((name) => wine.must(['wine', 'run', name, ...own(name), '/f'])));
    for (const name of names) {
      const stored = storedBelow(prefixAt(name));
      assert.ok(stored < 5e6, `${name}: ${stored} bytes`);
      const text = readFileSync(join(prefixAt(name), 'user.reg'), 'latin1');
      assert.match(text, new RegExp(`\\[Own\\][^[]*"name"="${name}"`));
    }
    const report = JSON.parse(await wine.must(['wine', 'du', '--json'])) as unknown;
    assert.ok(report);
  });

  test(
    'a plain user: by a server, in a user namespace, and over a base that is one file',
    plain,
    async (t) => {
      await wine.must(['wine', 'export', 'pristine', at('pristine.erofs')]);
      const { varve } = installVarve(at('package'));
      const user = makeUser(at('plain-user'));
      t.after(() => user.remove());
      const layer = at('wine/layers/stone/drive_c');
      const sessions = [
        ['fuse', `${layer}:${base}/drive_c`],
        // The kernel changes nothing in a user namespace that belongs to somebody else.
        ['kernel', '$HOME/stone/drive_c:$HOME/base/drive_c'],
        ['fuse', `${layer}:${at('pristine.erofs')}`],
      ];
      const copies = `cp -r ${base} base; cp -r ${join(layer, '..')} stone`;
      const script = sessions
        .map(
          ([backend, overlays], i) => `
          export WINEPREFIX=$HOME/p${i} WINEPREFIX_OVERLAYS=${overlays}
          code=0; ${process.execPath} ${varve} wine -q --backend=${backend} '${stone.program}' ${i} >out${i} 2>err${i} || code=$?
          # What Wine says of its own services is told only where the program has failed.
          cat out${i}; [ $code = 7 ] || cat err${i}; echo "exit $code"`,
        )
        .join('\n');
      const said = privately(
        `${openFuseDevice}\n${user.run} env WINEDEBUG=-all LC_ALL=C.UTF-8 bash -euo pipefail -c ${quote(`${copies}\n${script}`)}`,
        { env: { VARVE_WINE_DIR: undefined, DISPLAY: undefined } },
      );
      const expected = sessions.map((_, i) => `${greetingOf(stone, String(i))}exit 7\n`).join('');
      assert.equal(said.replaceAll('\r\n', '\n'), expected);
    },
  );

  test('Wine is killed in a prefix, then its server: both start again with what was written', async () => {
    await wine.must(['wine', 'create', 'killed', '--base', 'pristine', '--layer', 'stone']);
    for (const victims of ['of Wine', 'at all'] as const) {
      const running = wine.varve([
        'wine',
        'run',
        '--backend=fuse',
        'killed',
        stone.program,
        'wait',
      ]);
      const waits = join(prefixAt('killed'), '.varve/upper/Stone-waits.txt');
      await until('the program waits', () => existsSync(waits));
      await wine.kill(
        victims === 'at all' ? () => true : ({ command }) => !command.includes('node'),
      );
      await running;
      await says('killed', stone, greetingOf(stone, 'to you'));
      await stop('killed');
      const written = join(prefixAt('killed'), 'drive_c/Stone-waits.txt');
      assert.equal(readFileSync(written, 'utf8'), 'yes', `no process ${victims}`);
      rmSync(written);
      assert.ok(!existsSync(join(prefixAt('killed'), '.varve/upper')));
    }
  });

  test('every registry file that is found here is written back the same', () => {
    const found = filesBelow(folder, '.reg');
    assert.ok(found.length >= 40, `${found.length} files`);
    for (const path of found) {
      const bytes = readFileSync(path);
      assert.ok(writeHive(parseHive(bytes)).equals(bytes), path);
    }
  });

  test('the base is what it was, to the byte', () => {
    assert.deepEqual(fingerprint(base), untouched);
  });
});
