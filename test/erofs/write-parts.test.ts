// Parts of the writer on their own: options as text, what cannot be combined, index bytes, the queue of the threads.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Queue } from '../../src/erofs/compress-queue.js';
import {
  EXTENT_FRAGMENT,
  EXTENT_RAW,
  encodeIndex,
  indexBytes,
  isContiguous,
} from '../../src/erofs/index-encode.js';
import { directorySize } from '../../src/erofs/plan-dir.js';
import { type BuildOptions, parseCompression, settle } from '../../src/erofs/write-options.js';

test('compressions as text', () => {
  const rows: readonly [string, unknown][] = [
    ['none', undefined],
    ['lz4', { method: 'lz4' }],
    ['lz4hc,12', { method: 'lz4hc', level: 12 }],
    ['zstd:19', { method: 'zstd', level: 19 }],
    ['lzma,level=9', { method: 'lzma', level: 9 }],
  ];
  for (const [given, expected] of rows) assert.deepEqual(parseCompression(given), expected);
  for (const bad of ['', 'lz5', 'lz4,', 'zstd,x', 'lz4hc,9,9', 'toString']) {
    assert.throws(() => parseCompression(bad), /unknown compression .* known are none, lz4/, bad);
  }
});

test('options that make no image', () => {
  const rows: readonly [BuildOptions, RegExp][] = [
    [{ compression: [{ method: 'lz4hc', level: 13 }] }, /lz4hc has no level 13/],
    [{ compression: [{ method: 'lzma', level: 50 }] }, /lzma has no level 50/],
    [{ pclusterSize: 5000 }, /pcluster size 5000 is no multiple of 4096/],
    [{ pclusterSize: 2 << 20 }, /up to 1 MiB/],
    [{ chunkSize: 6000 }, /chunk size 6000 is no power of two/],
    [{ chunkSize: 4096, compression: [{ method: 'lz4' }] }, /chunks are not compressed/],
    [{ blob: 'x' }, /needs a chunk size/],
    [{ tailPacking: true }, /need a compression/],
    [{ fragments: 'all' }, /need a compression/],
    [{ uuid: new Uint8Array(15) }, /16 bytes/],
    [{ volumeName: '12345678901234567' }, /longer than 16/],
    [{ uid: -1 }, /-1 is no uid/],
    [{ time: 0.5 }, /no whole number/],
    [{ xattrPrefixes: Array(129).fill('user.x') }, /more than 128/],
  ];
  for (const [options, message] of rows) assert.throws(() => settle(options), message);
});

test('directories: entries do not cross blocks', () => {
  assert.equal(directorySize(['.', '..']), 12 * 2 + 3);
  const long = 'n'.repeat(255);
  // 15 entries of 267 bytes take 4005 of 4096.
  assert.equal(directorySize(Array(15).fill(long)), 4005);
  assert.equal(directorySize(Array(16).fill(long)), 4096 + 267);
});

/** Bytes of an index as hex: header, and entries in packs. */
function encode(
  size: number,
  extents: readonly number[],
  more: { isBig?: boolean; isFull?: boolean; fragmentAt?: number },
): string {
  const bytes = Buffer.alloc(indexBytes(32, size, more.isFull === true));
  const file = {
    size,
    extents: Uint32Array.from(extents),
    algorithm: 0,
    isBig: more.isBig === true,
    inlineSize: 0,
    fragmentAt: more.fragmentAt,
    isFull: more.isFull === true,
  };
  encodeIndex(file, 32, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
  return bytes.toString('hex');
}

test('indexes: full, compact, with big pclusters', () => {
  // 10000 bytes in a pcluster at block 5, then 2288 bytes uncompressed at block 6: lclusters head, nonhead, head at 1808.
  const extents = [10_000, 1, 5, 2288 | EXTENT_RAW, 1, 6];
  const header = '0000000000000000';
  assert.equal(
    encode(12_288, extents, { isFull: true }),
    `${header}${'00'.repeat(8)}` +
      '01000000' +
      '05000000' +
      '02000000' +
      '01000100' +
      '00001007' +
      '06000000',
  );
  // Entries of 16 bits, type and low 12 bits; behind each pair the block before its first head.
  const compact = '0000000001000000';
  assert.equal(
    encode(12_288, extents, {}),
    `${compact}0010${'0120'}04000000` + `1007${'0000'}05000000`,
  );
  // With big pclusters the entry behind the head holds its blocks, and the pair begins at its own.
  const big = '0000000007000000';
  assert.equal(
    encode(12_288, [12_288, 2, 5], { isBig: true }),
    `${big}0010022805000000` + `02200000${'07000000'}`,
  );
});

test('a fragment beyond 4 GiB: the upper half of its place stands in its head', () => {
  // A pcluster of 10000 bytes, then 2288 bytes in the packed file.
  const extents = [10_000, 1, 5, 2288 | EXTENT_FRAGMENT, 0, 6];
  assert.equal(
    encode(12_288, extents, { isFull: true, fragmentAt: 3 * 2 ** 32 + 0x1234 }),
    `${'34120000'}${'20000000'}${'00'.repeat(8)}01000000050000000200000001000100${'01001007'}${'03000000'}`,
  );
});

test('pclusters one behind the other', () => {
  assert.equal(isContiguous(Uint32Array.from([5000, 1, 7, 5000, 2, 8, 5000, 1, 10])), true);
  assert.equal(isContiguous(Uint32Array.from([5000, 1, 7, 5000, 1, 7])), false);
});

test('the queue gives slots in order, and ends', () => {
  const memory = Queue.memory(3);
  const queue = new Queue(memory);
  const worker = new Queue(memory);
  for (const slot of [2, 0, 1]) queue.post(slot);
  assert.equal(worker.take(), 2);
  assert.equal(queue.isDone(2), false);
  worker.finish(2);
  assert.equal(queue.isDone(2), true);
  queue.post(2);
  assert.equal(queue.isDone(2), false);
  assert.deepEqual([worker.take(), worker.take(), worker.take()], [0, 1, 2]);
  queue.close();
  assert.equal(worker.take(), -1);
});
