// SHA-256 of sources: the vectors of FIPS 180-4's examples, and sources of several pieces.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256Of } from '../../src/bytes/digest.js';
import { MemorySource } from '../../src/bytes/source.js';

const A_MILLION = 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0';

for (const [what, text, digest] of [
  ['nothing', '', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ['abc', 'abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  ['a million a', 'a'.repeat(1_000_000), A_MILLION],
] as const) {
  test(`${what} and its digest`, () => {
    const bytes = Buffer.from(text);
    assert.equal(sha256Of(new MemorySource(bytes), bytes.length).toString('hex'), digest);
  });
}

test('only the first bytes that are asked for count, over several pieces', () => {
  const sizes: number[] = [];
  const source = {
    read: (at: number, out: Uint8Array): void => {
      sizes.push(out.length);
      out.fill('a'.charCodeAt(0));
      assert.ok(at + out.length <= 9_000_000);
    },
  };
  const whole = sha256Of(new MemorySource(Buffer.alloc(9_000_000, 'a')), 9_000_000);
  assert.deepEqual(sha256Of(source, 9_000_000), whole);
  assert.ok(sizes.length > 1);
  assert.equal(sha256Of(source, 1_000_000).toString('hex'), A_MILLION);
});
