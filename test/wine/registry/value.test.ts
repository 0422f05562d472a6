// The data of values: what Wine makes of each form, and the form that it writes itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decodeValue, encodeValue, isSameData } from '../../../src/wine/registry/value.js';

for (const [data, typeName, hex, text] of [
  ['"a\\"\\x20ac"', 'REG_SZ', '61002200ac200000', 'a"€'],
  ['""', 'REG_SZ', '0000', ''],
  ['str:"a"', 'REG_SZ', '61000000', 'a'],
  ['str(2):"%a%"', 'REG_EXPAND_SZ', '2500610025000000', '%a%'],
  ['str(7):"a\\0b\\0"', 'REG_MULTI_SZ', '61000000620000000000', 'a\0b'],
  ['str(7):""', 'REG_MULTI_SZ', '0000', ''],
  ['dword:0000002A', 'REG_DWORD', '2a000000', undefined],
  ['dword:', 'REG_DWORD', '00000000', undefined],
  ['dword:-1', 'REG_DWORD', 'ffffffff', undefined],
  ['dword:1ffffffff', 'REG_DWORD', 'ffffffff', undefined],
  ['hex:', 'REG_BINARY', '', undefined],
  ['hex:1,2 , ff', 'REG_BINARY', '0102ff', undefined],
  ['hex:01,\\\n  02,\\\n\t03', 'REG_BINARY', '010203', undefined],
  ['hex(0):', 'REG_NONE', '', undefined],
  ['hex(1):61,00', 'REG_SZ', '6100', 'a'],
  ['hex(1):61', 'REG_SZ', '61', undefined],
  ['hex(6):5c,00', 'REG_LINK', '5c00', '\\'],
  ['hex(b):01,00,00,00,00,00,00,00', 'REG_QWORD', '0100000000000000', undefined],
  ['hex(fffff001):01', 'REG_fffff001', '01', undefined],
] as const) {
  test(`data ${JSON.stringify(data)}`, () => {
    const value = decodeValue(data);
    assert.equal(value.typeName, typeName);
    assert.equal(value.bytes.toString('hex'), hex);
    assert.equal(value.text, text);
    const again = encodeValue(value.type, value.bytes);
    assert.ok(isSameData(data, again), again);
    assert.equal(encodeValue(value.type, decodeValue(again).bytes), again);
  });
}

for (const data of [
  '',
  '-',
  'x',
  '"a',
  '"a\\"',
  'hex:1ff',
  'hex:0g',
  'hex(1:61',
  'hex:01,\\',
  'hex:,1',
  'str(3):"a"',
  'qword:1',
]) {
  test(`no data that Wine knows: ${data}`, () => {
    assert.deepEqual(decodeValue(data), { type: 0, typeName: 'REG_NONE', bytes: Buffer.alloc(0) });
  });
}

test('text of each type is written as Wine does', () => {
  assert.equal(encodeValue(1, 'é1'), '"\\xe91"'.replace('xe91', 'x00e91'));
  assert.equal(encodeValue(2, '%a%'), 'str(2):"%a%"');
  assert.equal(encodeValue(7, 'a\0b'), 'str(7):"a\\0b\\0"');
  assert.equal(encodeValue(7, ''), 'str(7):""');
  assert.equal(encodeValue(6, '\\R'), 'hex(6):5c,00,52,00');
  assert.equal(encodeValue(4, Uint8Array.of(1, 2)), 'hex(4):01,02');
});

test('bytes break into lines where Wine breaks them', () => {
  const bytes = Uint8Array.from({ length: 60 }, (_, i) => i);
  assert.equal(
    encodeValue(3, bytes, 'long'),
    'hex:00,01,02,03,04,05,06,07,08,09,0a,0b,0c,0d,0e,0f,10,11,12,13,14,15,\\\n' +
      '  16,17,18,19,1a,1b,1c,1d,1e,1f,20,21,22,23,24,25,26,27,28,29,2a,2b,2c,2d,2e,\\\n' +
      '  2f,30,31,32,33,34,35,36,37,38,39,3a,3b',
  );
});

test('any bytes of any type come back', () => {
  fc.assert(
    fc.property(fc.nat(12), fc.uint8Array({ maxLength: 80 }), fc.string(), (type, bytes, name) => {
      const value = decodeValue(encodeValue(type, bytes, name));
      assert.equal(value.type, type);
      assert.deepEqual(new Uint8Array(value.bytes), bytes);
    }),
  );
});

test('any text comes back', () => {
  const text = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(fc.constantFrom(1, 2, 6), text, (type, text) => {
      assert.equal(decodeValue(encodeValue(type, text)).text, text);
    }),
  );
});
