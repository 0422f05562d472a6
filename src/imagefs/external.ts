// Where the content of a file of a composefs image is: in the image, or in an object, and in which.
// Asked by metadata-filesystem.ts and follow-filesystem.ts before any content is given; an image is not trusted.
// Follows: composefs's use of overlayfs marks (metacopy with an fs-verity digest, redirect); struct ovl_metacopy of Linux 6.18.

import { METACOPY, METACOPY_HEADER, REDIRECT, statedDigest } from '../erofs/composefs-marks.js';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';

/** Bytes of a digest by its algorithm's number, byte 3 of the mark. */
const DIGEST_SIZES = [0, 32, 64] as const;

/** `/XX/REST`: 64 or 128 digits in all. Nothing else of a redirect is ever used as a path. */
const OBJECT_PATH = /^\/?([0-9a-f]{2})\/([0-9a-f]{62}|[0-9a-f]{126})$/;

/** Why an external file has no content that could be found. */
export interface Unusable {
  readonly why: string;
}

/** @returns whether a file's content is not in the image. @throws ErofsError */
export function isExternal(image: ErofsImage, inode: Inode): boolean {
  if ((inode.mode & S.IFMT) !== S.IFREG || inode.xattrSize === 0) return false;
  return image.getxattr(inode, METACOPY) !== undefined;
}

/**
 * The object of a file.
 * @returns its fs-verity digest in hexadecimal, as many digits as its algorithm has; undefined when the content is in the
 * image. @throws ErofsError
 */
export function objectOf(image: ErofsImage, inode: Inode): string | Unusable | undefined {
  if ((inode.mode & S.IFMT) !== S.IFREG || inode.xattrSize === 0) return undefined;
  const metacopy = image.getxattr(inode, METACOPY);
  if (metacopy === undefined) return undefined;
  if (metacopy.length > 0) {
    const size = DIGEST_SIZES[metacopy[3] as number];
    const known = metacopy[0] === 0 && metacopy[2] === 0 && metacopy[1] === metacopy.length;
    if (!known || !size || metacopy.length !== METACOPY_HEADER + size) {
      return { why: `its metacopy mark of ${metacopy.length} bytes has no digest that is known` };
    }
    return statedDigest(metacopy);
  }
  const redirect = image.getxattr(inode, REDIRECT);
  const text = Buffer.from(redirect ?? []).toString('latin1');
  const match = OBJECT_PATH.exec(text);
  if (match === null) {
    return { why: `it has no digest, and its redirect "${text}" is not the name of an object` };
  }
  return `${match[1]}${match[2]}`;
}
