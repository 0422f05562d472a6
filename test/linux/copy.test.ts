// copyFile: content, holes and sizes, on the filesystems at hand, through each of its ways.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { copyFile, copyRange } from '../../src/linux/copy.js';
import { E } from '../../src/linux/errno.js';
import { mapMemory } from '../../src/linux/memory.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

mapMemory();
const KiB = 1024;

/** Data at 0, 300 KiB (odd length) and before the end, holes between and after. */
function sparse(path: string): number {
  const size = 2_000_001;
  const fd = fs.openSync(path, 'w');
  fs.writeSync(fd, Buffer.alloc(5000, 'a'), 0, 5000, 0);
  fs.writeSync(fd, Buffer.alloc(70_001, 'b'), 0, 70_001, 300 * KiB);
  fs.writeSync(fd, Buffer.alloc(10, 'c'), 0, 10, 1_500_000);
  fs.ftruncateSync(fd, size);
  fs.closeSync(fd);
  return size;
}

function copy(from: string, to: string, size = fs.statSync(from).size, sync = false): number {
  const a = fs.openSync(from, 'r');
  const b = fs.openSync(to, 'w');
  try {
    return copyFile(a, b, size, sync);
  } finally {
    fs.closeSync(a);
    fs.closeSync(b);
  }
}

test('a sparse file stays sparse, here', (t) => {
  const d = tempDir(t);
  const size = sparse(join(d, 'a'));
  assert.equal(copy(join(d, 'a'), join(d, 'b'), size, true), size);
  assert.ok(fs.readFileSync(join(d, 'b')).equals(fs.readFileSync(join(d, 'a'))));
  assert.ok(fs.statSync(join(d, 'b')).blocks <= fs.statSync(join(d, 'a')).blocks + 16);
});

test('empty, all hole, and no more than asked for', (t) => {
  const d = tempDir(t);
  fs.writeFileSync(join(d, 'empty'), '');
  assert.equal(copy(join(d, 'empty'), join(d, 'b')), 0);
  fs.truncateSync(join(d, 'empty'), 10_000_000);
  assert.equal(copy(join(d, 'empty'), join(d, 'hole')), 10_000_000);
  assert.equal(fs.statSync(join(d, 'hole')).size, 10_000_000);
  assert.ok(fs.statSync(join(d, 'hole')).blocks < 100);
  fs.writeFileSync(join(d, 'long'), '0123456789');
  assert.equal(copy(join(d, 'long'), join(d, 'part'), 4), 4);
  assert.equal(fs.readFileSync(join(d, 'part'), 'latin1'), '0123');
});

const other = requires({ root: true, features: ['tmpfs'] });
test('across filesystems, both ways', { skip: other }, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'tmpfs'));
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(d, 'tmpfs')]);
  const size = sparse(join(d, 'a'));
  assert.equal(copy(join(d, 'a'), join(d, 'tmpfs/b')), size);
  assert.equal(copy(join(d, 'tmpfs/b'), join(d, 'c')), size);
  assert.ok(fs.readFileSync(join(d, 'c')).equals(fs.readFileSync(join(d, 'a'))));
  assert.ok(fs.statSync(join(d, 'c')).blocks < 1000);
});

test('a full filesystem is ENOSPC', { skip: other }, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'tmpfs'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', join(d, 'tmpfs')]);
  fs.writeFileSync(join(d, 'a'), Buffer.alloc(200 * KiB, 'x'));
  assert.equal(copy(join(d, 'a'), join(d, 'tmpfs/b')), -E.NOSPC);
});

for (const [feature, mkfs, words] of [
  ['xfs', 'mkfs.xfs', ['-q']],
  ['btrfs', 'mkfs.btrfs', ['-q']],
] as const) {
  const skip = requires({ root: true, features: [feature, 'loop'], commands: [mkfs] });
  test(`a reflink on ${feature}`, { skip }, (t) => {
    const d = tempDir(t);
    fs.writeFileSync(join(d, 'image'), '');
    fs.truncateSync(join(d, 'image'), 400 << 20);
    execFileSync(mkfs, [...words, join(d, 'image')]);
    fs.mkdirSync(join(d, 'm'));
    const mounted = spawnSync('mount', ['-o', 'loop', join(d, 'image'), join(d, 'm')]);
    if (mounted.status !== 0) {
      t.skip(`this machine does not mount ${feature}`);
      return;
    }
    fs.writeFileSync(join(d, 'm/a'), Buffer.alloc(100 << 20, 'x'));
    execFileSync('sync', ['-f', join(d, 'm')]);
    const free = fs.statfsSync(join(d, 'm')).bfree;
    assert.equal(copy(join(d, 'm/a'), join(d, 'm/b')), 100 << 20);
    const after = fs.statfsSync(join(d, 'm'));
    assert.ok((free - after.bfree) * after.bsize < 20 << 20, 'the copy shares its blocks');
    // Shorter than the source: the rest of the clone is cut off.
    assert.equal(copy(join(d, 'm/a'), join(d, 'm/c'), 5), 5);
    assert.equal(fs.statSync(join(d, 'm/c')).size, 5);
  });
}

test('a range, to another offset, and past the end', (t) => {
  const d = tempDir(t);
  fs.writeFileSync(join(d, 'a'), '0123456789');
  const a = fs.openSync(join(d, 'a'), 'r');
  const b = fs.openSync(join(d, 'b'), 'w+');
  assert.equal(copyRange(a, 2, b, 4, 3), 3);
  assert.equal(copyRange(a, 8, b, 0, 100), 2);
  assert.equal(copyRange(a, 20, b, 0, 100), 0);
  assert.equal(fs.readFileSync(join(d, 'b'), 'latin1'), '89\0\x00234');
  assert.equal(copyRange(a, 0, a, 0, 100), -E.BADF);
  fs.closeSync(a);
  fs.closeSync(b);
});
