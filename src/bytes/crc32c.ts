// CRC-32C (Castagnoli), by table.
// Used for the superblock checksum of EROFS images, by reader and writer.
// Follows: RFC 3720 appendix B.4 (polynomial 0x1edc6f41, reflected 0x82f63b78).

const POLYNOMIAL = 0x82f63b78;

const TABLE = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
  TABLE[i] = c;
}

/**
 * @param crc the register to start from; all bits set by default
 * @returns the register, unsigned. The CRC of RFC 3720 is its complement; EROFS stores it as it is.
 */
export function crc32c(bytes: Uint8Array, crc = 0xffffffff): number {
  for (let i = 0; i < bytes.length; i++) {
    crc = (TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
  }
  return crc >>> 0;
}
