// Ingest: which files become objects, that they are what their names say, and what happens when something goes wrong.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type IngestOptions, type IngestStats, ingestTree } from '../../src/store/ingest.js';
import { objectPath } from '../../src/store/objects.js';
import { verityDigest } from '../../src/store/verity.js';
import { openTreeSource } from '../../src/tree/source.js';
import { find, type TreeNode } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { noise, writeFiles } from './stores.js';

/** More files than it takes to start threads. */
const MANY = 600;

function sample(folder: string): void {
  const files: Record<string, Buffer | string> = {
    empty: '',
    one: 'x',
    most: noise(1, 64),
    least: noise(2, 65),
    page: noise(3, 4096),
    long: noise(4, 5 * 1024 * 1024 + 3),
    zeros: Buffer.alloc(100_000),
    'd/same': noise(3, 4096),
  };
  for (let i = 0; i < MANY; i++) files[`many/${i}`] = noise(1000 + i, 70 + ((i * 37) % 9000));
  writeFiles(folder, files);
  linkSync(join(folder, 'page'), join(folder, 'd/linked'));
  const sparse = openSync(join(folder, 'sparse'), 'w');
  ftruncateSync(sparse, 40_000_000);
  writeSync(sparse, noise(5, 5000), 0, 5000, 20_000_001);
  closeSync(sparse);
  closeSync(openSync(join(folder, 'hole'), 'w'));
  execFileSync('truncate', ['-s', '9000', join(folder, 'hole')]);
}

async function ingest(
  source: string,
  objects: string,
  options: IngestOptions = {},
): Promise<{ root: TreeNode; stats: IngestStats }> {
  const tree = openTreeSource(source);
  try {
    return { root: tree.root, stats: await ingestTree(tree.root, objects, options) };
  } finally {
    tree.close();
  }
}

/** Names of objects, and of everything else. */
function listed(objects: string): string[] {
  return (readdirSync(objects, { recursive: true }) as string[])
    .filter((name) => statSync(join(objects, name)).isFile())
    .sort();
}

function verify(source: string, objects: string, root: TreeNode): Set<string> {
  const wanted = new Set<string>();
  for (const name of readdirSync(source, { recursive: true }) as string[]) {
    const path = join(source, name);
    if (!statSync(path).isFile()) continue;
    const bytes = readFileSync(path);
    const node = find(root, name) as TreeNode;
    if (bytes.length <= 64) {
      assert.equal(node.backing, undefined, name);
      assert.equal(node.digest, undefined, name);
      assert.equal(node.content !== undefined, bytes.length > 0, name);
      continue;
    }
    const hex = verityDigest(bytes).toString('hex');
    assert.equal(node.digest, hex, name);
    assert.deepEqual(node.backing, { path: objectPath(hex) }, name);
    assert.equal(node.content, undefined, name);
    const object = join(objects, objectPath(hex));
    assert.ok(readFileSync(object).equals(bytes), name);
    assert.equal(statSync(object).mode & 0o7777, 0o644, name);
    wanted.add(objectPath(hex));
  }
  return wanted;
}

test('files of more than 64 bytes become objects, whatever does the work', async (t) => {
  const source = tempDir(t);
  sample(source);
  const old = process.umask(0o077);
  t.after(() => process.umask(old));
  for (const options of [
    { threads: 1 },
    { threads: 3 },
    { threads: 3, named: true },
    { threads: 1, named: true },
  ]) {
    const objects = tempDir(t);
    const { root, stats } = await ingest(source, objects, options);
    const wanted = verify(source, objects, root);
    assert.deepEqual(listed(objects), [...wanted].sort());
    assert.equal(stats.newObjects, wanted.size);
    // A hard link is one file.
    assert.equal(stats.files, 8 + MANY + 2);
    assert.equal(stats.inlineFiles, 3);
    const sparse = statSync(join(objects, objectPath(find(root, 'sparse')?.digest as string)));
    assert.ok(sparse.blocks * 512 < 1_000_000, 'holes stay holes');
    const again = await ingest(source, objects, options);
    assert.equal(again.stats.newObjects, 0);
    assert.equal(find(again.root, 'long')?.digest, find(root, 'long')?.digest);
    assert.deepEqual(listed(objects), [...wanted].sort());
  }
});

test('archives, compressed or not, give the same objects', async (t) => {
  const source = tempDir(t);
  sample(source);
  const folder = tempDir(t);
  const tar = join(folder, 'a.tar');
  execFileSync('tar', ['--sparse', '-cf', tar, '-C', source, '.']);
  const packed = `${tar}.gz`;
  writeFiles(folder, { 'a.tar.gz': gzipSync(readFileSync(tar)) });
  for (const archive of [tar, packed]) {
    const objects = tempDir(t);
    const { root } = await ingest(archive, objects, { threads: 2 });
    assert.deepEqual(listed(objects), [...verify(source, objects, root)].sort());
  }
});

test('a file that changes after it was seen is refused, and no object is wrong', async (t) => {
  const source = tempDir(t);
  sample(source);
  const objects = tempDir(t);
  const tree = openTreeSource(source);
  t.after(() => tree.close());
  appendFileSync(join(source, 'many/77'), 'more');
  await assert.rejects(ingestTree(tree.root, objects, { threads: 2 }), {
    name: 'TreeError',
    message: /"many\/77" changed while the tree was read/,
  });
  for (const path of listed(objects)) {
    const bytes = readFileSync(join(objects, path));
    assert.equal(objectPath(verityDigest(bytes).toString('hex')), path);
  }
});

test('a full disk is one line, and leaves whole objects only', {
  skip: requires({ root: true, features: ['tmpfs'] }),
}, async (t) => {
  const source = tempDir(t);
  sample(source);
  const objects = join(tempDir(t), 'small');
  mkdirSync(objects);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', objects]);
  await assert.rejects(ingest(source, objects, { threads: 2 }), {
    name: 'StoreError',
    message: /cannot store "\/[a-z0-9/]+": ENOSPC/,
  });
  await assert.rejects(ingest(source, objects, { threads: 2, named: true }), {
    name: 'StoreError',
  });
  for (const path of listed(objects)) {
    const bytes = readFileSync(join(objects, path));
    assert.equal(objectPath(verityDigest(bytes).toString('hex')), path);
  }
});

test('where there are reflinks, objects share the blocks of their files', {
  skip: requires({ root: true, features: ['xfs', 'loop'], packages: ['xfsprogs'] }),
}, async (t) => {
  const folder = tempDir(t);
  const disk = join(folder, 'disk');
  const mnt = join(folder, 'mnt');
  mkdirSync(mnt);
  execFileSync('truncate', ['-s', '400M', disk]);
  execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', disk]);
  execFileSync('mount', ['-o', 'loop', disk, mnt]);
  const source = join(mnt, 'source');
  const objects = join(mnt, 'objects');
  mkdirSync(source);
  mkdirSync(objects);
  sample(source);
  const { root } = await ingest(source, objects, { threads: 2 });
  assert.deepEqual(listed(objects), [...verify(source, objects, root)].sort());
  const long = join(objects, objectPath(find(root, 'long')?.digest as string));
  const map = execFileSync('xfs_io', ['-r', '-c', 'fiemap -v', long], { encoding: 'utf8' });
  // FIEMAP_EXTENT_SHARED.
  assert.match(map, /0x2[0-9a-f]{3}$/m);
});
