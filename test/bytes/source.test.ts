// Byte sources: exact reads, and a named refusal of everything else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemorySource, requireRange } from '../../src/bytes/source.js';

test('memory reads exactly what is asked', () => {
  const source = new MemorySource(Uint8Array.of(1, 2, 3, 4));
  const out = new Uint8Array(2);
  source.read(1, out);
  assert.deepEqual([...out], [2, 3]);
  source.read(4, new Uint8Array(0));
});

for (const [at, length] of [
  [3, 2],
  [5, 0],
  [-1, 1],
  [2 ** 60, 1],
  [0.5, 1],
] as const) {
  test(`${length} bytes at ${at} of 4 are refused`, () => {
    assert.throws(() => new MemorySource(new Uint8Array(4)).read(at, new Uint8Array(length)), {
      name: 'RangeError',
      message: /the source has 4/,
    });
  });
}

test('a range at the end is within', () => requireRange(4, 0, 4));
