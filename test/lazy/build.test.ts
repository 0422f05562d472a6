// A tree as a lazy layer: the kernel shows the same files, the same tree makes the same layer, every byte is in a chunk.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MemorySource } from '../../src/bytes/source.js';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { checkMeta } from '../../src/lazy/pull/check-layer.js';
import { mapMemory } from '../../src/linux/memory.js';
import { mount } from '../../src/linux/mount.js';
import { openTreeSource } from '../../src/tree/source.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { sampleTree } from './sample-tree.js';

mapMemory();

/** A folder with what is hard for a layer: holes, equal files, hard links, files without content. */
function hardFolder(parent: string): string {
  const folder = join(parent, 'tree');
  mkdirSync(join(folder, 'sub'), { recursive: true });
  const noise = createHash('sha512').update('noise').digest();
  const large = Buffer.concat(Array.from({ length: 5000 }, () => noise));
  writeFileSync(join(folder, 'large'), large);
  writeFileSync(join(folder, 'sub/equal'), large);
  writeFileSync(join(folder, 'small'), 'small\n');
  writeFileSync(join(folder, 'empty'), '');
  linkSync(join(folder, 'small'), join(folder, 'sub/linked'));
  symlinkSync('../small', join(folder, 'sub/link'));
  const sparse = join(folder, 'sparse');
  const fd = openSync(sparse, 'w');
  writeSync(fd, large, 0, 70_000, 5_000_000);
  writeSync(fd, 'end', 9_000_000);
  closeSync(fd);
  truncateSync(sparse, 20_000_000);
  writeFileSync(join(folder, 'hole'), '');
  truncateSync(join(folder, 'hole'), 1_000_001);
  return folder;
}

test('the kernel mounts a layer, and shows the tree', {
  skip: requires({ root: true, features: ['erofs'] }),
}, async (t) => {
  const folder = tempDir(t);
  const tree = hardFolder(folder);
  const source = openTreeSource(tree);
  const layer = await buildLayer(source.root, join(folder, 'store'), { chunkSize: 65536 });
  source.close();
  assert.ok(layer.isComplete);
  const table = new ChunkTable(readFileSync(layer.table));
  const blob = readFileSync(layer.blob);
  assert.equal(blob.length, table.blobSize);
  // Equal files once, and of holes nothing: 320,000 bytes, 70,000 with what is around them, and two blocks.
  assert.ok(blob.length < 320_000 + 3 * 65536 + 3 * 4096, `${blob.length} bytes`);
  for (let i = 0; i < table.count; i++) {
    const chunk = blob.subarray(table.at(i), table.at(i) + table.length(i));
    assert.deepEqual(createHash('sha256').update(chunk).digest(), Buffer.from(table.digest(i)));
  }
  const { inodes, bytes } = checkMeta(new MemorySource(readFileSync(layer.meta)), table);
  assert.deepEqual([inodes, bytes], [layer.read().inodes, layer.read().bytes]);

  const mnt = join(folder, 'mnt');
  mkdirSync(mnt);
  // Not by mount(8): it would take a loop device, and then the kernel finds no content.
  const MS_RDONLY = 1;
  assert.equal(mount(layer.meta, mnt, 'erofs', MS_RDONLY, `device=${layer.blob}`), 0);
  const diff = spawnSync('diff', ['-r', '--no-dereference', tree, mnt], { timeout: 60_000 });
  assert.equal(diff.status, 0, String(diff.stdout) + String(diff.stderr));
  assert.equal(statSync(join(mnt, 'small')).nlink, 2);
});

test('the same tree makes the same layer, whatever its chunks', async (t) => {
  const folder = tempDir(t);
  const build = (name: string, chunkSize?: number) =>
    buildLayer(sampleTree({ files: 200 }), join(folder, name), { chunkSize });
  const [a, b] = [await build('a'), await build('b')];
  for (const file of ['meta', 'blob', 'table', 'record'] as const) {
    assert.deepEqual(readFileSync(a[file]), readFileSync(b[file]), file);
  }
  const small = await build('c', 4096);
  assert.deepEqual(readFileSync(small.blob), readFileSync(a.blob));
  assert.notEqual(small.read().id, a.read().id);
  await assert.rejects(build('d', 5000), /chunk size 5000/);
});

test('a tree without content', async (t) => {
  const layer = await buildLayer(sampleTree({ files: 0 }), tempDir(t));
  const table = new ChunkTable(readFileSync(layer.table));
  assert.deepEqual([table.count, table.blobSize], [0, 0]);
  checkMeta(new MemorySource(readFileSync(layer.meta)), table);
});
