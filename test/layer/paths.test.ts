// From an inode number to where it lies, on each filesystem that tells: always for directories, for files while the kernel
// has their name in memory; and nothing for a number that is nobody's.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ErofsImage } from '../../src/erofs/image.js';
import { DirectoryLayer } from '../../src/layer/directory.js';
import { ErofsLayer } from '../../src/layer/erofs.js';
import { AT, MAGIC, O } from '../../src/linux/constants.js';
import { FileSource } from '../../src/linux/file-source.js';
import { openAt, Statx, statBuffer } from '../../src/linux/files.js';
import { getU64, mapMemory, putBytes, scratch } from '../../src/linux/memory.js';
import { type Feature, requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { file, makeTree, type Tree } from './tree.js';

mapMemory();
const NAME = scratch + 0x14000;
let index = 0;

const tree: Tree = {
  'a/b/c/file': file('deep'),
  'a/b2/file': file('shallow'),
  'a/\xff\n name/in': file('odd'),
  top: file('top'),
};
const folders = ['', 'a', 'a/b', 'a/b/c', 'a/b2', 'a/\xff\n name'];
const HI = 0x1_0000_0000;

function run(command: string, args: readonly string[]): void {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(result.status, 0, `${command}: ${result.stderr}`);
}

function image(base: string, size: string): string {
  const path = join(base, 'disk.img');
  run('truncate', ['-s', size, path]);
  return path;
}

interface Kind {
  readonly name: string;
  readonly magic: number;
  readonly features: readonly Feature[];
  readonly packages: readonly string[];
  /** Mounts at `folder` what lies in `source`. */
  readonly mount: (base: string, source: string, folder: string) => void;
}

const kinds: readonly Kind[] = [
  {
    name: 'ext4',
    magic: MAGIC.EXT4,
    features: ['ext4'],
    packages: ['e2fsprogs'],
    mount: (base, source, folder) => {
      const disk = image(base, '16M');
      run('mkfs.ext4', ['-q', disk]);
      run('mount', ['-o', 'loop', disk, folder]);
      run('cp', ['-a', `${source}/.`, folder]);
    },
  },
  {
    name: 'xfs',
    magic: MAGIC.XFS,
    features: ['xfs'],
    packages: ['xfsprogs'],
    mount: (base, source, folder) => {
      const disk = image(base, '320M');
      run('mkfs.xfs', ['-q', disk]);
      run('mount', ['-o', 'loop', disk, folder]);
      run('cp', ['-a', `${source}/.`, folder]);
    },
  },
  {
    name: 'squashfs',
    magic: MAGIC.SQUASHFS,
    features: [],
    packages: ['squashfs-tools'],
    mount: (base, source, folder) => {
      const disk = join(base, 'disk.img');
      run('mksquashfs', [source, disk, '-quiet', '-no-progress']);
      run('mount', ['-o', 'loop,ro', disk, folder]);
    },
  },
  {
    name: 'EROFS',
    magic: MAGIC.EROFS,
    features: ['erofs'],
    packages: ['erofs-utils'],
    mount: (base, source, folder) => {
      const disk = join(base, 'disk.img');
      run('mkfs.erofs', ['--quiet', disk, source]);
      run('mount', ['-t', 'erofs', '-o', 'loop,ro', disk, folder]);
    },
  },
];

function inoOf(root: string, name: string): [number, number] {
  const path = Buffer.from(name === '' ? root : `${root}/${name}`, 'latin1');
  const { ino } = statSync(path, { bigint: true });
  return [Number(ino % BigInt(HI)), Number(ino / BigInt(HI))];
}

function layerAt(folder: string, magic: number): DirectoryLayer {
  putBytes(NAME, folder);
  const rootFd = openAt(AT.FDCWD, NAME, O.PATH | O.DIRECTORY);
  assert.ok(rootFd >= 0);
  const uuid = new Uint8Array(16);
  return new DirectoryLayer({ index: index++, label: folder, rootFd, uuid, magic });
}

const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '2');

for (const { name, magic, features, packages, mount } of kinds) {
  const skip = requires({ root: true, features: ['loop', ...features], packages });
  test(`${name} tells where an inode lies`, { skip }, (t: TestContext) => {
    const base = makeTempDir();
    t.after(() => removeTempDir(base));
    const [source, folder] = [join(base, 'source'), join(base, 'mounted')];
    for (const each of [source, folder]) mkdirSync(each);
    makeTree(source, tree);
    mount(base, source, folder);
    const layer = layerAt(folder, magic);
    for (const path of folders) {
      const [lo, hi] = inoOf(folder, path);
      dropCaches();
      assert.equal(layer.pathOf(lo, hi), path, JSON.stringify(path));
    }
    const [lo, hi] = inoOf(folder, 'a/b/c/file');
    assert.equal(layer.pathOf(lo, hi), 'a/b/c/file', 'its name is in memory');
    dropCaches();
    const nobodys: [number, number][] = [
      [0x7654321, 0],
      [lo, 0x12345],
      [0xffffffff, 0xffffffff],
    ];
    for (const wrong of nobodys) assert.equal(layer.pathOf(...wrong), undefined, wrong.join());
    // Of a layer that is a folder of it: what lies outside has no path there, or one that leads to something else.
    const inner = layerAt(join(folder, 'a'), magic);
    assert.equal(inner.pathOf(...inoOf(folder, 'a/b/c')), 'b/c');
    assert.equal(inner.pathOf(...inoOf(folder, 'a')), '');
    assert.equal(inner.pathOf(...inoOf(folder, 'top')), undefined);
    layer.close();
    inner.close();
  });
}

test('an image tells where its directories lie, by their ".."', {
  skip: requires({ root: true, packages: ['erofs-utils'] }),
}, (t) => {
  const base = makeTempDir();
  t.after(() => removeTempDir(base));
  const source = join(base, 'source');
  mkdirSync(source);
  makeTree(source, tree);
  const disk = join(base, 'disk.img');
  run('mkfs.erofs', ['--quiet', disk, source]);
  const opened = FileSource.open(disk);
  const layer = new ErofsLayer({
    index: index++,
    label: disk,
    image: ErofsImage.open(opened),
    log: (line) => assert.fail(line),
    showsTrustedAsUser: false,
    close: () => opened.close(),
  });
  t.after(() => layer.close());
  const numberOf = (path: string): number => {
    let dir = layer.root;
    for (const part of path.split('/')) {
      putBytes(NAME, part);
      assert.ok(layer.stat(dir, NAME) >= 0, part);
      const ino = getU64(statBuffer() + Statx.ino);
      if (part === path.split('/').at(-1)) return ino;
      dir = layer.enter(dir, NAME, part.length);
    }
    return 0;
  };
  for (const path of folders.filter((each) => each !== '')) {
    const ino = numberOf(path);
    assert.equal(layer.pathOf(ino % HI, Math.floor(ino / HI)), path);
  }
  layer.statDir(layer.root);
  const root = getU64(statBuffer() + Statx.ino);
  assert.equal(layer.pathOf(root, 0), '');
  const ino = numberOf('a/b/c/file');
  assert.equal(layer.pathOf(ino, 0), undefined, 'a file');
  // Any number is a question, whatever lies there.
  for (let nid = 0; nid < 2000; nid++) {
    const path = layer.pathOf(nid, 0);
    if (path !== undefined) assert.ok(folders.includes(path), `${nid}: ${path}`);
  }
  assert.equal(layer.pathOf(5, 0xffffffff), undefined);
});
