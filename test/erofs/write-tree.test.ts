// Trees in memory become images and trees again: the same tree, whatever the options. No root, no mounts.
// Random trees, the limits of the format, what is refused by name, and pinned text of a small image.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkImage } from '../../src/erofs/check.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { imageTree } from '../../src/erofs/to-tree.js';
import { buildImage } from '../../src/erofs/write.js';
import type { BuildOptions, BuildProgress } from '../../src/erofs/write-options.js';
import { FileSource } from '../../src/linux/file-source.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';
import { tempDir, withTempDir } from '../support/temp.js';
import { randomTree } from '../tree/random.js';
import { listImage } from './listing.js';
import { text } from './sample.js';

const inline = { workers: 0 };

/** Builds, reads back and compares; runs the checker as well. @returns the image's size in bytes. */
async function roundTrip(folder: string, tree: TreeNode, options: BuildOptions): Promise<number> {
  const path = join(folder, 'image');
  const report = await buildImage(tree, options, path);
  const main = FileSource.open(path);
  const blob = options.blob === undefined ? undefined : FileSource.open(options.blob);
  try {
    const image = ErofsImage.open(main, blob === undefined ? [] : [blob]);
    assert.deepEqual([...checkImage(image)], []);
    const read = imageTree(image, image.inode(image.rootNid));
    const found = compareTrees(tree, read);
    assert.equal(found.length, 0, showDifferences(found));
  } finally {
    main.close();
    blob?.close();
  }
  return report.bytes;
}

const file = (data: Uint8Array): TreeNode =>
  makeNode(0o100644, { size: data.length, content: memoryContent(data) });

function folderOf(entries: Readonly<Record<string, TreeNode>>): TreeNode {
  const root = makeNode(0o040755);
  for (const [name, node] of Object.entries(entries)) add(root, name, node);
  return root;
}

const optionSets: readonly BuildOptions[] = [
  {},
  { xattrTolerance: 0, xattrPrefixes: ['user.', 'trusted.overlay.'], dedupe: true },
  { compression: [{ method: 'lz4hc' }] },
  { compression: [{ method: 'lz4' }], pclusterSize: 16384, tailPacking: true, dedupe: true },
  { compression: [{ method: 'zstd' }], pclusterSize: 65536, fragments: 'tails', dedupe: true },
  { compression: [{ method: 'zstd', level: 1 }], pclusterSize: 32768, tailPacking: true },
  { compression: [{ method: 'deflate' }], pclusterSize: 8192, tailPacking: true },
  { compression: [{ method: 'lzma', level: 0 }], fragments: 'all', xattrPrefixes: ['user.'] },
  { chunkSize: 4096 },
];

test('random trees come back as they were', async () => {
  await fc.assert(
    fc.asyncProperty(
      randomTree({ maxSize: 20_000, holes: true }),
      fc.constantFrom(...optionSets),
      (tree, options) =>
        withTempDir(async (folder) => {
          await roundTrip(folder, tree, { ...options, ...inline });
        }),
    ),
    { numRuns: campaign('rounds', 60), seed: campaign('seed', 1) },
  );
});

test('sizes around blocks, pclusters and segments', async (t) => {
  const folder = tempDir(t);
  const noise = createHash('shake256', { outputLength: 4_300_000 }).update('x').digest();
  const words = text(2_200_000, 1);
  const sizes = [1, 2, 63, 64, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192];
  sizes.push(8193, 12288, 65535, 65536, 65537, 200_000);
  // A file is cut at 2 MiB.
  for (const d of [-1, 0, 1]) sizes.push((1 << 21) + d);
  const entries: Record<string, TreeNode> = {};
  for (const size of sizes) {
    entries[`noise${size}`] = file(noise.subarray(0, size));
    entries[`words${size}`] = file(words.subarray(0, size));
  }
  entries['zeros'] = file(new Uint8Array(4_300_000));
  // Compressible at first, and then not: pclusters begin anywhere in an lcluster.
  entries['both'] = file(
    Buffer.concat([
      words.subarray(0, 70_001),
      noise.subarray(0, 2_500_000),
      words.subarray(0, 9999),
    ]),
  );
  // Incompressible, in several segments, all but the last of them.
  entries['late'] = file(Buffer.concat([noise, words.subarray(0, 10_000)]));
  const tree = folderOf(entries);
  for (const options of optionSets) await roundTrip(folder, tree, options);
});

test('100,000 names in a directory, found by lookup', async (t) => {
  const folder = tempDir(t);
  const root = makeNode(0o040755);
  const dir = makeNode(0o040755);
  add(root, 'd', dir);
  for (let i = 0; i < 100_000; i++)
    add(dir, `${i.toString(36)}-${'x'.repeat(i % 40)}`, makeNode(0o100644));
  await roundTrip(folder, root, { compression: [{ method: 'lz4' }], ...inline });
  const main = FileSource.open(join(folder, 'image'));
  t.after(() => main.close());
  let bytesRead = 0;
  const image = ErofsImage.open({
    size: main.size,
    read(at, out) {
      bytesRead += out.length;
      main.read(at, out);
    },
  });
  const find = (from: number, name: string): number | undefined =>
    image.lookup(image.inode(from), Buffer.from(name, 'latin1'));
  const nid = find(image.rootNid, 'd') as number;
  assert.notEqual(find(nid, `${(77_777).toString(36)}-${'x'.repeat(77_777 % 40)}`), undefined);
  // Opening, and finding one name of many, reads what a binary search touches, however large the image.
  assert.ok(bytesRead < 256 * 1024, `${bytesRead} of ${main.size} bytes were read`);
  assert.equal(find(nid, 'absent'), undefined);
});

test('names of 255 bytes, of any bytes, and around the dots', async (t) => {
  const entries: Record<string, TreeNode> = {};
  for (const name of ['!', '+', '-', '..a', '...', '.a', '/x'.slice(1), '\x01', '\xff\xfe', ' ']) {
    entries[name] = file(Buffer.from(name, 'latin1'));
  }
  for (let i = 0; i < 40; i++)
    entries[String.fromCharCode(65 + i).repeat(255)] = makeNode(0o040700);
  await roundTrip(tempDir(t), folderOf(entries), {});
});

test('owners, times and links beyond the compact inode', async (t) => {
  const linked = file(Buffer.from('x'));
  const entries: Record<string, TreeNode> = {
    large: makeNode(0o100644, { uid: 65_536, gid: 4_294_967_294 }),
    old: makeNode(0o100644, { mtime: -1, mtimeNsec: 999_999_999 }),
    older: makeNode(0o100644, { mtime: -(2 ** 40) }),
    future: makeNode(0o100644, { mtime: 2 ** 40, mtimeNsec: 1 }),
    device: makeNode(0o020600, { rdev: 0xffff_ffff }),
  };
  const root = folderOf(entries);
  const many = makeNode(0o040755);
  add(root, 'many', many);
  for (let i = 0; i < 70_000; i++) add(many, `link${i}`, linked);
  await roundTrip(tempDir(t), root, {});
});

test('xattrs up to what the format holds, and one byte more', async (t) => {
  const folder = tempDir(t);
  const withXattrs = (xattrs: Readonly<Record<string, number>>): TreeNode => {
    const node = file(Buffer.from('data'));
    node.xattrs = new Map(Object.entries(xattrs).map(([name, n]) => [name, Buffer.alloc(n, 7)]));
    return node;
  };
  const most = { 'user.a': 65_535, 'user.b': 65_535, 'user.c': 65_535, 'user.d': 65_000 };
  const fine = folderOf({
    one: withXattrs({ 'user.x': 65_535 }),
    most: withXattrs(most),
    empty: withXattrs({ 'user.': 0, 'trusted.t': 0 }),
    long: withXattrs({ [`user.${'n'.repeat(250)}`]: 1 }),
    acl: withXattrs({ 'system.posix_acl_access': 28, 'security.capability': 20 }),
  });
  for (const xattrTolerance of [0, 2]) await roundTrip(folder, fine, { xattrTolerance });

  const refused: readonly [TreeNode, RegExp][] = [
    [withXattrs({ 'user.x': 65_536 }), /^\/bad: xattr "user.x": its value has 65536 bytes/],
    [withXattrs({ ...most, 'user.e': 65_535 }), /^\/bad: 327\d+ bytes of xattrs, at most 262/],
    [withXattrs({ 'btrfs.compression': 4 }), /^\/bad: xattr "btrfs.compression": EROFS has no/],
  ];
  for (const [node, message] of refused) {
    await assert.rejects(buildImage(folderOf({ bad: node }), {}, join(folder, 'no')), (error) => {
      assert.match((error as Error).message.replaceAll('"/bad"', '/bad'), message);
      return true;
    });
  }
  assert.ok(!existsSync(join(folder, 'no')));
});

test('holes take no room and stay holes', async (t) => {
  const folder = tempDir(t);
  const size = 1e12;
  const data = text(5000, 1);
  const sparse = makeNode(0o100644, {
    size,
    content: {
      extents: [{ at: 3e11 + 5, length: data.length }],
      open: () => ({
        size,
        read(at, out) {
          out.fill(0);
          const from = at - (3e11 + 5);
          for (let i = Math.max(0, -from); i < out.length && from + i < data.length; i++) {
            out[i] = data[from + i] as number;
          }
        },
        close() {},
      }),
    },
  });
  const hole = makeNode(0o100644, { size: 123_456_789_012 });
  for (const compression of [[], [{ method: 'lz4' as const }]]) {
    const out = join(folder, 'sparse');
    await buildImage(folderOf({ sparse, hole }), { compression, ...inline }, out);
    assert.ok(statSync(out).size < 20e6, `${statSync(out).size} bytes`);
    const main = FileSource.open(out);
    const image = ErofsImage.open(main);
    const root = image.inode(image.rootNid);
    const inode = image.inode(image.lookup(root, Buffer.from('sparse')) as number);
    const bytes = new Uint8Array(data.length);
    image.read(inode, bytes, 3e11 + 5);
    assert.ok(data.equals(bytes));
    assert.equal(inode.size, size);
    let stored = 0;
    for (const { length } of image.extents(inode)) stored += length;
    assert.ok(stored < 20e6, `${stored} bytes of data in a file of holes`);
    main.close();
  }
});

test('a blob takes all data, the image keeps the metadata', async (t) => {
  const folder = tempDir(t);
  const blob = join(folder, 'blob');
  const same = text(300_000, 9);
  const tree = folderOf({ a: file(same), b: file(same), c: file(text(5000, 2)) });
  const bytes = await roundTrip(folder, tree, { chunkSize: 65_536, blob });
  assert.equal(bytes, 8192);
  // 5 chunks of 16 blocks but the last of 10, and 2 blocks.
  assert.equal(statSync(blob).size, (74 + 2) * 4096);
});

test('equal content is stored once when asked', async (t) => {
  const folder = tempDir(t);
  const words = text(400_000, 3);
  const noise = createHash('shake256', { outputLength: 100_000 }).update('y').digest();
  const once = folderOf({ a: file(words), n: file(noise) });
  const twice = folderOf({ a: file(words), b: file(words), n: file(noise), o: file(noise) });
  for (const options of optionSets) {
    if (options.dedupe !== true) continue;
    const one = await roundTrip(folder, once, options);
    const two = await roundTrip(folder, twice, options);
    assert.ok(two - one <= 8192, `${two - one} bytes for what is there already`);
  }
});

test('a failed build leaves the old file and nothing else', async (t) => {
  const folder = tempDir(t);
  const out = join(folder, 'image');
  writeFileSync(out, 'old');
  const broken = makeNode(0o100644, {
    size: 10_000_000,
    content: {
      open: () => ({
        size: 10_000_000,
        read(at) {
          if (at > 5_000_000) throw new Error('the disk is gone');
        },
        close() {},
      }),
    },
  });
  const options = { compression: [{ method: 'lz4' as const }] };
  await assert.rejects(buildImage(folderOf({ broken }), options, out), /the disk is gone/);
  assert.equal(readFileSync(out, 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder), ['image']);
});

test('progress ends at the totals', async (t) => {
  const tree = folderOf({
    a: file(text(3_000_000, 1)),
    b: file(text(100, 2)),
    c: makeNode(0o040755),
  });
  let last: BuildProgress | undefined;
  const onProgress = (progress: BuildProgress): void => {
    last = progress;
  };
  const options = { compression: [{ method: 'lz4' as const }], onProgress, ...inline };
  const out = join(tempDir(t), 'image');
  const report = await buildImage(tree, options, out);
  assert.deepEqual(last, {
    inodes: 4,
    files: 2,
    filesDone: 2,
    bytes: 3_000_100,
    bytesIn: 3_000_100,
    bytesOut: statSync(out).size,
  });
  assert.equal(report.bytes, statSync(out).size);
});

test('the UUID follows the content, and -U', async (t) => {
  const out = join(tempDir(t), 'image');
  const uuidOf = async (tree: TreeNode, options: BuildOptions): Promise<string> =>
    Buffer.from((await buildImage(tree, { ...options, ...inline }, out)).uuid).toString('hex');
  for (const options of optionSets) {
    const words = text(100_000, 1);
    const one = await uuidOf(folderOf({ a: file(words) }), options);
    assert.equal(await uuidOf(folderOf({ a: file(Buffer.from(words)) }), options), one);
    // One byte of data that no size tells of.
    words[50_000] = 1;
    assert.notEqual(await uuidOf(folderOf({ a: file(words) }), options), one);
    const uuid = Buffer.alloc(16, 0x11);
    assert.equal(await uuidOf(folderOf({ a: file(words) }), { ...options, uuid }), '11'.repeat(16));
  }
});

test('an image as text, and its bytes, are pinned', async (t) => {
  const out = join(tempDir(t), 'image');
  const dir = makeNode(0o040750, { uid: 7, gid: 8, mtime: 1_000_000_000 });
  const linked = file(text(5000, 1));
  add(dir, 'hard', linked);
  const root = folderOf({
    a: linked,
    dir,
    fifo: makeNode(0o010600, { mtime: 5, mtimeNsec: 6 }),
    link: makeNode(0o120777, { target: 'dir/hard' }),
    null: makeNode(0o020666, { rdev: 0x103 }),
  });
  root.xattrs = new Map([['user.x', Buffer.from('value')]]);
  await buildImage(root, { compression: [], ...inline }, out);
  const main = FileSource.open(out);
  t.after(() => main.close());
  assert.deepEqual(listImage(ErofsImage.open(main)), PINNED_LISTING);
  const digest = createHash('sha256').update(readFileSync(out)).digest('hex');
  assert.equal(digest, PINNED_DIGEST);
});

const PINNED_LISTING: readonly string[] = [
  ' ino=1 40755 3 0:0 103 (8) rdev=0 mtime=0 - xattrs=1:d0764ccbc1701c71fbe5ef82',
  '/a ino=6 100644 2 0:0 5000 (16) rdev=0 mtime=0 0c160380495a930af63cd965 xattrs=0:e3b0c44298fc1c149afbf4c8',
  '/dir ino=36 40750 2 7:8 43 (8) rdev=0 mtime=1000000000000000000 - xattrs=0:e3b0c44298fc1c149afbf4c8',
  '/dir/hard ino=6 100644 2 0:0 5000 (16) rdev=0 mtime=0 0c160380495a930af63cd965 xattrs=0:e3b0c44298fc1c149afbf4c8',
  '/fifo ino=40 10600 1 0:0 0 (0) rdev=0 mtime=5000000006 - xattrs=0:e3b0c44298fc1c149afbf4c8',
  '/link ino=42 120777 1 0:0 8 (8) rdev=0 mtime=0 dir/hard xattrs=0:e3b0c44298fc1c149afbf4c8',
  '/null ino=44 20666 1 0:0 0 (0) rdev=259 mtime=0 - xattrs=0:e3b0c44298fc1c149afbf4c8',
];
const PINNED_DIGEST = 'c8a1143b75c1d8567388246714b79746871a97be7cd96d3c57a39ea9bba2403c';
