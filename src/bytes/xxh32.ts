// xxHash, 32 bits: a fast hash of short byte strings.
// Used for the xattr name filter of EROFS inodes, by reader and writer.
// Follows: the xxHash specification 0.1.1, "XXH32 algorithm description".

const PRIME1 = 0x9e3779b1;
const PRIME2 = 0x85ebca77;
const PRIME3 = 0xc2b2ae3d;
const PRIME4 = 0x27d4eb2f;
const PRIME5 = 0x165667b1;

const rotl = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits));

function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  );
}

const round = (lane: number, input: number): number =>
  Math.imul(rotl((lane + Math.imul(input, PRIME2)) | 0, 13), PRIME1);

/** @returns the hash, unsigned. */
export function xxh32(bytes: Uint8Array, seed: number): number {
  const end = bytes.length;
  let at = 0;
  let h: number;
  if (end >= 16) {
    let a = (seed + PRIME1 + PRIME2) | 0;
    let b = (seed + PRIME2) | 0;
    let c = seed | 0;
    let d = (seed - PRIME1) | 0;
    for (; at + 16 <= end; at += 16) {
      a = round(a, word(bytes, at));
      b = round(b, word(bytes, at + 4));
      c = round(c, word(bytes, at + 8));
      d = round(d, word(bytes, at + 12));
    }
    h = (rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18)) | 0;
  } else {
    h = (seed + PRIME5) | 0;
  }
  h = (h + end) | 0;
  for (; at + 4 <= end; at += 4) {
    h = Math.imul(rotl((h + Math.imul(word(bytes, at), PRIME3)) | 0, 17), PRIME4);
  }
  for (; at < end; at++) {
    h = Math.imul(rotl((h + Math.imul(bytes[at] as number, PRIME5)) | 0, 11), PRIME1);
  }
  h = Math.imul(h ^ (h >>> 15), PRIME2);
  h = Math.imul(h ^ (h >>> 13), PRIME3);
  return (h ^ (h >>> 16)) >>> 0;
}
