// `varve run`: the command's view of an image, how it ends, and that nothing of it is left, for root and for a plain user.
// Alone, for a new mount namespace holds copies of what other tests have mounted, and keeps their servers alive.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountReport } from '../../src/stack/status.js';
import { CONTENT, type SampleStore, sampleStore } from '../support/composefs.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { MAIN } from './cli.js';

const skip = requires({
  root: true,
  packages: ['busybox-static'],
  features: ['fuse', 'userns', 'plain-user', 'overlayfs'],
});
const skipRanges = requires({
  root: true,
  packages: ['uidmap'],
  features: ['fuse', 'userns', 'plain-user', 'overlayfs'],
});

const UID = 1000;

interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

interface Place extends SampleStore {
  at(path: string): string;
  /** `varve run --image sample --store STORE`, then these. */
  run(...args: string[]): Ran;
  start(...args: string[]): ChildProcess;
  /** Processes that have the folder in their command line or environment, by their arguments. */
  left(): string[];
}

/** @param root as root; else as a plain user, who owns the folder. */
function place(t: { after(fn: () => void): void }, root = false): Place {
  const folder = tempDir(t);
  const sample = sampleStore(folder);
  const at = (path: string): string => join(folder, path);
  for (const name of ['run', 'm', 'upper', 'work', 'out']) {
    mkdirSync(at(name), { mode: name === 'run' ? 0o700 : 0o755 });
    if (!root) chownSync(at(name), UID, UID);
  }
  const user = root ? [] : [`--reuid=${UID}`, `--regid=${UID}`, '--clear-groups'];
  const env = { ...process.env, VARVE_RUNTIME_DIR: at('run'), HOME: at('out'), TMPDIR: at('out') };
  // /dev/fuse as udev makes it, open to everybody, in a mount namespace of its own.
  const openFuse =
    'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && rm "$0" && exec setpriv "$@"';
  const words = (args: readonly string[]): string[] => [
    ...['--mount', 'sh', '-ec', openFuse, at('fuse'), ...user],
    ...[process.execPath, MAIN, 'run', '--image', 'sample', '--store', sample.store, ...args],
  ];
  return {
    ...sample,
    at,
    run(...args) {
      const options = { cwd: folder, env, encoding: 'utf8', timeout: 60_000 } as const;
      const { status, signal, stdout, stderr } = spawnSync('unshare', words(args), options);
      return { code: status, signal, out: stdout, err: stderr };
    },
    start: (...args) =>
      spawn('unshare', words(args), { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] }),
    left: () =>
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .filter((pid) => textOf(pid, 'environ').includes(`=${at('run')}\0`))
        .map((pid) => textOf(pid, 'cmdline').replaceAll('\0', ' ')),
  };
}

function textOf(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

function assertNothingLeft(p: Place): void {
  assert.deepEqual(p.left(), []);
  assert.deepEqual(readdirSync(p.at('run')), []);
}

for (const root of [false, true]) {
  const who = root ? 'root' : 'a plain user';
  test(`${who}: the tree, its owners and the exit code`, { skip }, (t) => {
    const p = place(t, root);
    const script = `
      diff -r --no-dereference ${root ? p.tree : '../../tree'} "$VARVE_MOUNT" >&2 || exit 1
      [ "$PWD" = "$VARVE_MOUNT" ] && [ "$(stat -c %u:%g text bin large | sort -u)" = 0:0 ] || exit 2
      bin/tool && id -u && ${process.execPath} ${MAIN} status --json . && exit 7`;
    const ran = p.run('--', 'sh', '-c', root ? script : script.replace('../../tree', p.tree));
    assert.equal(ran.code, 7, ran.err);
    assert.match(ran.err, /mode overlay: the command has a namespace of its own\n$/);
    const [id, ...json] = ran.out.split('\n');
    assert.equal(id, '0');
    const { mode, counters } = JSON.parse(json.join('\n')) as MountReport;
    assert.equal(mode, 'overlay');
    // The one small file that lies in the image; its content came with the lookup.
    assert.deepEqual([counters?.opcodes['OPEN'], counters?.opcodes['READ'] ?? 0], [1, 0]);
    assertNothingLeft(p);
  });

  test(`${who}: the modes kernel and follow`, { skip }, (t) => {
    const p = place(t, root);
    const cat = ['--', 'cat', 'text'];
    assert.equal(p.run('-q', '--mode=follow', ...cat).out, CONTENT.text);
    const kernel = p.run('-q', '--mode=kernel', ...cat);
    if (root) assert.equal(kernel.out, CONTENT.text);
    else assert.match(kernel.err, /^varve: mode=kernel: only root may/);
    assertNothingLeft(p);
  });
}

test('at a mount point that only the command sees; writable with an upper', { skip }, (t) => {
  const p = place(t);
  const options = `upperdir=${p.at('upper')},workdir=${p.at('work')}`;
  const write = 'echo more >> m/text && mv m/large m/moved && rm m/small && chmod 700 m/hard';
  const ran = p.run('-q', '-o', options, 'm', '--', 'sh', '-ec', write);
  assert.equal(ran.code, 0, ran.err);
  assert.deepEqual(readdirSync(p.at('m')), []);
  assert.equal(readFileSync(p.at('upper/text'), 'utf8'), `${CONTENT.text}more\n`);
  assert.deepEqual(readFileSync(p.at('upper/moved')), CONTENT.large);
  const again = p.run('-q', '-o', options, 'm', '--', 'sh', '-c', 'ls m; tail -n 1 m/text');
  assert.equal(again.out, 'bin\nempty\nhard\nlink\nmoved\ntext\nmore\n');
  assertNothingLeft(p);
});

test('chroot and bind', { skip }, (t) => {
  const p = place(t);
  writeFileSync(p.at('out/hello'), 'hello');
  mkdirSync(p.at('out/bin'));
  spawnSync('sh', ['-c', `cp "$(command -v busybox)" ${p.at('out/bin/busybox')}`]);
  const ran = p.run(
    ...[
      '-q',
      '--chroot',
      '--bind',
      `${p.at('out/bin')}:/bin`,
      '--bind',
      `${p.at('out/hello')}:small`,
    ],
    ...['--', '/bin/busybox', 'sh', '-c', 'busybox ls /; busybox cat /small; exit 3'],
  );
  assert.equal(ran.err, '');
  assert.equal(ran.out, 'bin\nempty\nhard\nlarge\nlink\nsmall\ntext\nhello');
  assert.equal(ran.code, 3, ran.err);
  const wrong = p.run('-q', '--bind', '/etc:/nowhere', '--', 'true');
  assert.match(wrong.err, /^varve: bind: \/etc at \/nowhere: ENOENT: .*\n$/);
  assert.equal(wrong.code, 3);
  assertNothingLeft(p);
});

test('a bind at a symlink of the mount stays in the mount', { skip }, (t) => {
  const p = place(t);
  writeFileSync(p.at('out/hello'), 'hello');
  // Absolute: outside of the mount there is no such file.
  symlinkSync('/small', p.at('upper/absolute'));
  const ran = p.run(
    ...['-q', '-o', `upperdir=${p.at('upper')},workdir=${p.at('work')}`],
    ...['--bind', `${p.at('out/hello')}:/absolute`, '--', 'cat', 'small'],
  );
  assert.equal(ran.err, '');
  assert.equal(ran.out, 'hello');
  assertNothingLeft(p);
});

for (const root of [false, true]) {
  const who = root ? 'root' : 'a plain user';
  test(`${who}: what lives in a namespace inside is ended as well`, { skip }, async (t) => {
    const p = place(t, root);
    const nested = 'unshare --user --map-root-user --mount sleep 1000 & echo ready; sleep 0.3';
    const ran = p.run('-q', '--', 'sh', '-c', `${nested}; exit 6`);
    assert.deepEqual([ran.code, ran.err], [6, '']);
    assertNothingLeft(p);
    const child = p.start('-q', '--', 'sh', '-c', `${nested}; echo nested; sleep 1001`);
    await said(child, 'nested');
    child.kill('SIGKILL');
    assert.deepEqual(await ended(child), [null, 'SIGKILL']);
    await nothingLeft(p);
  });
}

test('the command ends as it ends', { skip }, (t) => {
  const p = place(t);
  const ends: readonly [string, number | null, NodeJS.Signals | null][] = [
    ['exit 0', 0, null],
    ['exit 255', 255, null],
    ['kill -TERM $$', null, 'SIGTERM'],
    ['kill -KILL $$', null, 'SIGKILL'],
    ['kill -INT $$', null, 'SIGINT'],
    ['sleep 1000 & sleep 1001 & exit 4', 4, null],
  ];
  for (const [script, code, signal] of ends) {
    const ran = p.run('-q', '--', 'sh', '-c', script);
    assert.deepEqual([ran.code, ran.signal], [code, signal], `${script}: ${ran.err}`);
    assertNothingLeft(p);
  }
  assert.deepEqual(p.run('-q', '--', 'nonesuch').code, 127);
  assert.deepEqual(p.run('-q', '--', './text').code, 126);
  const twice = p.run('a', 'b', '--', 'true');
  assert.match(twice.err, /^varve: more than one mount point/);
  assert.match(p.run('true').err, /^varve: -- is missing/);
  assert.match(p.run('m', '--').err, /^varve: the command is missing/);
  assertNothingLeft(p);
});

test('signals go to the command', { skip }, async (t) => {
  const p = place(t);
  for (const signal of ['TERM', 'HUP', 'INT', 'USR1']) {
    const script = `trap 'exit 9' ${signal}; echo ready; while :; do sleep 0.05; done`;
    const child = p.start('-q', '--', 'sh', '-c', script);
    await said(child, 'ready');
    child.kill(`SIG${signal}` as NodeJS.Signals);
    assert.deepEqual(await ended(child), [9, null], signal);
    assertNothingLeft(p);
  }
});

test('killed itself, at any moment, it leaves nothing', { skip }, async (t) => {
  const p = place(t);
  const child = p.start('-q', '--', 'sh', '-c', 'sleep 1000 & echo ready; sleep 1001');
  await said(child, 'ready');
  assert.ok(p.left().length >= 4);
  child.kill('SIGKILL');
  assert.deepEqual(await ended(child), [null, 'SIGKILL']);
  await nothingLeft(p);
  for (let delay = 20; delay < 1000; delay *= 1.6) {
    const early = p.start('-q', '--', 'sleep', '1000');
    await sleep(delay);
    early.kill('SIGKILL');
    await ended(early);
    await nothingLeft(p);
  }
});

test('a server that is killed is replaced: the command goes on, and nothing is left', {
  skip,
}, (t) => {
  const p = place(t);
  const status = `${process.execPath} ${MAIN} status --json .`;
  const pid = `$(${status} | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')`;
  const ran = p.run(
    '-q',
    '--',
    'sh',
    '-c',
    `p=${pid}; kill -9 $p; ls -lR . >&2 && test ${pid} != $p && cd / && exit 5`,
  );
  assert.equal(ran.code, 5, ran.err);
  assert.doesNotMatch(ran.err, /varve:|ls:/);
  assert.match(ran.err, /text/);
  assertNothingLeft(p);
});

test('further ids of the user are those of the image', { skip: skipRanges }, (t) => {
  const p = place(t);
  const user = spawnSync('getent', ['passwd', String(UID)], { encoding: 'utf8' }).stdout;
  const name = user.split(':')[0] ?? '';
  const lines = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const known = new RegExp(`^(${name}|${UID}):`, 'm');
  const ranged =
    name !== '' && known.test(lines('/etc/subuid')) && known.test(lines('/etc/subgid'));
  const map = p.run('-q', '--', 'cat', '/proc/self/uid_map').out.trim().split('\n');
  assert.equal(map.length, ranged ? 2 : 1);
  assert.match(map[0] as string, new RegExp(`^ *0 +${UID} +1$`));
});

async function said(child: ChildProcess, word: string): Promise<void> {
  let text = '';
  for await (const chunk of child.stdout as NodeJS.ReadableStream) {
    text += chunk;
    if (text.includes(word)) return;
  }
  assert.fail(`it ended without "${word}"`);
}

function ended(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve([child.exitCode, child.signalCode]);
    } else child.once('exit', (code, signal) => resolve([code, signal]));
  });
}

async function nothingLeft(p: Place): Promise<void> {
  for (let i = 0; i < 2400 && p.left().length > 0; i++) await sleep(25);
  assertNothingLeft(p);
}
