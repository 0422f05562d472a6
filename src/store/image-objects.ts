// Which objects an image uses, read from its bytes.
// Asked by gc, check, du and show; the image is that of a store and may be damaged.
// Follows: composefs 1.0, overlayfs marks of regular files: redirect (the path that is opened) and metacopy (the digest).

import type { ByteSource } from '../bytes/source.js';
import { METACOPY, REDIRECT, statedDigest } from '../erofs/composefs-marks.js';
import { eachInode } from '../erofs/each-inode.js';
import { ErofsImage, type Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';
import { digestOfPath } from './objects.js';

/** One regular file of an image that has its content elsewhere. */
export interface ObjectUse {
  /** Path of the file in the image, latin1. */
  readonly file: string;
  /** The redirect as it is, latin1; '' when there is none. */
  readonly path: string;
  /** Digest that the path stands for; undefined when it is no object of a store. */
  readonly object: string | undefined;
  /** Digest that overlayfs requires; undefined when it requires none. */
  readonly digest: string | undefined;
  /** Bytes. */
  readonly size: number;
}

export interface ImageCounts {
  /** Inodes without the whiteouts that hide the store, and regular files among them, of any kind. */
  readonly inodes: number;
  readonly files: number;
}

/** Tells of every external file once, hard links once. @throws ErofsError when the image is damaged, or what the source throws. */
export function imageUses(source: ByteSource, tell: (use: ObjectUse) => void): ImageCounts {
  const image = ErofsImage.open(source);
  let files = 0;
  let inodes = 1;
  eachInode(image, (path, inode) => {
    const type = inode.mode & S.IFMT;
    if (type !== S.IFCHR || inode.rdev !== 0) inodes++;
    if (type !== S.IFREG) return;
    files++;
    const use = useOf(image, inode, path);
    if (use !== undefined) tell(use);
  });
  return { inodes, files };
}

function useOf(image: ErofsImage, inode: Inode, file: string): ObjectUse | undefined {
  if (inode.xattrSize === 0 || inode.size === 0) return undefined;
  const redirect = image.getxattr(inode, REDIRECT);
  const metacopy = image.getxattr(inode, METACOPY);
  if (redirect === undefined && metacopy === undefined) return undefined;
  const path = Buffer.from(redirect ?? []).toString('latin1');
  const digest = metacopy === undefined ? undefined : statedDigest(metacopy);
  return { file, path, object: digestOfPath(path), digest, size: inode.size };
}
