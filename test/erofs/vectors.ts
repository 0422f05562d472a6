// Small images of the same tree, made by mkfs.erofs 1.9.3 (`legacy` by 1.5) with different options: what needs no mkfs.erofs.
// Read by vectors.test.ts and by the fuzz target. vectors/images.br is their concatenation, compressed by Brotli: for each
// 28 bytes of name, a u32 length, the image. vectors/tree.txt is the listing of the tree.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';

// From dist/test/erofs/ to the sources.
const folder = fileURLToPath(new URL('../../../test/erofs/vectors/', import.meta.url));

/** Name -> image; fresh copies, for those who change them. */
export function imageVectors(): Map<string, Uint8Array> {
  const all = brotliDecompressSync(readFileSync(`${folder}images.br`));
  const images = new Map<string, Uint8Array>();
  for (let at = 0; at < all.length; ) {
    const name = all.toString('latin1', at, at + 28).replace(/\0+$/, '');
    const length = all.readUInt32LE(at + 28);
    images.set(name, Uint8Array.from(all.subarray(at + 32, at + 32 + length)));
    at += 32 + length;
  }
  return images;
}

/** Lines of listing.ts, as far as they are the same in all images. */
export function treeLines(): string[] {
  return readFileSync(`${folder}tree.txt`, 'utf8').trimEnd().split('\n');
}

/** A line of listing.ts without what depends on how the image was made: numbers, blocks, sizes of directories. */
export function withoutPlaces(line: string): string {
  return line
    .replace(/ ino=\d+/, '')
    .replace(/ \(\d+\)/, '')
    .replace(/ (4\d{4} \d+ \d+:\d+) \d+/, ' $1');
}
