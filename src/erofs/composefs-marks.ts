// The names and values with which a composefs image speaks to overlayfs.
// Used by who writes such images and who reads them: composefs-inodes.ts, composefs-tree.ts, and those that serve them.
// Follows: composefs 1.0.8; Documentation/filesystems/overlayfs.rst of Linux 6.18 (fs-verity, nesting); fs/overlayfs/overlayfs.h.

/** Marks of the image itself, for the overlay that mounts it. */
export const OVERLAY = 'trusted.overlay.';
/** Marks of the tree in the image, which that overlay shows without the second `overlay.`. */
export const ESCAPED = 'trusted.overlay.overlay.';
/** Marks of the tree in the image in the form of overlays without privilege. */
export const USER = 'user.overlay.';

export const METACOPY = `${OVERLAY}metacopy`;
export const REDIRECT = `${OVERLAY}redirect`;

/** struct ovl_metacopy with a SHA-256 digest: version, length, flags, algorithm; then 32 bytes. */
const METACOPY_SHA256 = [0, 36, 0, 1];
const DIGEST_SIZE = 32;

/** Bytes of struct ovl_metacopy before the digest. */
export const METACOPY_HEADER = METACOPY_SHA256.length;

/** The value of a metacopy mark. @param digest 64 hex digits. */
export function metacopyOf(digest: string): Uint8Array {
  return Buffer.concat([Buffer.from(METACOPY_SHA256), Buffer.from(digest, 'hex')]);
}

/** The digest in a metacopy mark, hex; undefined when it names none of SHA-256. */
export function digestOf(metacopy: Uint8Array): string | undefined {
  if (metacopy.length !== METACOPY_SHA256.length + DIGEST_SIZE) return undefined;
  if (METACOPY_SHA256.some((byte, i) => metacopy[i] !== byte)) return undefined;
  return Buffer.from(metacopy.buffer, metacopy.byteOffset + 4, DIGEST_SIZE).toString('hex');
}

/** Whatever stands behind the header of a metacopy mark, hex; undefined when nothing does. */
export function statedDigest(metacopy: Uint8Array): string | undefined {
  if (metacopy.length <= METACOPY_HEADER) return undefined;
  return Buffer.from(metacopy.subarray(METACOPY_HEADER)).toString('hex');
}
