// Sessions of a plain user: by varve's server, and by the kernel in a user namespace, whose mount nobody else sees.
// Under test: src/wine/prefix/{drive,namespace}.ts through the command line, as it is installed.
// With a Wine of shell scripts (stub-wine.ts).

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MAIN, type Ran } from '../cli/cli.js';
import { mountsBelow } from '../support/mounts.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { stubPrefix, stubWine } from './stub-wine.js';

const skip = requires({ root: true, features: ['fuse', 'userns', 'plain-user', 'overlayfs'] });

const UID = 1000;
const AS_USER = ['--reuid=1000', '--regid=1000', '--clear-groups', '--inh-caps=-all', '--'];

for (const backend of ['fuse', 'kernel']) {
  test(`a plain user's prefix: shared, stopped, and nothing left (${backend})`, {
    skip,
  }, async (t) => {
    const folder = tempDir(t);
    const at = (path: string): string => join(folder, path);
    // The server shows what belongs to others as the user's own.
    stubPrefix(at('base'), { 'windows/a': 'base', 'windows/b': 'base' });
    if (backend === 'kernel') spawnSync('chown', ['-R', `${UID}:${UID}`, at('base')]);
    for (const name of ['run', 'home', 'own']) {
      mkdirSync(at(name), { mode: 0o700 });
      chownSync(at(name), UID, UID);
    }
    const env = {
      ...process.env,
      VARVE_RUNTIME_DIR: at('run'),
      VARVE_SUPERVISOR_IDLE: '100',
      VARVE_WINE: stubWine(folder),
      HOME: at('home'),
      TMPDIR: at('home'),
      WINEPREFIX: at('own/p'),
      WINEPREFIX_OVERLAYS: at('base/drive_c'),
    };
    const words = [...AS_USER, process.execPath, MAIN, 'wine', `--backend=${backend}`];
    const wine = (...args: string[]): Ran => {
      const ran = spawnSync('setpriv', [...words, ...args], {
        cwd: at('own'),
        env,
        encoding: 'utf8',
        timeout: 60_000,
      });
      return { code: ran.status, out: ran.stdout, err: ran.stderr };
    };
    const first = spawn('setpriv', [...words, 'sh', '-c', 'echo up; read line'], {
      cwd: at('own'),
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.after(() => first.kill('SIGKILL'));
    const told: string[] = [];
    first.stdout.on('data', (text) => told.push(String(text)));
    for (let i = 0; i < 1000 && told.length === 0; i++) await sleep(20);
    assert.equal(mountsBelow(at('own')).length, backend === 'fuse' ? 1 : 0);
    assert.equal(existsSync(at('own/p/.varve/up')), backend === 'fuse');
    const second = spawn(
      'setpriv',
      [...words, 'sh', '-c', 'pwd; cat "$WINEPREFIX/drive_c/windows/a"'],
      {
        cwd: at('own'),
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    t.after(() => second.kill('SIGKILL'));
    const seen: string[] = [];
    second.stdout.on('data', (text) => seen.push(String(text)));
    for (let i = 0; i < 1000 && !seen.join('').includes('base'); i++) await sleep(20);
    first.stdin.end('go\n');
    for (const child of [first, second]) {
      if (child.exitCode === null) await new Promise((done) => child.once('exit', done));
    }
    assert.equal(seen.join(''), `${at('own')}\nbase`);
    const ran = wine(
      ...['sh', '-c'],
      'cd "$WINEPREFIX/drive_c" && id -u && cat windows/a && echo >n && rm windows/b && ls . windows; grep CapEff /proc/self/status; pwd',
    );
    const expected = `${UID}\nbase.:\nn\nwindows\n\nwindows:\na\nCapEff:\t0000000000000000\n${at('own/p/drive_c')}\n`;
    assert.deepEqual(ran, { code: 0, out: expected, err: '' });
    assert.deepEqual(mountsBelow(at('own')), []);
    assert.equal(existsSync(at('own/p/.varve/session.json')), false);
    assert.equal(readFileSync(at('own/p/drive_c/n'), 'utf8'), '\n');
    assert.equal(readFileSync(at('base/drive_c/windows/b'), 'utf8'), 'base');
    // The other backend reads what this one has written: the whiteout among it.
    spawnSync('chown', ['-R', `${UID}:${UID}`, at('base')]);
    words[words.length - 1] = `--backend=${backend === 'fuse' ? 'kernel' : 'fuse'}`;
    const other = wine('sh', '-c', 'ls "$WINEPREFIX/drive_c/windows"');
    assert.deepEqual(other, { code: 0, out: 'a\n', err: '' });
  });
}

test('a killed holder of the namespace: the changes are there, the next session mends it', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  stubPrefix(at('base'), { 'windows/a': 'base' });
  const refused =
    'belongs to another user, and nothing in it could be changed: take --backend=fuse';
  for (const name of ['run', 'own']) {
    mkdirSync(at(name), { mode: 0o700 });
    chownSync(at(name), UID, UID);
  }
  const env = {
    ...process.env,
    VARVE_RUNTIME_DIR: at('run'),
    VARVE_WINE: stubWine(folder),
    HOME: at('own'),
    TMPDIR: at('own'),
    WINEPREFIX: at('own/p'),
    WINEPREFIX_OVERLAYS: at('base/drive_c'),
  };
  const wine = (...args: string[]): Ran => {
    const words = [...AS_USER, process.execPath, MAIN, 'wine', '--backend=kernel', ...args];
    const ran = spawnSync('setpriv', words, { cwd: at('own'), env, encoding: 'utf8' });
    return { code: ran.status, out: ran.stdout, err: ran.stderr };
  };
  assert.ok(wine('true').err.includes(refused));
  spawnSync('chown', ['-R', `${UID}:${UID}`, at('base')]);
  const kept = 'echo kept >"$WINEPREFIX/drive_c/k"';
  assert.equal(wine('--detach', '--linger=60', 'sh', '-c', kept).code, 0);
  const session = JSON.parse(readFileSync(at('own/p/.varve/session.json'), 'utf8')) as {
    holder: { pid: number };
  };
  process.kill(session.holder.pid, 'SIGKILL');
  while (existsSync(`/proc/${session.holder.pid}/exe`)) await sleep(20);
  const ran = wine('sh', '-c', 'cat "$WINEPREFIX/drive_c/k" "$WINEPREFIX/drive_c/windows/a"');
  assert.equal(ran.out, 'kept\nbase');
  assert.match(ran.err, /did not end by itself/);
});
