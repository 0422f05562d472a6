// Random access to compressed streams: from any checkpoint the same bytes come as from the beginning.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  type ChunkRecord,
  ChunkTable,
  Codec,
  encodeChunkTable,
} from '../../src/lazy/chunk-table.js';
import { CheckpointReader } from '../../src/lazy/tar/checkpoint-reader.js';
import { CheckpointError, Checkpoints } from '../../src/lazy/tar/checkpoints.js';
import { type Compression, indexWindow } from '../../src/lazy/tar/index-window.js';
import { mapMemory } from '../../src/linux/memory.js';
import { gunzipPrefix } from '../../src/linux/zran.js';
import { ZstdFrames } from '../../src/linux/zstd-frame.js';
import { FileWindow } from '../../src/tree/window.js';
import { type Cleanup, tempDir } from '../support/temp.js';
import { mixed, sha256 } from './tar-image.js';

mapMemory();

function indexOf(t: Cleanup, compression: Compression, packed: Buffer, spacing: number) {
  const path = join(tempDir(t), 'stream');
  writeFileSync(path, packed);
  const fd = openSync(path, 'r');
  const input = new FileWindow(fd, 'stream');
  const window = indexWindow(compression, input, spacing);
  try {
    const [digest] = window.digests();
    return { digest, checkpoints: window.checkpoints(packed.length) };
  } finally {
    window.close();
    input.close();
    closeSync(fd);
  }
}

/** A table of chunks that lie one behind the other in the stream. */
function tableOf(content: Buffer, chunkSize: number): ChunkTable {
  const records: ChunkRecord[] = [];
  for (let at = 0; at < content.length; at += chunkSize) {
    const length = Math.min(chunkSize, content.length - at);
    const digest = Buffer.from(sha256(content.subarray(at, at + length)), 'hex');
    const where = { stored: 0, from: at, skip: 0, origin: 0, codec: Codec.CHECKPOINT };
    records.push({ at, length, ...where, digest });
  }
  const size = Math.ceil(content.length / 4096) * 4096;
  return new ChunkTable(encodeChunkTable(records, size, 1, new Uint8Array(32)));
}

/** Decodes chunks through the checkpoints and compares them. */
function readEverywhere(packed: Buffer, content: Buffer, checkpoints: Uint8Array): void {
  const reader = new CheckpointReader(checkpoints);
  const read = (table: ChunkTable, wanted: number[], most: number): void => {
    const left = new Set(wanted);
    for (const span of reader.plan(table, wanted, most)) {
      const bytes = packed.subarray(span.at, span.at + span.length);
      reader.decode(table, span, bytes, span.chunks, (i, bytes_) => {
        const at = table.from(i);
        assert.ok(content.subarray(at, at + table.length(i)).equals(bytes_), `chunk ${i}`);
        left.delete(i);
      });
    }
    assert.equal(left.size, 0);
  };
  for (const chunkSize of [512 * 7, 131_072, 1 << 20]) {
    const table = tableOf(content, chunkSize);
    const all = Array.from({ length: table.count }, (_, i) => i);
    read(table, all, 1 << 20);
    read(table, all, 1);
    const step = Math.ceil(table.count / 25);
    for (let i = 0; i < table.count; i += step) read(table, [i], 1 << 16);
    read(
      table,
      all.filter((i) => i % 5 === 0),
      1 << 17,
    );
  }
  const longer = tableOf(Buffer.concat([content, Buffer.alloc(4096)]), 4096);
  assert.throws(() => reader.plan(longer, [longer.count - 1]), /behind its stream/);
}

const content = mixed(1_000_000, 5);

for (const level of [1, 2, 6, 9]) {
  test(`gzip -${level}: the same bytes from every checkpoint`, (t) => {
    const packed = spawnSync('gzip', [`-${level}`, '-c'], { input: content, maxBuffer: 1 << 26 });
    const { digest, checkpoints } = indexOf(t, 'gzip', packed.stdout, 20_000);
    assert.equal(digest, `sha256:${sha256(content)}`);
    assert.ok(checkpoints !== undefined && new Checkpoints(checkpoints).count > 3);
    readEverywhere(packed.stdout, content, checkpoints);
  });
}

test('several members, empty ones among them, and blocks that begin within a byte', (t) => {
  const cuts = [0, 0, 1, 70_000, 70_000, 500_001, 700_000, content.length];
  const parts = cuts
    .slice(1)
    .map((to, i) => gzipSync(content.subarray(cuts[i], to), { level: i + 1, memLevel: 1 }));
  for (const spacing of [1, 100_000]) {
    const packed = Buffer.concat(parts);
    const { digest, checkpoints } = indexOf(t, 'gzip', packed, spacing);
    assert.equal(digest, `sha256:${sha256(content)}`);
    assert.ok(checkpoints);
    readEverywhere(packed, content, checkpoints);
  }
});

test('stored blocks, and a stream that repeats itself over whole windows', (t) => {
  const repeated = Buffer.concat(Array.from({ length: 40 }, () => content.subarray(0, 32_700)));
  for (const packed of [gzipSync(content, { level: 0 }), gzipSync(repeated)]) {
    const whole = packed.length > content.length ? content : repeated;
    const { checkpoints } = indexOf(t, 'gzip', packed, 30_000);
    assert.ok(checkpoints);
    readEverywhere(packed, whole, checkpoints);
  }
});

test('zstd: a checkpoint at the frames; one frame has none that is worth anything', (t) => {
  const frames = new ZstdFrames(3);
  const parts: Buffer[] = [Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])];
  for (let at = 0; at < content.length; at += 65_536) {
    parts.push(Buffer.from(frames.compress(content.subarray(at, at + 65_536))));
  }
  frames.close();
  const packed = Buffer.concat(parts);
  const { digest, checkpoints } = indexOf(t, 'zstd', packed, 100_000);
  assert.equal(digest, `sha256:${sha256(content)}`);
  assert.ok(checkpoints !== undefined && new Checkpoints(checkpoints).count > 4);
  readEverywhere(packed, content, checkpoints);
  const zeros = spawnSync('sh', [
    '-c',
    'head -c 70000000 /dev/zero | zstd -1 -c 2>/dev/null || true',
  ]);
  if (zeros.stdout.length === 0) return;
  assert.equal(indexOf(t, 'zstd', zeros.stdout, 1 << 20).checkpoints, undefined);
});

test('damaged streams are refused', (t) => {
  const packed = gzipSync(content);
  const flipped = Buffer.from(packed);
  flipped[packed.length >> 1] = (flipped[packed.length >> 1] as number) ^ 0x55;
  assert.throws(() => indexOf(t, 'gzip', flipped, 1 << 20), /corrupt/);
  assert.throws(() => indexOf(t, 'gzip', packed.subarray(0, -9), 1 << 20), /too early/);
  assert.throws(() => gunzipPrefix(packed.subarray(0, 1000), content.length), /too early/);
  const start = gunzipPrefix(packed.subarray(0, packed.length >> 1), 100_000);
  assert.ok(content.subarray(0, 100_000).equals(start));
});

test('checkpoints with any byte changed: refused, or other bytes, never a crash', (t) => {
  // Invariant: what a stranger's checkpoints give is bytes of the wanted length or an error that says what is wrong.
  const packed = gzipSync(content.subarray(0, 400_000));
  const { checkpoints } = indexOf(t, 'gzip', packed, 50_000);
  assert.ok(checkpoints);
  const table = tableOf(content.subarray(0, 400_000), 61_440);
  let refused = 0;
  for (let k = 0; k < 600; k++) {
    const bad: Buffer = Buffer.from(checkpoints);
    const at = k < 300 ? k : (k * 7919) % bad.length;
    bad[at] = (bad[at] as number) ^ (1 << (k % 8));
    try {
      const other = new CheckpointReader(bad);
      for (const span of other.plan(table, [3, 4])) {
        if (span.at + span.length > packed.length) continue;
        const bytes = packed.subarray(span.at, span.at + span.length);
        other.decode(table, span, bytes, span.chunks, (i, given) => {
          assert.equal(given.length, table.length(i));
        });
      }
    } catch (error) {
      refused++;
      assert.ok(['CheckpointError', 'StreamError'].includes((error as Error).name), String(error));
    }
  }
  assert.ok(refused > 50, `${refused} refused`);
  assert.throws(() => new Checkpoints(checkpoints.subarray(0, 40)), CheckpointError);
});
