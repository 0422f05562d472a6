// `varve wine PROGRAM`, `run` and `stop` as a person types them: layers, exit codes, what is left, several at once, crashes.
// With a Wine of shell scripts (test/wine/stub-wine.ts); real Wine is in test/wine and test/clients.
// Under test: src/cli/wine-*.ts, src/wine/prefix/{session,stop,standing,drive,keeper}.ts.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountsBelow } from '../support/mounts.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { stubPrefix, stubWine } from '../wine/stub-wine.js';
import { MAIN, type Ran } from './cli.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

interface Place {
  readonly folder: string;
  readonly prefix: string;
  readonly env: NodeJS.ProcessEnv;
  at(path: string): string;
  wine(...args: string[]): Ran;
  /** With further variables. */
  wineWith(env: NodeJS.ProcessEnv, ...args: string[]): Ran;
  start(...args: string[]): ChildProcess;
  isUp(): boolean;
}

/** A base with windows/a, a layer with b and its own a, and a prefix that is not there yet. */
function place(t: { after(fn: () => void): void }): Place {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  stubPrefix(at('base'), { 'windows/a': 'base', 'windows/c': 'base' });
  stubPrefix(at('layer'), { 'windows/a': 'layer', b: 'layer' });
  mkdirSync(at('run'), { mode: 0o700 });
  const prefix = at('p');
  const env = {
    ...process.env,
    VARVE_RUNTIME_DIR: at('run'),
    VARVE_SUPERVISOR_IDLE: '100',
    VARVE_WINE: stubWine(folder),
    VARVE_WINE_DIR: at('wine'),
    VARVE_WINE_LINGER: '0',
    HOME: at('home'),
    WINEPREFIX: prefix,
    WINEPREFIX_OVERLAYS: `layer/drive_c/::${at('base/drive_c')}:`,
  };
  const wineWith: Place['wineWith'] = (more, ...args) => {
    const ran = spawnSync(process.execPath, [MAIN, 'wine', ...args], {
      cwd: folder,
      env: { ...env, ...more },
      encoding: 'utf8',
      timeout: 60_000,
    });
    return { code: ran.status, out: ran.stdout, err: ran.stderr };
  };
  return {
    folder,
    prefix,
    env,
    at,
    wine: (...args) => wineWith({}, ...args),
    wineWith,
    start: (...args) =>
      spawn(process.execPath, [MAIN, 'wine', ...args], { cwd: folder, env, stdio: 'pipe' }),
    isUp: () => mountsBelow(prefix).length > 0,
  };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1500; i++) {
    if (condition()) return;
    await sleep(20);
  }
  throw new Error(`never: ${what}`);
}

const SHOW = 'cd "$WINEPREFIX/drive_c" && cat windows/a b windows/c && echo "$WINEPREFIX_OVERLAYS"';

function isAtRest({ prefix, at }: Place): void {
  assert.deepEqual(mountsBelow(prefix), []);
  assert.equal(existsSync(at('p/.varve/upper')), false);
  assert.equal(existsSync(at('p/.varve/session.json')), false);
  assert.equal(existsSync(at('p/.varve/up')), false);
}

for (const backend of ['kernel', 'fuse']) {
  test(`layers under a prefix that is made, and everything back at the end (${backend})`, {
    skip,
  }, (t) => {
    const p = place(t);
    const script = `${SHOW}; echo new >n; echo own >windows/a; rm b`;
    const ran = p.wine(`--backend=${backend}`, 'sh', '-c', script);
    assert.deepEqual(ran, { code: 0, out: 'layerlayerbase\n', err: '' });
    isAtRest(p);
    assert.equal(readFileSync(p.at('p/drive_c/n'), 'utf8'), 'new\n');
    assert.equal(readFileSync(p.at('p/drive_c/windows/a'), 'utf8'), 'own\n');
    assert.equal(readFileSync(p.at('layer/drive_c/windows/a'), 'utf8'), 'layer');
    assert.equal(existsSync(p.at('layer/drive_c/b')), true);
    // The layers are remembered, and what was changed is seen again, by the other backend too.
    const again = p.wineWith(
      { WINEPREFIX_OVERLAYS: '' },
      `--backend=${backend === 'fuse' ? 'kernel' : 'fuse'}`,
      ...['sh', '-c', 'cd "$WINEPREFIX/drive_c" && cat windows/a n windows/c && ls'],
    );
    assert.equal(again.out, 'own\nnew\nbasen\nwindows\n');
    isAtRest(p);
  });
}

test('the registry is merged before, and what Wine changed is kept afterwards', { skip }, (t) => {
  const p = place(t);
  assert.equal(p.wine('set', 'one', 'first').code, 0);
  assert.match(readFileSync(p.at('p/system.reg'), 'utf8'), /"name"="base"[\s\S]*"one"="first"/);
  assert.match(readFileSync(p.at('p/.varve/registry.delta'), 'utf8'), /first/);
  assert.doesNotMatch(readFileSync(p.at('p/.varve/registry.delta'), 'utf8'), /"base"/);
  assert.doesNotMatch(readFileSync(p.at('base/system.reg'), 'utf8'), /first/);
});

test('what stands behind the program is its own, and so is its exit code', { skip }, (t) => {
  const p = place(t);
  const ran = p.wine('-q', 'sh', '-c', 'echo "$@"; exit 7', 'sh', '-q', '--help', '--', '--detach');
  assert.deepEqual(ran, { code: 7, out: '-q --help -- --detach\n', err: '' });
  const detached = p.wine('-d', 'sh', '-c', 'echo "$@"; exit 9', 'sh', '--wine', 'x');
  assert.equal(detached.code, 9);
  assert.equal(detached.out, '--wine x\n');
  assert.equal(p.wine('sh', '-c', 'kill -TERM $$').code, 128 + 15);
});

test('input, folder and SIGPIPE of a program are as they would be without varve', {
  skip,
}, async (t) => {
  const p = place(t);
  for (const flags of [[], ['--detach']]) {
    const ran = spawnSync(
      process.execPath,
      [MAIN, 'wine', ...flags, 'sh', '-c', 'cat; pwd; grep SigIgn /proc/self/status'],
      { cwd: p.folder, env: p.env, encoding: 'utf8', input: 'typed\n' },
    );
    assert.match(ran.stdout, new RegExp(`^typed\\n${p.folder}\\nSigIgn:\\s0*\\n$`));
  }
  await until(() => !p.isUp(), 'unmounted');
});

test('what cannot be done: 125 with a line, 127 for what is not there', { skip }, (t) => {
  const p = place(t);
  const missing = p.wineWith({ WINEPREFIX_OVERLAYS: '/nowhere' }, 'sh', '-c', 'true');
  assert.equal(missing.code, 125);
  assert.match(missing.err, /^varve: layer \/nowhere: .*no such file or directory.*\n$/);
  assert.equal(existsSync(p.at('p/.varve/session.json')), false);
  const own = p.wineWith({ WINEPREFIX_OVERLAYS: 'p/drive_c' }, 'sh');
  assert.match(own.err, /^varve: layer .*no such file|^varve: layer .*is the prefix's own drive_c/);
  writeFileSync(p.at('file'), '');
  const file = p.wineWith({ WINEPREFIX: p.at('file') }, 'sh');
  assert.equal(file.code, 125);
  assert.match(file.err, /^varve: .*file: cannot be a prefix: .*\n$/);
  const wine = p.wineWith({ VARVE_WINE: '/nowhere/wine' }, 'sh');
  assert.equal(wine.code, 125);
  assert.match(wine.err, /no such Wine/);
  const host = p.wine('--host', 'no-such-program');
  assert.equal(host.code, 127);
  assert.match(host.err, /no-such-program: not found/);
  const backend = p.wine('--backend=zfs', 'sh');
  assert.equal(backend.code, 125);
  assert.equal(p.wine('run', 'nobody', 'sh').code, 125);
  assert.equal(p.wine('stop', 'nobody').code, 6);
  isAtRest(p);
});

test('a prefix without layers is plain Wine', { skip }, (t) => {
  const p = place(t);
  stubPrefix(p.at('plain'), { 'windows/a': 'plain' });
  const plain = { WINEPREFIX: p.at('plain'), WINEPREFIX_OVERLAYS: '' };
  const ran = p.wineWith(plain, 'sh', '-c', 'cat "$WINEPREFIX/drive_c/windows/a"; exit 3');
  assert.deepEqual(ran, { code: 3, out: 'plain', err: '' });
  assert.equal(existsSync(p.at('plain/.varve')), false);
});

test('a program of this machine runs in the session with --host', { skip }, (t) => {
  const p = place(t);
  const ran = p.wine('--host', 'sh', '-c', 'cat "$WINEPREFIX/drive_c/b"; cat /proc/$PPID/comm');
  assert.equal(ran.out, 'layernode\n');
  isAtRest(p);
});

test('several at once share the mount; it goes with the last one', { skip }, async (t) => {
  const p = place(t);
  const first = p.start('sh', '-c', 'echo up; read line; echo "$line"');
  t.after(() => first.kill('SIGKILL'));
  const told: string[] = [];
  first.stdout?.on('data', (text) => told.push(String(text)));
  await until(() => told.length > 0, 'the first runs');
  const { dev } = statSync(p.at('p/drive_c'));
  const second = p.start(
    'sh',
    '-c',
    'stat -c %d "$WINEPREFIX/drive_c"; echo >"$WINEPREFIX/drive_c/second"',
  );
  const seen: string[] = [];
  second.stdout?.on('data', (text) => seen.push(String(text)));
  await until(() => seen.length > 0, 'the second runs');
  assert.equal(seen.join('').trim(), String(dev));
  const other = p.wineWith({ WINEPREFIX_OVERLAYS: p.at('base/drive_c') }, 'sh');
  assert.equal(other.code, 125);
  assert.match(other.err, /Wine runs in it with other layers/);
  assert.equal(p.wine('stop', '--timeout=0', p.prefix).code, 5);
  assert.equal(p.isUp(), true);
  first.stdin?.end('done\n');
  await Promise.all(
    [first, second].map((c) => c.exitCode ?? new Promise((r) => c.once('exit', r))),
  );
  assert.equal(told.join(''), 'up\ndone\n');
  isAtRest(p);
  assert.equal(existsSync(p.at('p/drive_c/second')), true);
});

test('whoever is told to go on does not wait for Wine; the keeper ends the session', {
  skip,
}, async (t) => {
  const p = place(t);
  const child = spawn(process.execPath, [MAIN, 'wine', 'sh', '-c', 'true'], {
    cwd: p.folder,
    env: { ...p.env, STUB_LINGER: '2.5' },
    stdio: 'pipe',
  });
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  await until(() => said.includes('waiting for Wine to end in'), 'the message');
  child.kill('SIGINT');
  const code = await new Promise((done) => child.once('exit', done));
  assert.equal(code, 0);
  assert.equal(p.isUp(), true);
  await until(() => !existsSync(p.at('p/.varve/session.json')), 'the keeper has stopped it');
  isAtRest(p);
});

test('--detach: the keeper takes it down, and keeps what the registry got', { skip }, async (t) => {
  const p = place(t);
  assert.equal(p.wine('--detach', 'set', 'two', 'second').code, 0);
  await until(() => !existsSync(p.at('p/.varve/session.json')), 'the keeper has stopped it');
  isAtRest(p);
  assert.match(readFileSync(p.at('p/.varve/registry.delta'), 'utf8'), /second/);
  assert.equal(readFileSync(p.at('p/.varve/log'), 'utf8'), '');
});

test('--kill ends the programs', { skip }, async (t) => {
  const p = place(t);
  const env = { STUB_LINGER: '60' };
  assert.equal(p.wineWith(env, '--detach', '--linger=0', 'true').code, 0);
  const { code, out } = p.wine('stop', '--kill', '--json', p.prefix);
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(out), [{ prefix: p.prefix, outcome: 'stopped' }]);
  isAtRest(p);
  assert.match(p.wine('stop', p.prefix).err, /already down/);
});

test('a program that stays in drive_c keeps the mount, and is named', { skip }, async (t) => {
  const p = place(t);
  assert.equal(p.wine('--detach', '--linger=60', 'true').code, 0);
  const child = spawn('sleep', ['60'], { cwd: p.at('p/drive_c/windows'), stdio: 'ignore' });
  t.after(() => child.kill());
  const stopped = p.wine('stop', '--timeout=1', p.prefix);
  assert.equal(stopped.code, 5);
  assert.match(stopped.err, new RegExp(`nothing is open in .*/drive_c: sleep \\(${child.pid}\\)`));
  assert.equal(readFileSync(p.at('p/drive_c/b'), 'utf8'), 'layer');
  child.kill();
  assert.equal(p.wine('stop', p.prefix).code, 0);
  isAtRest(p);
});

for (const backend of ['kernel', 'fuse']) {
  test(`varve is killed: the mount stays, the next session goes on with it (${backend})`, {
    skip,
  }, async (t) => {
    const p = place(t);
    const child = p.start(
      `--backend=${backend}`,
      'sh',
      '-c',
      'echo $$; echo kept >"$WINEPREFIX/drive_c/k"; exec sleep 60',
    );
    let pid = 0;
    child.stdout?.on('data', (text) => (pid = Number(text)));
    const isWritten = (): boolean =>
      existsSync(p.at('p/drive_c/k')) && readFileSync(p.at('p/drive_c/k'), 'utf8') !== '';
    await until(() => pid > 0 && isWritten(), 'it runs');
    child.kill('SIGKILL');
    await new Promise((done) => child.once('exit', done));
    assert.equal(p.isUp(), true);
    process.kill(pid, 'SIGKILL');
    assert.equal(p.wine('sh', '-c', 'cat "$WINEPREFIX/drive_c/k"').out, 'kept\n');
    isAtRest(p);
  });

  test(`everything is gone but the disk: the next session mends it (${backend})`, {
    skip,
  }, async (t) => {
    const p = place(t);
    const script = 'echo kept >"$WINEPREFIX/drive_c/k"';
    assert.equal(
      p.wine('--detach', `--backend=${backend}`, '--linger=60', 'sh', '-c', script).code,
      0,
    );
    assert.equal(p.wine('set', 'three', 'third').code, 0, 'joins, and stops');
    assert.equal(
      p.wine('--detach', `--backend=${backend}`, '--linger=60', 'set', 'four', 'fourth').code,
      0,
    );
    await until(() => /fourth/.test(readFileSync(p.at('p/system.reg'), 'utf8')), 'written');
    await killEverything(p);
    const ran = p.wine('cat', p.at('p/drive_c/k'));
    assert.equal(ran.out, 'kept\n');
    assert.match(ran.err, /the last session did not end by itself/);
    isAtRest(p);
    assert.match(
      readFileSync(p.at('p/.varve/registry.delta'), 'utf8'),
      /third[\s\S]*fourth|fourth[\s\S]*third/,
    );
  });
}

/** Varve's processes of a place, as their command lines, by process id. */
function processesOf(p: Place): Map<number, string> {
  const found = new Map<number, string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      if (!environment.includes(`VARVE_RUNTIME_DIR=${p.at('run')}`)) continue;
      found.set(Number(pid), readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    } catch {
      // Ended.
    }
  }
  return found;
}

test('a server that was started before it was known what to mount ends when that is nothing', {
  skip,
}, async (t) => {
  const p = place(t);
  // The supervisor outlives the command, so that the server has to go by itself.
  p.env['VARVE_SUPERVISOR_IDLE'] = '60000';
  t.after(() => killEverything(p));
  const names = (): string[] =>
    [...processesOf(p).values()].flatMap((line) => /(\w+)\.js/.exec(line)?.[1] ?? []);
  const failed = p.wineWith({ WINEPREFIX_OVERLAYS: p.at('gone') }, '--backend=fuse', 'true');
  assert.equal(failed.code, 125);
  await until(() => names().join() === 'supervisor', 'only the supervisor is left');
  // The next one is served.
  const ran = p.wine('--backend=fuse', 'sh', '-c', SHOW);
  assert.deepEqual(ran, { code: 0, out: 'layerlayerbase\n', err: '' });
  isAtRest(p);
});

/** Servers, supervisor and keeper die at once; kernel mounts go as well. */
async function killEverything(p: Place): Promise<void> {
  for (const pid of processesOf(p).keys()) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Ended.
    }
  }
  for (const { target, fstype } of mountsBelow(p.prefix)) {
    if (fstype === 'overlay') spawnSync('umount', [target]);
  }
  // A process that ends has its descriptors, and their locks, for a moment more.
  await until(() => processesOf(p).size === 0, 'everything has ended');
}

test('cut off at every step, a prefix is mended by the next command', { skip }, (t) => {
  const p = place(t);
  assert.equal(p.wine('sh', '-c', 'echo kept >"$WINEPREFIX/drive_c/k"').code, 0);
  const session = JSON.stringify({
    version: 1,
    backend: 'kernel',
    layers: [],
    wineserver: join(p.env['VARVE_WINE'] as string, 'bin/wineserver'),
    env: {},
  });
  const steps: Record<string, string> = {
    'the session is written': 'true',
    'the changes are aside': 'mv p/drive_c p/.varve/upper',
    'the mount point is made':
      'mv p/drive_c p/.varve/upper && mkdir -m 700 p/drive_c && touch p/.varve/up',
    'something was written beside the mount':
      'mv p/drive_c p/.varve/upper && mkdir p/drive_c && echo lost >p/drive_c/f',
    'the changes are back': 'touch p/.varve/up',
  };
  for (const [step, script] of Object.entries(steps)) {
    writeFileSync(p.at('p/.varve/session.json'), session);
    assert.equal(spawnSync('sh', ['-c', script], { cwd: p.folder }).status, 0);
    const stopped = p.wine('stop', p.prefix);
    assert.equal(stopped.code, 0, `${step}: ${stopped.err}`);
    isAtRest(p);
    assert.equal(readFileSync(p.at('p/drive_c/k'), 'utf8'), 'kept\n', step);
  }
  assert.equal(readFileSync(p.at('p/.varve/found-1/f'), 'utf8'), 'lost\n');
  assert.deepEqual(readdirSync(p.at('p/drive_c')), ['k']);
});

test('a drive_c that leads elsewhere, or is mounted by hand, is refused and left alone', {
  skip,
}, (t) => {
  const p = place(t);
  const write = ['sh', '-c', 'echo bad >"$WINEPREFIX/drive_c/bad"'];
  mkdirSync(p.prefix);
  symlinkSync(p.at('base/drive_c'), p.at('p/drive_c'));
  const linked = p.wine(...write);
  assert.equal(linked.code, 125);
  assert.match(linked.err, /drive_c: is no folder but a symlink: put a folder in its place/);
  assert.equal(existsSync(p.at('base/drive_c/bad')), false);
  rmSync(p.at('p/drive_c'));

  mkdirSync(p.at('p/drive_c'));
  mkdirSync(p.at('disk'));
  writeFileSync(p.at('disk/precious'), '');
  assert.equal(spawnSync('mount', ['--bind', p.at('disk'), p.at('p/drive_c')]).status, 0);
  t.after(() => spawnSync('umount', [p.at('p/drive_c')]));
  const mounted = p.wine(...write);
  assert.equal(mounted.code, 125);
  assert.match(mounted.err, /drive_c: .* is mounted there \(\w+\), and not by a session/);
  assert.deepEqual(readdirSync(p.at('p/drive_c')), ['precious']);
});

test('a copy of the base made of hard links writes to files of its own', { skip }, (t) => {
  const p = place(t);
  writeFileSync(p.at('base/drive_c/windows/twice'), 'two names');
  linkSync(p.at('base/drive_c/windows/twice'), p.at('base/drive_c/again'));
  assert.equal(spawnSync('cp', ['-al', p.at('base'), p.prefix]).status, 0);
  const ran = p.wine('sh', '-c', 'cd "$WINEPREFIX/drive_c" && echo x | tee -a windows/a >>again');
  assert.equal(ran.code, 0);
  assert.match(ran.err, /had files in common with another folder: they are copied/);
  assert.equal(readFileSync(p.at('base/drive_c/windows/a'), 'utf8'), 'base');
  assert.equal(readFileSync(p.at('base/drive_c/again'), 'utf8'), 'two names');
  assert.equal(readFileSync(p.at('p/drive_c/windows/a'), 'utf8'), 'basex\n');
  assert.equal(p.wine('true').err, '');
});
