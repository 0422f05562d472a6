// A lower is detached from a mount in use: from an XFS that is shut down and unmounted afterwards, from random stacks, while
// things go on and processes are killed, and where there is no space for it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  awaitDetach,
  beginDetach,
  cancelDetach,
  lowerOf,
} from '../../src/ops/detach/detach-lower.js';
import { dir, file, makeTree, type Tree, whiteout } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, mapShared, must, O, stat, sys } from '../support/sys.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { detachCase } from './detach-random.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'resend', 'overlayfs'] });
const xfs = requires({
  root: true,
  features: ['fuse', 'resend', 'overlayfs', 'xfs', 'loop'],
  packages: ['xfsprogs'],
});

async function detach(made: Stack, which: string): Promise<void> {
  const lower = await lowerOf(made.mnt, which);
  await beginDetach(lower);
  await awaitDetach(lower, () => {});
  made.serverChanged();
}

/** A stack without what it shows that may change: link counts of directories are left out already. */
const linesOf = (made: Stack): Map<string, string> =>
  new Map([...made.tree().lines].map(([path, line]) => [path, line.replace(/ atime=\S+/, '')]));

const old = [1_200_000_000, 5] as const;

/** What hides, merges, joins and leads elsewhere. */
const UPPERMOST: Tree = {
  only: dir({ mode: 0o2751, uid: 3, mtime: old, xattrs: { 'user.d': 'x' } }),
  'only/deep/er/file': file('deep', { mtime: old }),
  'only/empty': dir({ mtime: old }),
  big: file(Buffer.alloc(6 << 20, 'b'), { mtime: old }),
  sparse: file('s', { size: 40 << 20 }),
  'm/mine': file('mine', { mode: 0o4755, uid: 7, gid: 8, xattrs: { 'user.k': 'v' } }),
  'm/over': file('upper one'),
  'm/gone': whiteout,
  hard1: file('links'),
  hard2: { type: 'link', data: 'hard1' },
  'm/hard3': { type: 'link', data: 'hard1' },
  s: { type: 'symlink', data: 'only/deep' },
  p: { type: 'fifo', mode: 0o640 },
  opaque: dir({ xattrs: { 'trusted.overlay.opaque': 'y' } }),
  'opaque/seen': file('seen'),
  moved: dir({ xattrs: { 'trusted.overlay.redirect': '/from' } }),
  from: whiteout,
  later: file('changed through the mount'),
  unlinked: file('unlinked'),
  meta: file('metadata above, data here'),
};
const LOWEST: Tree = {
  'm/over': file('lower one'),
  'm/gone': file('hidden'),
  'm/below': file('below'),
  'opaque/hidden': file('hidden'),
  'from/redirected': file('by a redirect'),
  'from/sub/more': file('more'),
  'base/untouched': file('untouched'),
};

test('an XFS is shut down and unmounted under a mount in use', { skip: xfs }, async (t) => {
  const base = makeTempDir();
  t.after(() => removeTempDir(base));
  const disk = join(base, 'xfs');
  mkdirSync(disk);
  run('truncate', ['-s', '300M', `${base}/image`]);
  run('mkfs.xfs', ['-q', '-K', `${base}/image`]);
  run('mount', ['-o', 'loop', `${base}/image`, disk]);
  const lower = join(disk, 'lower');
  mkdirSync(lower);
  makeTree(lower, UPPERMOST);
  const made = await stack(t, { lowers: [{}, LOWEST], unmounted: true, options: 'metacopy=on' });
  made.place(lower, join(made.base, 'l1'));
  await made.mount();
  // In use, each in its way.
  const reader = made.open('only/deep/er/file', O.RDONLY);
  const gone = made.open('unlinked', O.RDONLY);
  const path = made.open('m/mine', O.PATH);
  const mapped = made.open('big', O.RDONLY);
  const mapping = mapShared(mapped, 8192, false);
  assert.ok(typeof mapping !== 'number');
  const folder = made.open('only/empty', O.DIRECTORY);
  made.at((root) => {
    must(sys.unlink(root, 'unlinked'));
    must(sys.chmod(root, 'meta', 0o600));
    must(sys.rename(root, 'only/deep', 'm/deeper'));
  });
  const child = spawn('sleep', ['60'], { cwd: made.path('m/deeper/er'), stdio: 'ignore' });
  t.after(() => child.kill());
  const numbers = [reader, gone, path, mapped, folder].map((fd) => numberOf(fd));
  const before = linesOf(made);
  const rootNumbers = numbersIn(made);

  await detach(made, '1');
  run('xfs_io', ['-x', '-c', 'shutdown', disk]);
  run('umount', [disk]);

  assert.deepEqual(linesOf(made), before);
  assert.deepEqual(numbersIn(made), rootNumbers);
  assert.deepEqual(
    [reader, gone, path, mapped, folder].map((fd) => numberOf(fd)),
    numbers,
  );
  assert.equal(bytesOf(reader), 'deep');
  assert.equal(bytesOf(gone), 'unlinked');
  assert.equal(String.fromCharCode(...mapping.bytes.subarray(4096, 4100)), 'bbbb');
  mapping.unmap();
  assert.equal(run('sh', ['-c', `cat /proc/${child.pid}/cwd/file`]), 'deep');
  made.write('later', 'written afterwards');
  must(sys.mkdir(folder, 'inside', 0o755));
  for (const fd of [reader, gone, path, mapped, folder]) sys.close(fd);
  child.kill();
  await sleep(50);

  made.place(join(made.base, 'l1'));
  const after = numbersIn(made);
  await made.sameToKernel('redirect_dir=on,index=on,metacopy=on');
  await made.mount();
  assert.deepEqual(numbersIn(made), after);
  assert.equal(made.read('moved/redirected'), 'by a redirect');
  assert.equal(made.read('later'), 'written afterwards');
});

function numberOf(fd: number): bigint {
  const st = stat(fd, '');
  assert.ok(typeof st !== 'number');
  return st.ino;
}

function bytesOf(fd: number): string {
  const bytes = sys.pread(fd, 100, 0);
  assert.ok(typeof bytes !== 'number');
  return bytes.toString();
}

/** st_ino of every object by its path. */
function numbersIn(made: Stack): Map<string, bigint> {
  return made.at((root) => {
    const paths = [...made.tree().lines.keys()].filter((path) => path !== '');
    return new Map(
      paths.map((path) => {
        const st = stat(root, path, AT.SYMLINK_NOFOLLOW);
        assert.ok(typeof st !== 'number', path);
        return [path, st.ino];
      }),
    );
  });
}

for (const [seed, before, meanwhile, options, disk] of [
  [3, 0, 0, '', false],
  [104, 40, 0, '', false],
  [205, 40, 0, 'metacopy=on', false],
  [301, 20, 80, 'metacopy=on', true],
] as const) {
  test(`a random lower of random stack ${seed}`, { skip }, async (t) => {
    await detachCase(t, { seed, before, meanwhile, options, disk });
  });
}

/** Enough that a kill meets it: copies are synced one by one. */
function manyFiles(): Tree {
  const tree: Record<string, ReturnType<typeof file>> = {};
  for (let i = 0; i < 150; i++) tree[`d${i % 8}/f${i}`] = file(`file ${i}`, { mtime: old });
  return tree;
}

test('servers are killed while the lower is copied', { skip }, async (t) => {
  const made = await stack(t, { lowers: [manyFiles(), LOWEST], disk: true });
  const before = linesOf(made);
  const numbers = numbersIn(made);
  const lower = await lowerOf(made.mnt, '1');
  await beginDetach(lower);
  let over = false;
  const end = awaitDetach(lower, () => {}).finally(() => {
    over = true;
  });
  let kills = 0;
  while (!over && kills < 4) {
    await sleep(20 + 20 * kills);
    if (over) break;
    made.kill();
    kills++;
  }
  await end;
  made.serverChanged();
  assert.ok(kills > 0);
  rmSync(join(made.base, 'l0'), { recursive: true });
  assert.deepEqual(linesOf(made), before);
  assert.deepEqual(numbersIn(made), numbers);
  made.place(join(made.base, 'l1'));
  await made.sameToKernel();
});

test('all processes are killed while the lower is copied', { skip }, async (t) => {
  const made = await stack(t, { lowers: [manyFiles(), LOWEST], disk: true });
  const before = linesOf(made);
  await beginDetach(await lowerOf(made.mnt, '1'));
  await sleep(60);
  const server = made.serverNow();
  for (const pid of [made.supervisor, server]) process.kill(pid, 'SIGKILL');
  run('umount', ['-l', made.mnt]);
  made.forgotten();
  assert.ok(existsSync(join(made.base, 'l0/d0/f0')));
  await made.mount();
  assert.deepEqual(linesOf(made), before);
  await detach(made, '1');
  rmSync(join(made.base, 'l0'), { recursive: true });
  assert.deepEqual(linesOf(made), before);
});

test('without enough space the mount goes on as before', { skip }, async (t) => {
  const made = await stack(t, {
    lowers: [{ 'a/small': file('small') }, LOWEST],
    size: '24m',
    unmounted: true,
  });
  const large = makeTempDir();
  t.after(() => removeTempDir(large));
  writeFileSync(join(large, 'large'), Buffer.alloc(40 << 20, 'x'));
  made.place(large, ...made.lowers);
  await made.mount();
  const before = linesOf(made);
  await assert.rejects(detach(made, large), /: no space left at \/large: .*make room/);
  made.serverChanged();
  assert.deepEqual(linesOf(made), before);
  assert.equal((await lowerOf(made.mnt, '1')).spec.detaching, undefined);
  await detach(made, '2');
  assert.equal(made.read('a/small'), 'small');
});

test('it is cancelled, and one lower after the other goes', { skip }, async (t) => {
  const made = await stack(t, {
    lowers: [manyFiles(), LOWEST, { deep: file('deep') }],
    disk: true,
  });
  const before = linesOf(made);
  const first = await lowerOf(made.mnt, '1');
  await beginDetach(first);
  await assert.rejects(lowerOf(made.mnt, '2'), /l0 is being detached: wait for it/);
  await cancelDetach(await lowerOf(made.mnt, '1'));
  made.serverChanged();
  assert.deepEqual(linesOf(made), before);
  for (const which of [join(made.base, 'l1'), '1', '1']) await detach(made, which);
  for (const name of ['l0', 'l1', 'l2']) rmSync(join(made.base, name), { recursive: true });
  assert.deepEqual(linesOf(made), before);
  assert.deepEqual(readdirSync(made.path('.')).sort(), readdirSync(made.upper).sort());
});

test('what cannot be detached', { skip }, async (t) => {
  const made = await stack(t, { lowers: [LOWEST], data: [{}], options: 'metacopy=on' });
  await assert.rejects(lowerOf(made.mnt, '2'), { kind: 'absent' });
  await assert.rejects(lowerOf(made.mnt, join(made.base, 'data0')), /data-only layer/);
  await assert.rejects(lowerOf(made.path('m'), '1'), { kind: 'absent' });
  const readOnly = await stack(t, { lowers: [LOWEST, {}], readOnly: true });
  await assert.rejects(lowerOf(readOnly.mnt, '1'), /is read-only/);
  const other = await stack(t, { lowers: [LOWEST], unmounted: true });
  other.kernelMount();
  try {
    await assert.rejects(lowerOf(other.mnt, '1'), /the kernel serves it/);
  } finally {
    other.kernelUnmount();
  }
});
