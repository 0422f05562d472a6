// Checksums against the values of their specifications.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32c } from '../../src/bytes/crc32c.js';
import { xxh32 } from '../../src/bytes/xxh32.js';

const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1');

test('crc32c: the examples of RFC 3720 B.4, complemented', () => {
  const rows: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
    [ascii('123456789'), 0xe3069283],
  ];
  for (const [bytes, crc] of rows) assert.equal(~crc32c(bytes) >>> 0, crc);
});

test('crc32c goes on from a register', () => {
  const bytes = ascii('123456789');
  assert.equal(crc32c(bytes.subarray(4), crc32c(bytes.subarray(0, 4))), crc32c(bytes));
});

test('xxh32: short, 4-byte, 16-byte and longer inputs', () => {
  const rows: [string, number, number][] = [
    ['', 0, 0x02cc5d05],
    ['a', 0, 0x550d7456],
    ['abc', 0, 0x32d153ff],
    ['abcd', 0, 0xa3643705],
    ['Nobody inspects the spammish repetition', 0, 0xe2293b2f],
    ['', 1, 0x0b2cb792],
  ];
  for (const [text, seed, hash] of rows) assert.equal(xxh32(ascii(text), seed), hash, text);
});
