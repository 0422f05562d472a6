// From a nid to a path inside an EROFS image: for directories, whose ".." entries lead to the root.
// Called by layer/erofs.ts when a file handle names what nobody has looked up yet.
// Follows: Documentation/filesystems/erofs.rst, "Directories": "." and ".." are stored like any name.

import type { ErofsImage } from '../erofs/image.js';
import { S } from '../linux/constants.js';

/** PATH_MAX / 2: no deeper directory has a path; a damaged image may lead round in a circle. */
const DEPTH_MAX = 2048;
const PARENT = Uint8Array.of(0x2e, 0x2e);

/**
 * @returns the path from the image's root, one code unit a byte; undefined when `nid` is no directory that lies there.
 * @throws ErofsError
 */
export function pathOfNid(image: ErofsImage, nid: number): string | undefined {
  const names: string[] = [];
  let at = nid;
  while (at !== image.rootNid) {
    const inode = image.inode(at);
    if ((inode.mode & S.IFMT) !== S.IFDIR || names.length >= DEPTH_MAX) return undefined;
    const parent = image.lookup(inode, PARENT);
    if (parent === undefined || parent === at) return undefined;
    const name = nameOf(image, parent, at);
    if (name === undefined) return undefined;
    names.push(name);
    at = parent;
  }
  return names.reverse().join('/');
}

/** What a directory calls one of its entries. */
function nameOf(image: ErofsImage, parent: number, nid: number): string | undefined {
  let found: string | undefined;
  image.children(image.inode(parent), (name, child) => {
    if (child === nid) found ??= Buffer.from(name).toString('latin1');
  });
  return found;
}
