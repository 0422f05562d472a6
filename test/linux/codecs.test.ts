// Decompression by the system's libraries: against Node's and hand-made streams, whole and in part, and of nonsense.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import {
  type Decompress,
  inflateRaw,
  lz4Decompress,
  microlzmaDecompress,
  zstdDecompress,
} from '../../src/linux/codecs.js';

const text = Buffer.from('the same text again, the same text again, the same text again');

/** Streams of `text`: lz4, zstd 1.5 and xz 5.4 (MicroLZMA) wrote them. */
const streams: [string, Decompress, Uint8Array][] = [
  ['deflate', inflateRaw, deflateRawSync(text)],
  [
    'lz4',
    lz4Decompress,
    // 21 literals, then 35 bytes from 21 before, then the last five.
    Buffer.concat([
      Uint8Array.of(0xff, 21 - 15),
      text.subarray(0, 21),
      Uint8Array.of(21, 0, text.length - 26 - 4 - 15),
      Uint8Array.of(0x50),
      text.subarray(-5),
    ]),
  ],
  [
    'zstd',
    zstdDecompress,
    // Frame header: single segment, size in one byte; one raw block.
    Buffer.concat([
      Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, text.length),
      Uint8Array.of(((text.length << 3) | 1) & 255, (text.length << 3) >> 8, 0),
      text,
    ]),
  ],
];

for (const [name, decompress, stream] of streams) {
  test(`${name}: whole, in part, at offsets, and refused`, () => {
    const src = Buffer.concat([Buffer.alloc(3), stream, Buffer.alloc(2)]);
    const run = (size: number, partial: boolean, length = stream.length): Buffer | false => {
      const dst = Buffer.alloc(size + 20, 0xee);
      if (!decompress(src, 3, length, dst, 7, size, partial)) return false;
      assert.deepEqual(dst.subarray(0, 7), Buffer.alloc(7, 0xee));
      assert.deepEqual(dst.subarray(7 + size), Buffer.alloc(13, 0xee));
      return dst.subarray(7, 7 + size);
    };
    assert.deepEqual(run(text.length, false), text);
    assert.deepEqual(run(text.length, true), text);
    assert.deepEqual(run(30, true), text.subarray(0, 30));
    assert.equal(run(30, false), false, 'more is there');
    assert.equal(run(text.length + 5, false), false, 'less is there');
    assert.equal(run(text.length + 5, true), false, 'less is there');
    assert.equal(run(text.length, false, stream.length - 3), false, 'the stream is cut off');
    assert.deepEqual(run(text.length, false), text, 'nothing is left of the failures');
  });
}

test('memory shared with other threads will do', () => {
  const [, decompress, stream] = streams[1] as (typeof streams)[number];
  const src = new Uint8Array(new SharedArrayBuffer(200), 50);
  src.set(stream, 4);
  const dst = new Uint8Array(new SharedArrayBuffer(200), 30);
  assert.equal(decompress(src, 4, stream.length, dst, 1, text.length, false), true);
  assert.deepEqual(Buffer.from(dst.subarray(1, 1 + text.length)), text);
});

test('nonsense is refused by every codec', () => {
  const src = Buffer.alloc(5000, 0xa7);
  const dst = Buffer.alloc(100_000);
  const codecs = [lz4Decompress, zstdDecompress, inflateRaw, microlzmaDecompress(65536)];
  for (const codec of codecs) {
    for (const partial of [false, true]) {
      assert.equal(codec(src, 0, 5000, dst, 0, 100_000, partial), false);
    }
  }
});
