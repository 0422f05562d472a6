// Compressors: what they write comes back, fits, and depends on nothing but the input.
// The last is what makes images equal whatever thread compressed what.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { type Compressor, type Method, makeCompressor } from '../../src/linux/compressors.js';
import { allocate, nativeBytes } from '../../src/linux/native-memory.js';

const SIZE = 1 << 20;
const LARGE = 65536;
const SMALL = 4096;

const input = allocate(SIZE);
const output = allocate(LARGE);

/** Text with noise in it, so that the ratio changes from place to place. */
function fill(): void {
  const bytes = nativeBytes(input, SIZE);
  const noise = createHash('shake256', { outputLength: SIZE }).update('noise').digest();
  let text = '';
  for (let i = 0; text.length < SIZE; i++) text += `${i} line ${i * 7919} of a file\n`;
  bytes.set(Buffer.from(text.slice(0, SIZE), 'latin1'));
  for (let at = 0; at < SIZE; at += 40_000) {
    const length = (at / 40_000) * 900;
    bytes.set(noise.subarray(at, Math.min(SIZE, at + length)), at);
  }
}

/** The whole input as pclusters. @returns how much each took, and the bytes of all. */
function all(compressor: Compressor, capacity: number): string {
  const hash = createHash('sha256');
  compressor.begin();
  for (let at = 0; at < SIZE; ) {
    const written = compressor.compress(input + at, SIZE - at, output, capacity);
    assert.ok(written <= capacity);
    const taken = written === 0 ? Math.min(SIZE - at, capacity) : compressor.taken;
    assert.ok(taken > 0 && at + taken <= SIZE);
    hash.update(`${taken} `).update(nativeBytes(output, written));
    at += taken;
  }
  return hash.digest('hex');
}

const methods: readonly Method[] = ['lz4', 'lz4hc', 'zstd', 'deflate', 'lzma'];
for (const method of methods) {
  test(`${method}: the result depends on the input alone`, () => {
    fill();
    const options = {
      level: method === 'lz4' || method === 'lzma' ? 1 : 3,
      capacity: LARGE,
      window: 32768,
    };
    const fresh = (capacity: number): string => all(makeCompressor(method, options), capacity);
    const small = fresh(SMALL);
    const large = fresh(LARGE);
    assert.notEqual(small, large);
    const used = makeCompressor(method, options);
    assert.equal(all(used, LARGE), large);
    assert.equal(all(used, SMALL), small, 'after larger pclusters');
    assert.equal(all(used, LARGE), large, 'after smaller ones');
  });
}
