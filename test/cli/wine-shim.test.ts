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

/** A prefix over `base` whose last session has ended in good order; `asks` is its WINEPREFIX_OVERLAYS. */
function ready(p: Place): void {
  p.setup('--wine');
  const asks = { WINEPREFIX_OVERLAYS: p.at('base/drive_c') };
  const ran = p.varve(asks, ...['wine', '--backend=kernel', 'sh', '-c', 'echo own >"$0"', OWN]);
  assert.deepEqual(ran, { code: 0, out: '', err: '' });
  assert.ok(existsSync(p.at('p/.varve/ready')));
}

const OWN = 'p/drive_c/own';
const SHOW = 'cat "$WINEPREFIX/drive_c/own" "$WINEPREFIX/drive_c/windows/a"; exit 4';

/** Nothing is mounted, nothing is aside. */
function assertDown(p: Place): void {
  assert.equal(readFileSync(p.at(OWN), 'utf8'), 'own\n');
  for (const name of ['session.json', 'upper', 'up']) {
    assert.equal(existsSync(p.at(`p/.varve/${name}`)), false, name);
  }
}

test('where nothing has changed since the last session it mounts as that did, without node', {
  skip,
}, (t) => {
  const p = place(t);
  ready(p);
  const asks = { WINEPREFIX_OVERLAYS: p.at('base/drive_c') };
  // The keeper ends it, with the node of before, and makes the next start ready.
  const stamp = readFileSync(p.at('p/.varve/ready'), 'utf8');
  const set = p.shim('wine', ['set', 'name', 'newer'], { ...asks, VARVE_WINE_LINGER: '0' });
  assert.deepEqual(set, { code: 0, out: '', err: '' });
  const isNext = (): boolean => {
    const path = p.at('p/.varve/ready');
    return existsSync(path) && readFileSync(path, 'utf8') !== stamp;
  };
  for (let i = 0; i < 600 && !isNext(); i++) spawnSync('sleep', ['0.05']);
  assertDown(p);
  assert.match(readFileSync(p.at('p/.varve/registry.delta'), 'latin1'), /"name"="newer"/);
  // Who asks for nothing gets what was asked for last, not the other way round.
  for (const env of [asks, {}]) {
    const ran = p.shim('wine', ['sh', '-c', SHOW], { ...env, VARVE_WINE_LINGER: '60' });
    assert.deepEqual(ran, { code: 4, out: 'own\nbase', err: '' });
    assert.equal(p.varve({}, 'wine', '--detach', 'set', 'name', 'new').code, 0, 'it is a session');
    assert.equal(p.varve({}, 'wine', 'stop', p.at('p')).code, 0);
    assertDown(p);
    assert.match(readFileSync(p.at('p/.varve/registry.delta'), 'latin1'), /"name"="new"/);
  }
  // `varve wine run` as it is installed does the same, when nobody is to wait for the end.
  const command = ['wine', 'run', '--linger=60', p.at('p'), 'sh', '-c', SHOW];
  const other = { WINEPREFIX: p.at('plain'), WINEPREFIX_OVERLAYS: 'x' };
  assert.equal(p.shim('varve', command, other).code, 99);
  for (const state of ['started', 'joined']) {
    const ran = p.shim('varve', command.toSpliced(2, 0, '--detach'), other);
    assert.deepEqual(ran, { code: 4, out: 'own\nbase', err: '' }, state);
  }
  assert.equal(p.varve({}, 'wine', 'stop', p.at('p')).code, 0);
});

test('anything that is not as the last session left it is left to varve', { skip }, (t) => {
  const p = place(t);
  ready(p);
  const state = p.at('p/.varve');
  const { dev, ino } = lstatSync(p.at('p'));
  const server = `/tmp/.wine-0/server-${dev.toString(16)}-${ino.toString(16)}`;
  t.after(() => spawnSync('rm', ['-rf', server]));
  const layer = p.at('base/drive_c');
  const changes: Record<string, [doing: string, undoing: string]> = {
    'a registry file is another one': ['cp -a p/user.reg u; touch p/user.reg', 'mv u p/user.reg'],
    'its layers are others': [
      `cp -a ${state}/prefix.json r; sed -i s/base/plain/ ${state}/prefix.json`,
      `mv r ${state}/prefix.json`,
    ],
    'a layer has another registry': ['touch base/system.reg', ''],
    'a layer got a registry inside': [`mkdir ${layer}/.wine`, `rmdir ${layer}/.wine`],
    'a layer is another folder': ['mv base b; cp -a b base', 'rm -r base; mv b base'],
    'a session was cut off': [`echo >${state}/session.json`, `rm ${state}/session.json`],
    'a change was cut off': [`mkdir ${state}/registry.next`, `rmdir ${state}/registry.next`],
    'Wine runs without layers': [`mkdir -p ${server}; touch ${server}/socket`, `rm -r ${server}`],
    'it is a copy': ['mv p q; cp -a q p', 'rm -r p; mv q p'],
    'something is mounted there': ['mount --bind base p/drive_c', 'umount p/drive_c'],
  };
  const sh = (script: string): void => {
    assert.equal(spawnSync('sh', ['-c', script], { cwd: p.folder }).status, 0, script);
  };
  const env = { VARVE_WINE_LINGER: '60' };
  for (const [what, [doing, undoing]] of Object.entries(changes)) {
    sh(doing);
    assert.equal(p.shim('wine', ['true'], env).code, 99, what);
    if (undoing !== '') sh(undoing);
    assert.equal(p.varve({}, 'wine', '--backend=kernel', 'true').code, 0, what);
    assert.ok(existsSync(p.at('p/.varve/ready')), what);
  }
  for (const other of [
    { WINEPREFIX_OVERLAYS: p.at('plain/drive_c') },
    { WINEPREFIX_OVERLAYS: 'base/drive_c' },
    { VARVE_WINE_DIR: p.at('library') },
    { VARVE_WINE_LINGER: '5m' },
  ]) {
    assert.equal(p.shim('wine', ['true'], { ...env, ...other }).code, 99, JSON.stringify(other));
  }
  // Somebody is busy with it.
  const held = ['flock', `${state}/lock`, p.at('inst/bin/wine'), 'true'];
  const PATH = ['inst/bin', 'fake', 'stub/bin'].map(p.at).join(':');
  const busy = spawnSync(held[0] as string, held.slice(1), {
    env: {
      ...process.env,
      HOME: p.at('home'),
      WINEPREFIX: p.at('p'),
      PATH: `${PATH}:/usr/bin:/bin`,
    },
  });
  assert.equal(busy.status, 99);
  assertDown(p);
  assert.equal(p.shim('wine', ['sh', '-c', SHOW], env).code, 4, 'and now it is');
  assert.equal(p.varve({}, 'wine', 'stop', p.at('p')).code, 0);
});

test('cut off at each step of such a start, the prefix is mended by the next command', {
  skip,
}, (t) => {
  const p = place(t);
  ready(p);
  const fake = (name: string, text: string): void => {
    writeFileSync(p.at(`fake/${name}`), `#!/bin/sh\n${text}\n`);
    chmodSync(p.at(`fake/${name}`), 0o755);
  };
  const real = 'PATH=/usr/bin:/bin';
  for (const name of ['mv', 'mkdir', 'mount', 'setsid']) {
    for (const [when, text] of [
      ['before', 'kill -9 $PPID'],
      ['after', `${real} ${name} "$@"; kill -9 $PPID`],
    ] as const) {
      if (`${name} ${when}` === 'setsid after') continue;
      fake(name, text);
      const cut = p.shim('wine', ['sleep', '1'], { VARVE_WINE_LINGER: '60' });
      assert.equal(cut.code, null, `${name} ${when}`);
      spawnSync('rm', [p.at(`fake/${name}`)]);
      const next = p.varve({}, ...['wine', '--quiet', '--backend=kernel', 'sh', '-c', SHOW]);
      assert.deepEqual(next, { code: 4, out: 'own\nbase', err: '' }, `${name} ${when}`);
      assertDown(p);
      // That one may have ended the session which was cut off.
      assert.equal(p.varve({}, 'wine', '--backend=kernel', 'true').code, 0);
      assert.ok(existsSync(p.at('p/.varve/ready')));
    }
  }
  // What cannot be mounted is put back, and is varve's.
  fake('mount', 'exit 32');
  assert.equal(p.shim('wine', ['true']).code, 99);
  assertDown(p);
  assert.equal(existsSync(p.at('p/.varve/ready')), false);
});
