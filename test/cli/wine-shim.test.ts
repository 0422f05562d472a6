// The shims of `varve setup --wine`: the real program at once where no layers are asked for or these are mounted already, else varve.
// Under test: bin/wine-shim, src/cli/{setup,wine-shims,wine-main}.ts. A `node` on PATH that only prints proves what needs none.
// With a Wine of shell scripts (test/wine/stub-wine.ts).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { stubPrefix, stubWine } from '../wine/stub-wine.js';
import { MAIN, type Ran } from './cli.js';

const skip = requires({ root: true, features: ['overlayfs'] });

interface Place {
  readonly folder: string;
  at(path: string): string;
  /** A shim by its name; `node` prints its arguments and ends with 99. */
  shim(name: string, args: readonly string[], env?: NodeJS.ProcessEnv): Ran;
  setup(...args: string[]): Ran;
  varve(env: NodeJS.ProcessEnv, ...args: string[]): Ran;
}

function place(t: { after(fn: () => void): void }): Place {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  const build = stubWine(folder);
  stubPrefix(at('base'), { 'windows/a': 'base' });
  stubPrefix(at('plain'), { 'windows/a': 'plain' });
  for (const name of ['fake', 'run', 'home']) mkdirSync(at(name), { mode: 0o700 });
  writeFileSync(at('fake/node'), '#!/bin/sh\necho "node $*"\nexit 99\n');
  writeFileSync(at('fake/msiexec.exe'), '#!/bin/sh\necho "installs $*"\n');
  for (const name of readdirSync(at('fake'))) chmodSync(at(`fake/${name}`), 0o755);
  const common = {
    ...process.env,
    VARVE_RUNTIME_DIR: at('run'),
    HOME: at('home'),
    WINEPREFIX: at('p'),
  };
  const run = (program: string, args: readonly string[], env: NodeJS.ProcessEnv): Ran => {
    const ran = spawnSync(program, args, { cwd: folder, env, encoding: 'utf8', timeout: 60_000 });
    return { code: ran.status, out: ran.stdout, err: ran.stderr };
  };
  const varve: Place['varve'] = (env, ...args) =>
    run(process.execPath, [MAIN, ...args], { ...common, ...env });
  const PATH = ['inst/bin', 'fake', 'stub/bin'].map(at).join(':');
  return {
    folder,
    at,
    varve: (env, ...args) => varve({ VARVE_WINE: build, ...env }, ...args),
    setup: (...args) => varve({}, 'setup', '--prefix', at('inst'), ...args),
    shim: (name, args, env = {}) =>
      run(at(`inst/bin/${name}`), args, { ...common, PATH: `${PATH}:/usr/bin:/bin`, ...env }),
  };
}

test('setup --wine links the shims, and takes them away again', { skip }, (t) => {
  const p = place(t);
  assert.equal(p.setup('--wine').code, 0);
  assert.equal(lstatSync(p.at('inst/bin/winecfg')).isSymbolicLink(), true);
  assert.equal(p.setup('--wine=stub').code, 0);
  assert.match(readFileSync(p.at('inst/bin/winecfg'), 'utf8'), /VARVE_WINE:=.*\/stub}/);
  const ran = p.shim('wine', ['sh', '-c', 'echo "$VARVE_WINE"'], { WINEPREFIX: p.at('plain') });
  assert.equal(ran.out, `${p.at('stub')}\n`);
  assert.equal(p.setup('--wine=/nowhere').code, 6);
  assert.equal(p.setup('--wine', '--uninstall').code, 0);
  assert.equal(existsSync(p.at('inst/bin/winecfg')), false);
  writeFileSync(p.at('inst/bin/wine'), 'mine');
  assert.equal(p.setup('--wine').code, 5);
  assert.equal(readFileSync(p.at('inst/bin/wine'), 'utf8'), 'mine');
});

test('without layers a shim becomes the real program at once', { skip }, (t) => {
  const p = place(t);
  p.setup('--wine');
  const plain = { WINEPREFIX: p.at('plain') };
  const script = 'cat "$WINEPREFIX/drive_c/windows/a"; echo "$@"; exit 3';
  const ran = p.shim('wine', ['sh', '-c', script, 'sh', '-x', 'a b'], plain);
  assert.deepEqual(ran, { code: 3, out: 'plain-x a b\n', err: '' });
  const installed = p.shim('msiexec', ['/i', 'x y.msi'], plain);
  assert.equal(installed.out, 'installs /i x y.msi\n');
  const named = p.shim('wine64', ['sh', '-c', 'echo loader'], {
    ...plain,
    VARVE_WINE: p.at('stub/bin/wine'),
  });
  assert.equal(named.out, 'loader\n');
  const none = p.shim('wine', ['sh'], { ...plain, PATH: `${p.at('inst/bin')}:/usr/sbin` });
  assert.equal(none.code, 127);
  assert.match(none.err, /^wine: not found on PATH beside varve's shim/);
});

test('two installations of the shims do not call each other', { skip }, (t) => {
  const p = place(t);
  p.setup('--wine');
  mkdirSync(p.at('other'));
  writeFileSync(p.at('other/wine'), readFileSync(join(dirname(MAIN), '../../../bin/wine-shim')));
  chmodSync(p.at('other/wine'), 0o755);
  symlinkSync(p.at('other/wine'), p.at('other/wine64'));
  const PATH = ['inst/bin', 'other', 'stub/bin'].map(p.at).join(':');
  const env = { WINEPREFIX: p.at('plain'), PATH: `${PATH}:/usr/bin:/bin` };
  assert.equal(p.shim('wine', ['sh', '-c', 'echo once'], env).out, 'once\n');
});

test('with layers that are not mounted it is varve that runs', { skip }, (t) => {
  const p = place(t);
  p.setup('--wine');
  const env = { WINEPREFIX_OVERLAYS: p.at('base/drive_c') };
  const asked = p.shim('winecfg', ['-v', 'x'], env);
  assert.equal(asked.code, 99);
  assert.match(asked.out, /^node \/.*\/wine\.js --detach winecfg\.exe -v x\n$/);
  assert.match(p.shim('wineserver', ['-p'], env).out, /--detach wineserver -p\n$/);
  assert.match(
    p.shim('wine64', ['a.exe'], env).out,
    /--detach --wine=\/.*\/stub\/bin\/wine a\.exe\n$/,
  );
  // What only asks for a server, or for nothing, needs no layers.
  assert.deepEqual(p.shim('wineserver', ['-w'], { ...env, WINEPREFIX: p.at('plain') }).out, '');
  writeFileSync(p.at('fake/winetricks'), '#!/bin/sh\n');
  chmodSync(p.at('fake/winetricks'), 0o755);
  assert.match(
    p.shim('winetricks', ['-q'], env).out,
    /--detach --host \/.*\/fake\/winetricks -q\n$/,
  );
});

test('with layers that are mounted it takes the lock and becomes the real program', {
  skip,
}, (t) => {
  const p = place(t);
  p.setup('--wine');
  const base = p.at('base/drive_c');
  const started = p.varve(
    { WINEPREFIX_OVERLAYS: base },
    ...['wine', '--detach', '--backend=kernel', '--linger=60', 'true'],
  );
  assert.equal(started.code, 0);
  const tried =
    'cat "$WINEPREFIX/drive_c/windows/a"; flock -xn "$WINEPREFIX/.varve/session" echo free; echo "$WINEPREFIX_OVERLAYS"; exit 4';
  const joined = p.shim('wine', ['sh', '-c', tried], { WINEPREFIX_OVERLAYS: base });
  assert.deepEqual(joined, { code: 4, out: 'base\n', err: '' });
  assert.equal(p.shim('wine', ['sh', '-c', tried]).code, 4);
  for (const other of [`${base}:${p.at('plain/drive_c')}`, 'base/drive_c']) {
    const asked = p.shim('wine', ['true'], { WINEPREFIX_OVERLAYS: other });
    assert.equal(asked.code, 99, other);
  }
  assert.equal(spawnSync('umount', [p.at('p/drive_c')]).status, 0);
  assert.equal(p.shim('wine', ['true']).code, 99, 'the mount is gone');
  assert.equal(p.varve({}, 'wine', 'stop', p.at('p')).code, 0);
});
