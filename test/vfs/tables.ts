// What the tests of the shared tables have in common: generators of names, reading bytes back.
// Used by test/vfs and test/layer.

import fc from 'fast-check';
import { getBytes } from '../../src/linux/memory.js';

/** A file name as Latin-1: 1 to 255 bytes without NUL and slash, often short, often one of few. */
export const nameText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'd', 'e', '\xff', '\xc3\xbc', 'x'.repeat(255)),
  fc
    .uint8Array({ min: 1, minLength: 1, maxLength: 255 })
    .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll('/', '_')),
);

export function bytesOf(at: number, length: number): string {
  return getBytes(at, length);
}
