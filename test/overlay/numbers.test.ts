// Keys of filesystems and the numbers made of them: the same in every stack, unique, never 0 or the root's.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mapMemory, scratch, u8 } from '../../src/linux/memory.js';
import {
  fold,
  keyOf,
  keyOfUuid,
  keysOf,
  number,
  ROOT_INO,
  type Space,
  shown,
  uuidIdentity,
} from '../../src/overlay/numbers.js';

mapMemory();

/** Identity number `i` of many that have nothing in common. */
function identity(i: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (let k = 0; k < 4; k++) view.setUint32(4 * k, Math.imul(i * 4 + k + 1, 0x9e3779b1), true);
  return uuidIdentity(bytes);
}

const space = (id: Uint8Array, place = 'a', wide = 0): Space => ({ identity: id, place, wide });

/** Two identities whose keys are equal: found by trying. */
function colliding(): readonly [Uint8Array, Uint8Array] {
  const seen = new Map<number, number>();
  for (let i = 0; ; i++) {
    const other = seen.get(keyOf(identity(i)));
    if (other !== undefined) return [identity(other), identity(i)];
    seen.set(keyOf(identity(i)), i);
  }
}

test('a key depends on the identity alone: not on the other filesystems, nor on the order', () => {
  const spaces = Array.from({ length: 40 }, (_, i) => space(identity(i), `place ${i}`));
  const keys = keysOf(spaces);
  for (const [i, { identity }] of spaces.entries()) assert.equal(keys[i], keyOf(identity));
  assert.deepEqual(keysOf([...spaces].reverse()), [...keys].reverse());
  assert.deepEqual(keysOf(spaces.slice(7, 9)), keys.slice(7, 9));
  assert.equal(new Set(keys).size, 40);
});

test('keys have 21 bits, are never 0, and are spread over all of them', () => {
  const buckets = new Array<number>(64).fill(0);
  for (let i = 0; i < 64_000; i++) {
    const key = keyOf(identity(i));
    assert.ok(key > 0 && key < 2 ** 21);
    buckets[key >>> 15] = (buckets[key >>> 15] ?? 0) + 1;
  }
  // 1,000 each, standard deviation 31.
  for (const n of buckets) assert.ok(n > 840 && n < 1160, `${n}`);
});

test('folders of one filesystem share its key, copies of a filesystem do not', () => {
  const [a] = [identity(1)];
  const keys = keysOf([space(a, '8:1'), space(a, '8:1'), space(a, '8:2'), space(a, '8:1')]);
  assert.equal(keys[0], keyOf(a));
  assert.equal(keys[1], keys[0]);
  assert.equal(keys[3], keys[0]);
  assert.notEqual(keys[2], keys[0]);
  // A further copy behind them changes none of the others.
  assert.deepEqual(keysOf([space(a, '8:1'), space(a, '8:2'), space(a, '8:3')]).slice(0, 2), [
    keys[0],
    keys[2],
  ]);
});

test('of two identities with one key the greater takes another, in any order', () => {
  const [a, b] = colliding();
  assert.equal(keyOf(a), keyOf(b));
  const keys = keysOf([space(a), space(b)]);
  assert.notEqual(keys[0], keys[1]);
  const greater = Buffer.compare(a, b) > 0 ? 0 : 1;
  assert.equal(keys[1 - greater], keyOf(a));
  assert.notEqual(keys[greater], keyOf(a));
  assert.deepEqual(keysOf([space(b), space(a)]), [...keys].reverse());
});

test('where numbers have more than 32 bits, keys differ above those', () => {
  const near: Uint8Array[] = [];
  for (let i = 0; near.length < 2; i++) {
    if (keyOf(identity(i)) >>> 8 === keyOf(identity(0)) >>> 8) near.push(identity(i));
  }
  const [a, b] = near as [Uint8Array, Uint8Array];
  const [x = 0, y = 0] = keysOf([space(a, 'a', 8), space(b, 'b')]);
  assert.notEqual(x >>> 8, y >>> 8);
  // They would do for numbers of 32 bits.
  assert.deepEqual(keysOf([space(a), space(b)]), [keyOf(a), keyOf(b)]);
});

test('500 wide filesystems all find their place', () => {
  const spaces = Array.from({ length: 500 }, (_, i) => space(identity(i), 'a', 20));
  assert.equal(new Set(keysOf(spaces).map((key) => key >>> 8)).size, 500);
});

test('a number is its own with the key above it, and comes back by the same', () => {
  for (const [lo, hi] of [
    [2, 0],
    [0xffffffff, 0],
    [128, 0x12345678],
    [0, 0x80000000],
  ] as const) {
    number(0x1fffff, lo, hi);
    assert.equal(shown.lo, lo);
    assert.equal((shown.hi ^ 0x1fffff) >>> 0, hi);
    if (hi === 0) assert.ok(shown.hi * 2 ** 32 + shown.lo <= Number.MAX_SAFE_INTEGER);
  }
});

test('no object shows 0, nor the number of the root', () => {
  for (const lo of [0, ROOT_INO]) {
    number(0x155, lo, 0x155);
    assert.equal(shown.lo, lo);
    assert.notEqual(shown.hi, 0);
  }
  assert.equal(fold(ROOT_INO, 0), ROOT_INO);
  for (let hi = 1; hi < 1000; hi++) {
    const zero = Math.imul(hi, 0x9e3779b1) >>> 0;
    for (const lo of [zero, (zero ^ 1) >>> 0]) assert.ok(fold(lo, hi) > ROOT_INO);
  }
});

test('folded numbers of one filesystem stay apart', () => {
  const folded = new Set<number>();
  for (let lo = 2; lo < 50_000; lo++) folded.add(fold(lo, 0xabcde));
  assert.equal(folded.size, 49_998);
});

test('the key that a UUID in memory has is that of its identity', () => {
  const at = scratch + 0x20000;
  // More than are kept, twice.
  for (let i = 0; i < 400; i++) {
    const id = identity(i % 200);
    u8.set(id.subarray(0, 16), at);
    assert.equal(keyOfUuid(at, 0, 0), keyOf(id));
    assert.equal(keyOfUuid(at, 7, i), keyOf(uuidIdentity(id.subarray(0, 16), 7, i)));
  }
});
