// Declared structs: what a table accepts, and that values and bytes agree both ways.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, i32, i64, narrow, pad, struct, u8, u16, u32, u64 } from '../../src/bytes/struct.js';

const Inner = struct('inner', 4, { low: [0, u16], high: [2, u16] });
const Outer = struct('outer', 40, {
  byte: [0, u8],
  unused: [1, pad(3)],
  signed: [4, i32],
  big: [8, u64],
  negative: [16, i64],
  inner: [24, Inner],
  tag: [28, bytes(4)],
  word: [32, u32],
  second: [36, Inner],
});

const value = {
  byte: 0xab,
  signed: -2,
  big: 0x0102030405060708n,
  negative: -1n,
  inner: { low: 1, high: 2 },
  tag: Uint8Array.of(0x74, 0x61, 0x67, 0),
  word: 0xfeedface,
  second: { low: 0xffff, high: 3 },
};
const hex =
  'ab000000 feffffff 0807060504030201 ffffffffffffffff 0100 0200 74616700 cefaedfe ffff 0300';

test('a value and its bytes, both ways', () => {
  const encoded = Outer.bytes(value);
  assert.equal(Buffer.from(encoded).toString('hex'), hex.replaceAll(' ', ''));
  assert.deepEqual(Outer.decode(new DataView(encoded.buffer)), value);
});

test('the type and the value leave padding out, offsets keep it', () => {
  const decoded = Outer.decode(new DataView(new ArrayBuffer(40)));
  assert.equal('unused' in decoded, false);
  assert.equal(Outer.at.unused, 1);
  assert.equal(Outer.at.second, 36);
});

test('fields that are not given become zero, and padding is cleared', () => {
  const buffer = new Uint8Array(48).fill(0xff);
  Outer.encode(new DataView(buffer.buffer), { word: 1, tag: Uint8Array.of(7) }, 4);
  const expected = `ffffffff ${'00'.repeat(28)} 07000000 01000000 00000000 ffffffff`;
  assert.equal(Buffer.from(buffer).toString('hex'), expected.replaceAll(' ', ''));
});

test('bytes of a field are a copy', () => {
  const buffer = Outer.bytes(value);
  const decoded = Outer.decode(new DataView(buffer.buffer));
  buffer.fill(0);
  assert.deepEqual([...decoded.tag], [0x74, 0x61, 0x67, 0]);
});

const rejected: [string, () => unknown, RegExp][] = [
  ['an overlap', () => struct('s', 6, { a: [0, u32], b: [2, u32] }), /s\.b at 2 overlaps/],
  ['a hole', () => struct('s', 12, { a: [0, u32], b: [8, u32] }), /unnamed hole from 4 to 8/],
  ['a short total', () => struct('s', 4, { a: [0, u64] }), /end at 8, declared size 4/],
  ['a long total', () => struct('s', 12, { a: [0, u64] }), /end at 8, declared size 12/],
  ['fields out of order', () => struct('s', 8, { b: [4, u32], a: [0, u32] }), /hole from 0 to 4/],
];
for (const [what, declare, message] of rejected) {
  test(`a table with ${what} does not load`, () => {
    assert.throws(declare, message);
  });
}

test('a struct that does not fit is refused, not read short', () => {
  const view = new DataView(new ArrayBuffer(39));
  assert.throws(() => Outer.decode(view), RangeError);
  assert.throws(() => Outer.decode(new DataView(new ArrayBuffer(48)), 9), RangeError);
  assert.throws(() => Outer.encode(view, value), RangeError);
  assert.throws(() => Inner.decode(new DataView(new ArrayBuffer(8)), -1), RangeError);
  assert.throws(
    () => Outer.bytes({ ...value, tag: new Uint8Array(5) }),
    /5 bytes for a field of 4/,
  );
});

test('a u64 is narrowed only while it is exact', () => {
  assert.equal(narrow(1n << 52n, 'size'), 2 ** 52);
  assert.throws(() => narrow(1n << 53n, 'size'), /size: 9007199254740992/);
  assert.throws(() => narrow(-1n, 'size'), RangeError);
});
