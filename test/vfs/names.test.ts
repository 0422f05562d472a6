import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mapMemory, putBytes, scratch, u8 } from '../../src/linux/memory.js';
import { NAMES, NAMES_SIZE } from '../../src/vfs/layout.js';
import {
  allocName,
  freeName,
  hashName,
  nameAt,
  nameEquals,
  nameLength,
} from '../../src/vfs/names.js';
import { bytesOf, nameText } from './tables.js';

mapMemory();
/** Where a test puts a name before it hands it in. */
const at = scratch + 0x10000;

function alloc(text: string): number {
  return allocName(at, putBytes(at, text));
}

test('a name comes back byte for byte, NUL-terminated, at every length', () => {
  for (let length = 1; length <= 255; length++) {
    const text = Array.from({ length }, (_, i) =>
      String.fromCharCode(1 + ((i * 7 + length) % 255)),
    ).join('');
    const ref = alloc(text);
    assert.ok(ref > 0);
    assert.equal(nameLength(ref), length);
    assert.equal(bytesOf(nameAt(ref), length), text);
    assert.equal(u8[nameAt(ref) + length], 0);
    freeName(ref);
  }
});

test('reference 0 is no name, and freeing it does nothing', () => {
  freeName(0);
  assert.notEqual(alloc('a'), 0);
});

test('equality needs the same length and the same bytes', () => {
  const ref = alloc('abc');
  const equals = (text: string) => nameEquals(ref, at, putBytes(at, text));
  assert.equal(equals('abc'), true);
  assert.equal(equals('ab'), false);
  assert.equal(equals('abcd'), false);
  assert.equal(equals('abd'), false);
  freeName(ref);
});

test('live names never share memory and keep their bytes, whatever is freed between', () => {
  // Each step allocates, or frees the live name at that position.
  const step = fc.oneof(nameText, fc.nat());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const live = new Map<number, string>();
      for (const s of steps) {
        if (typeof s === 'string') {
          const ref = alloc(s);
          assert.equal(live.has(ref), false);
          live.set(ref, s);
        } else if (live.size > 0) {
          const ref = [...live.keys()][s % live.size];
          freeName(ref);
          live.delete(ref);
        }
      }
      let end = 0;
      for (const [ref, text] of [...live].sort(([a], [b]) => a - b)) {
        const start = nameAt(ref) - 1;
        assert.ok(start >= end && start >= NAMES);
        end = start + text.length + 2;
        assert.ok(end <= NAMES + NAMES_SIZE);
        assert.equal(bytesOf(nameAt(ref), nameLength(ref)), text);
      }
      for (const ref of live.keys()) freeName(ref);
    }),
  );
});

test('freed room is used again: many rounds need no more than one', () => {
  const texts = Array.from({ length: 100 }, (_, i) => 'x'.repeat(1 + ((i * 37) % 255)));
  const highest = () => {
    const refs = texts.map(alloc);
    const max = Math.max(...refs);
    for (const ref of refs) freeName(ref);
    return max;
  };
  const first = highest();
  for (let i = 0; i < 50; i++) assert.ok(highest() <= first);
});

test('a hash depends on every byte, the length and the directory, and is a u32', () => {
  const hash = (seed: number, text: string) => hashName(seed, at, putBytes(at, text));
  fc.assert(
    fc.property(fc.nat(), nameText, (seed, text) => {
      const h = hash(seed, text);
      assert.ok(Number.isInteger(h) && h >= 0 && h < 2 ** 32);
      assert.equal(h, hash(seed, text));
    }),
  );
  const seen = new Set<number>();
  for (let i = 0; i < 20_000; i++) seen.add(hash(1, `file${i}`));
  // A perfect 32-bit hash of 20,000 names collides 0.05 times.
  assert.ok(seen.size > 19_990, `${20_000 - seen.size} collisions`);
});
