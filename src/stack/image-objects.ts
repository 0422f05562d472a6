// The objects that a composefs image takes content from: where overlayfs would look, and which digest the image names.
// Called by compare-objects.ts; reads the image's bytes, never the objects.
// Follows: overlayfs.rst (metacopy, redirect, verity); struct ovl_metacopy of fs/overlayfs/overlayfs.h (Linux 6.18).

import type { ErofsImage, Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';

const METACOPY = 'trusted.overlay.metacopy';
const REDIRECT = 'trusted.overlay.redirect';
/** Bytes of struct ovl_metacopy before the digest: version, len, flags, digest_algo. */
const METACOPY_HEADER = 4;

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
  // A directory that is its own descendant has to come to an end as well.
  const seen = new Set<number>([image.rootNid]);
  const directories: { inode: Inode; path: string }[] = [
    { inode: image.inode(image.rootNid), path: '' },
  ];
  for (let at = directories.pop(); at !== undefined; at = directories.pop()) {
    const { path } = at;
    image.children(at.inode, (name, nid) => {
      if (seen.has(nid)) return true;
      seen.add(nid);
      const inode = image.inode(nid);
      const file = `${path}/${Buffer.from(name).toString()}`;
      if ((inode.mode & S.IFMT) === S.IFDIR) directories.push({ inode, path: file });
      else if ((inode.mode & S.IFMT) === S.IFREG) note(image, inode, file, found);
      return true;
    });
  }
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
  const digest =
    metacopy.length > METACOPY_HEADER
      ? Buffer.from(metacopy.subarray(METACOPY_HEADER)).toString('hex')
      : undefined;
  const key = `${path}\0${digest ?? ''}`;
  if (!found.has(key)) found.set(key, { path, digest, file });
}
