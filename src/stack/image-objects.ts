// The objects that a composefs image takes content from: where overlayfs would look, and which digest the image names.
// Called by compare-objects.ts; reads the image's bytes, never the objects.
// Follows: overlayfs.rst (metacopy, redirect, verity); struct ovl_metacopy of fs/overlayfs/overlayfs.h (Linux 6.18).

import { METACOPY, REDIRECT, statedDigest } from '../erofs/composefs-marks.js';
import { eachInode } from '../erofs/each-inode.js';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';

/** One object, whatever the number of files that have it as content. */
export interface NamedObject {
  /** Path below the folders of objects, Latin-1 (one character a byte). */
  readonly path: string;
  /** fs-verity digest, hex; undefined: the image names none. */
  readonly digest: string | undefined;
  /** A file that has it as content: path in the image, for messages. */
  readonly file: string;
}

/** All objects of an image, each path with each digest once. @throws ErofsError */
export function objectsOfImage(image: ErofsImage): NamedObject[] {
  const found = new Map<string, NamedObject>();
  eachInode(image, (path, inode) => {
    if ((inode.mode & S.IFMT) !== S.IFREG) return;
    note(image, inode, Buffer.from(path, 'latin1').toString(), found);
  });
  return [...found.values()];
}

function note(
  image: ErofsImage,
  inode: Inode,
  file: string,
  found: Map<string, NamedObject>,
): void {
  if (inode.xattrSize === 0) return;
  const metacopy = image.getxattr(inode, METACOPY);
  if (metacopy === undefined) return;
  const redirect = image.getxattr(inode, REDIRECT);
  const path =
    redirect === undefined ? file : Buffer.from(redirect).toString('latin1').replace(/^\/+/, '');
  const digest = statedDigest(metacopy);
  const key = `${path}\0${digest ?? ''}`;
  if (!found.has(key)) found.set(key, { path, digest, file });
}
