// What is done in the virtual machine, in order: each step goes on from the one before.
// Run by guest.ts inside the machine; its names are the tests of oldkernel.test.ts outside.
// The command line is run as a person runs it; the tree is changed and read by system calls of this process.

import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { mapMemory } from '../../src/linux/memory.js';
import { measureVerity } from '../../src/linux/verity.js';
import { dir, file, makeTree, type Tree, whiteout } from '../layer/tree.js';
import { differences, readTree, type Tree as SeenTree } from '../oracle/tree.js';
import { AT, mapShared, must, O, readdir, type Stat, show, stat, sys } from '../support/sys.js';

/** On the machine's disk, an ext4: this kernel's tmpfs may have no user.* attributes. */
const base = '/data';
const at = (name: string): string => join(base, name);
const mnt = at('mnt');
const layers = `lowerdir=${at('top')}:${at('bottom')}`;

const large = Buffer.alloc(6 << 20, 'large file, copied by a worker; ');

const bottom: Tree = {
  'a/one': file('one'),
  'a/two': file('two'),
  'a/deep/x': file('x'),
  attributes: file('attributes', { mode: 0o640, uid: 7, gid: 8, xattrs: { 'user.colour': 'red' } }),
  gone: file('gone'),
  'gone-folder/x': file('x'),
  'hidden/x': file('x'),
  large: file(large),
  'links/p': file('linked'),
  'links/q': { type: 'link', data: 'links/p' },
  old: file('old', { mtime: [1_000_000_000, 123_456_789] }),
  page: file('p'.repeat(8192)),
  'swap-1/one': file('1'),
  'swap-2/two': file('2'),
  symlink: { type: 'symlink', data: 'a/one' },
};
const top: Tree = {
  'a/two': file('two of top'),
  'a/three': file('three'),
  hidden: whiteout,
  empty: dir({ mode: 0o700 }),
};

/** Features by the first kernel that has them; older ones must be told what is done instead. */
const since: readonly (readonly [feature: string, major: number, minor: number])[] = [
  ['passthrough', 6, 9],
  ['resend', 6, 9],
  ['*xattrat calls', 6, 13],
  ['private layer mounts', 5, 12],
  ['openat2', 5, 6],
];

/** The same for what tmpfs can do. */
const sinceOnTmpfs: typeof since = [
  ['user.* attributes', 6, 6],
  ['filesystem UUID', 6, 9],
];

const [major, minor] = release().split('.').map(Number.parseFloat);
const kernelHas = (a: number, b: number): boolean => major > a || (major === a && minor >= b);

export const scenario = {
  'varve doctor names what this kernel lacks, and what is done instead'() {
    const text = varve(['doctor', '/tmp', base]);
    const [heading, features, ...places] = text.split('\n\n');
    assert.ok(heading.includes(release()), heading);
    for (const [name, ...first] of since) checkFeature(features, name, kernelHas(...first));
    const [onTmpfs, onDisk] = places;
    assert.match(onTmpfs, /\(tmpfs\)/);
    for (const [name, ...first] of sinceOnTmpfs) checkFeature(onTmpfs, name, kernelHas(...first));
    assert.match(onDisk, /\(ext4\)/);
    for (const name of ['user.* attributes', 'filesystem UUID', 'whiteout devices']) {
      checkFeature(onDisk, name, true);
    }
    return text;
  },

  'varve mount stacks two lowers and an upper'() {
    for (const name of ['bottom', 'top', 'upper', 'work', 'mnt']) mkdirSync(at(name));
    makeTree(at('bottom'), bottom);
    makeTree(at('top'), top);
    varve(['mount', '--backend=fuse', '-o', `${layers},${upperOptions}`, mnt]);
    assert.equal(read('a/one'), 'one');
    assert.equal(read('a/two'), 'two of top');
    assert.equal(read('symlink'), 'one');
    assert.deepEqual(list('a'), ['deep', 'one', 'three', 'two']);
    assert.equal(list('').includes('hidden'), false);
    assert.equal(statSync(path('old'), { bigint: true }).mtimeNs, 1_000_000_000_123_456_789n);
    assert.deepEqual(treeOf(mnt).contradictions, []);
  },

  'copy-up keeps descriptors, mappings, holes, owners and attributes'() {
    withRoot((root) => {
      const reader = must(sys.open(root, 'page', O.RDONLY));
      const map = mapShared(reader, 8192, false);
      assert.ok(typeof map !== 'number', show(map as number));
      assert.equal(map.bytes[5000], 0x70);
      const before = found(stat(root, 'page')).ino;
      const writer = must(sys.open(root, 'page', O.RDWR));
      must(sys.pwrite(writer, Buffer.from('W'), 5000));
      assert.equal(map.bytes[5000], 0x57);
      assert.equal(String(sys.pread(reader, 1, 5000)), 'W');
      assert.equal(found(stat(root, 'page')).ino, before);
      must(sys.fallocate(writer, PUNCH_HOLE, 0, 4096));
      assert.equal(sys.lseek(writer, 0, SEEK_DATA), 4096);
      must(sys.fsync(writer));
      map.unmap();
      for (const fd of [reader, writer]) sys.close(fd);

      must(sys.chown(root, 'attributes', 9, 10));
      must(sys.setxattr(root, 'attributes', 'user.shape', Buffer.from('round')));
      assert.deepEqual(sys.listxattr(root, 'attributes'), ['user.colour', 'user.shape']);
      must(sys.removexattr(root, 'attributes', 'user.colour'));
      assert.equal(show(sys.getxattr(root, 'attributes', 'user.colour') as number), 'ENODATA');
      assert.equal(show(sys.setxattr(root, 'symlink', 'user.no', Buffer.from('x'))), 'EPERM');
    });
    appendFileSync(path('large'), 'end');
    assert.ok(readFileSync(path('large')).equals(Buffer.concat([large, Buffer.from('end')])));
    writeFileSync(path('links/q'), 'written through one name');
    assert.equal(read('links/p'), 'written through one name');
    assert.equal(readFileSync(at('bottom/links/p'), 'utf8'), 'linked');
    writeFileSync(path('a/two'), 'truncated', { flag: 'w' });
    assert.equal(read('a/two'), 'truncated');
    assert.equal(readFileSync(at('top/a/two'), 'utf8'), 'two of top');
  },

  'files and merged directories are renamed, exchanged and removed'() {
    withRoot((root) => {
      must(sys.rename(root, 'old', 'new'));
      assert.equal(show(sys.rename(root, 'new', 'page', NOREPLACE)), 'EEXIST');
      must(sys.rename(root, 'a', 'b'));
      must(sys.rename(root, 'swap-1', 'swap-2', EXCHANGE));
      const gone = must(sys.open(root, 'gone', O.RDONLY));
      must(sys.unlink(root, 'gone'));
      assert.equal(String(sys.pread(gone, 9, 0)), 'gone');
      assert.equal(found(stat(gone, '')).nlink, 0);
      // The kernel's copy of the attributes is too old then, and it asks the server.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
      assert.equal(found(stat(gone, '')).nlink, 0);
      sys.close(gone);
      assert.equal(show(sys.rmdir(root, 'gone-folder')), 'ENOTEMPTY');
      must(sys.unlink(root, 'gone-folder/x'));
      must(sys.rmdir(root, 'gone-folder'));
      must(sys.mkdir(root, 'hidden', 0o755));
    });
    assert.equal(read('b/one'), 'one');
    assert.equal(read('b/deep/x'), 'x');
    assert.deepEqual(list('b'), ['deep', 'one', 'three', 'two']);
    assert.deepEqual(list('swap-1'), ['two']);
    assert.deepEqual(list('hidden'), []);
    withRoot((root) => {
      assert.match(String(sys.getxattr(root, 'b', 'trusted.overlay.redirect')), /^\/?a$/);
    }, at('upper'));
    const left = statSync(at('upper/gone'));
    assert.ok(left.isCharacterDevice() && left.rdev === 0);
  },

  'files of every kind are made, unnamed ones too'() {
    withRoot((root) => {
      must(sys.mknod(root, 'fifo', 0o010644));
      must(sys.mknod(root, 'null', 0o020666, 0x103));
      must(sys.symlink('fifo', root, 'to-fifo'));
      must(sys.mkdir(root, 'made', 0o1777));
      const unnamed = must(sys.open(root, 'made', O.TMPFILE | O.RDWR, 0o600));
      must(sys.pwrite(unnamed, Buffer.from('unnamed at first'), 0));
      must(sys.linkFd(unnamed, root, 'made/named'));
      const copy = must(sys.open(root, 'made/copy', O.RDWR | O.CREAT | O.EXCL, 0o644));
      assert.equal(sys.copyFileRange(unnamed, 0, copy, 0, 100), 16);
      must(sys.flock(copy, LOCK_EX));
      const removed = must(sys.open(root, 'made/removed', O.RDWR | O.CREAT, 0o644));
      must(sys.unlink(root, 'made/removed'));
      must(sys.pwrite(removed, Buffer.from('still'), 0));
      assert.equal(String(sys.pread(removed, 5, 0)), 'still');
      for (const fd of [unnamed, copy, removed]) sys.close(fd);
    });
    assert.equal(read('made/copy'), 'unnamed at first');
    assert.deepEqual(list('made'), ['copy', 'named']);
  },

  'varve umount and a second varve mount show the same tree'() {
    const before = treeOf(mnt);
    varve(['umount', mnt]);
    assert.deepEqual(list(''), []);
    varve(['mount', '--backend=fuse', '-o', `${layers},${upperOptions}`, mnt]);
    same(treeOf(mnt), before);
    varve(['umount', mnt]);
    written = before;
  },

  "this kernel's own overlayfs shows the same tree from the same folders"() {
    const options = `${layers},${upperOptions},redirect_dir=on,index=on`;
    command('mount', ['-t', 'overlay', 'overlay', '-o', options, mnt]);
    try {
      same(treeOf(mnt), written);
    } finally {
      command('umount', [mnt]);
    }
  },

  "a read-only stack goes to this kernel's overlayfs"() {
    const said = varve(['mount', '-o', layers, mnt], 'stderr');
    assert.match(said, /kernel's overlayfs/);
    assert.equal(read('a/two'), 'two of top');
    assert.deepEqual(list('a'), ['deep', 'one', 'three', 'two']);
    command('umount', [mnt]);
  },

  'a plain user mounts in a user namespace, on a filesystem that has user.* attributes'() {
    const own = at('own');
    const script = [
      `varve() { node ${main} "$@"; }`,
      `mkdir ${own}/upper ${own}/work ${own}/mnt`,
      `varve mount -o lowerdir=${own}/low,upperdir=${own}/upper,workdir=${own}/work ${own}/mnt`,
      `cd ${own}/mnt; mv folder moved; echo more >> moved/f; rm g; cat moved/f; ls; cd /`,
      `varve umount ${own}/mnt`,
    ];
    mkdirSync(own);
    makeTree(own, { 'low/folder/f': file('first\n'), 'low/g': file('g'), 'low/h': file('h') });
    command('chown', ['-R', '1000:1000', own]);
    const shell = ['unshare', '-U', '-r', '-m', 'sh', '-e', '-c', script.join('\n')];
    const run = spawnSync(shell[0], shell.slice(1), {
      ...settings,
      uid: 1000,
      gid: 1000,
      env: { ...process.env, HOME: own, XDG_RUNTIME_DIR: own },
    });
    assert.equal(outcome(run).stdout, 'first\nmore\nh\nmoved\n');
    withRoot(
      (root) => {
        const redirect = sys.getxattr(root, 'moved', 'user.overlay.redirect');
        assert.equal(String(redirect), '/folder');
      },
      join(own, 'upper'),
    );
  },

  'objects of a store are sealed by fs-verity, which measures what they are called'() {
    mkdirSync(at('source'));
    makeTree(at('source'), {
      small: file('small'),
      'folder/page': file('p'.repeat(5000)),
      'folder/large': file(large),
    });
    varve(['store', 'init', at('store')]);
    varve(['store', 'add', '--store', at('store'), '--name', 'tree', at('source')]);
    const objects = at('store/objects');
    const names = readdirSync(objects).flatMap((two) =>
      readdirSync(join(objects, two)).map((rest) => `${two}/${rest}`),
    );
    // Two files and the image.
    mapMemory();
    assert.equal(names.length, 3);
    for (const name of names) {
      const fd = must(sys.open(AT.FDCWD, join(objects, name), O.RDONLY));
      assert.equal(measureVerity(fd), name.replace('/', ''));
      sys.close(fd);
      assert.equal(show(sys.open(AT.FDCWD, join(objects, name), O.WRONLY)), 'EPERM');
    }
    varve(['store', 'check', '--store', at('store')]);
  },

  'a composefs image is followed where the kernel has no data-only layers'() {
    const said = varve(['mount', '--image', 'tree', '--store', at('store'), mnt], 'stderr');
    assert.match(said, kernelHas(6, 5) ? /mode kernel/ : /mode follow/);
    assert.equal(read('small'), 'small');
    assert.equal(read('folder/page'), 'p'.repeat(5000));
    assert.ok(readFileSync(path('folder/large')).equals(large));
    varve(['umount', mnt]);
  },

  'nobody waits for ever when the server is killed'() {
    const said = varve([
      'mount',
      '--json',
      '--backend=fuse',
      '-o',
      `${layers},${upperOptions}`,
      mnt,
    ]);
    const fd = must(sys.open(AT.FDCWD, path('large'), O.RDONLY));
    process.kill((JSON.parse(said) as { pid: number }).pid, 'SIGKILL');
    // A program of its own: if it waits for ever, it is this one that goes on.
    const look = spawnSync('ls', [path('b')], { ...settings, timeout: 60_000 });
    assert.equal(look.error, undefined, 'ls hangs');
    sys.close(fd);
  },
} satisfies Record<string, () => unknown>;

const upperOptions = `upperdir=${at('upper')},workdir=${at('work')}`;

const [NOREPLACE, EXCHANGE, PUNCH_HOLE, SEEK_DATA, LOCK_EX] = [1, 2, 3, 3, 2];

/** What the mount showed before it was unmounted. */
let written: SeenTree = { lines: new Map(), contradictions: [] };

// --- the command line ---

const main = '/varve/bin/varve.js';
/** Milliseconds; the machine has a limit of its own (oldkernel.test.ts). */
const settings = { encoding: 'utf8', timeout: 200_000 } as const;

/** @returns what it printed. Its time goes to the console: under emulation each start of node counts. */
function varve(args: readonly string[], stream: 'stdout' | 'stderr' = 'stdout'): string {
  const began = Date.now();
  const run = spawnSync(process.execPath, [main, ...args], settings);
  console.log(`varve ${args[0]}: ${(Date.now() - began) / 1000} s`);
  return outcome(run)[stream];
}

function command(name: string, args: readonly string[]): void {
  outcome(spawnSync(name, args, settings));
}

function outcome(run: SpawnSyncReturns<string>): SpawnSyncReturns<string> {
  const said = `${run.stdout}${run.stderr}${run.error?.message ?? ''}`;
  assert.equal(run.status, 0, `exit code ${run.status}, ${said}`);
  return run;
}

/** A row of the doctor's table: verdict, name, and what is done without it. */
function checkFeature(table: string, name: string, there: boolean): void {
  const rows = table.split('\n').map((line) => line.trim().split(/ {2,}/));
  const row = rows.find((cells) => cells[1] === name);
  assert.ok(row !== undefined, `doctor says nothing about ${name}`);
  assert.equal(row[0], there ? 'yes' : 'no', name);
  if (!there) assert.ok(row[2], `doctor does not say what is done without ${name}`);
}

// --- the tree ---

const path = (name: string): string => join(mnt, name);
const read = (name: string): string => readFileSync(path(name), 'latin1');

function list(name: string): string[] {
  const fd = must(sys.open(AT.FDCWD, path(name), O.DIRECTORY));
  try {
    const entries = readdir(fd);
    assert.ok(typeof entries !== 'number', show(entries as number));
    return entries
      .map((entry) => entry.name)
      .filter((entry) => !/^\.\.?$/.test(entry))
      .sort();
  } finally {
    sys.close(fd);
  }
}

function found(st: Stat | number): Stat {
  assert.ok(typeof st !== 'number', show(st as number));
  return st;
}

function withRoot<T>(use: (root: number) => T, folder = mnt): T {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return use(root);
  } finally {
    sys.close(root);
  }
}

function treeOf(folder: string): SeenTree {
  return withRoot((root) => readTree(root, () => true), folder);
}

function same(ours: SeenTree, theirs: SeenTree): void {
  assert.deepEqual(differences(ours, theirs), []);
}
