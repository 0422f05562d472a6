// SHA-256 of bytes that are read piece by piece.
// Called wherever a file, an image or the content of a tree's file is named or checked by its digest.
// Follows: FIPS 180-4, by node:crypto.

import { createHash } from 'node:crypto';
import { type ByteSource, eachPiece } from './source.js';

/** Of the first `size` bytes of a source. @returns 32 bytes. @throws what its read() does. */
export function sha256Of(source: Pick<ByteSource, 'read'>, size: number): Buffer {
  const hash = createHash('sha256');
  eachPiece(source, 0, size, (piece) => hash.update(piece));
  return hash.digest();
}
