// Paths inside an image: from a text to an inode, symlinks followed without ever leaving the image.
// Used by the commands that look into an image without mounting it.
// Follows: path_resolution(7), with the image's root as `/` and the parent of the root.

import { S } from '../linux/constants.js';
import type { ErofsImage, Inode } from './image.js';

/** Symlinks followed on the way, as MAXSYMLINKS of Linux. */
const MAX_LINKS = 40;

/**
 * The inode at `path` (latin1; a leading slash is allowed).
 * @param follow whether a symlink at the end is followed too; on the way, and before a slash, they always are.
 * @returns undefined when there is none, or when too many symlinks lead to one another.
 */
export function resolveInImage(
  image: ErofsImage,
  path: string,
  follow: boolean,
): Inode | undefined {
  const names = path.split('/');
  /** From the root to where the walk is. */
  let way: Inode[] = [image.inode(image.rootNid)];
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    const here = way[way.length - 1] as Inode;
    if ((here.mode & S.IFMT) !== S.IFDIR) return undefined;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (way.length > 1) way.pop();
      continue;
    }
    const nid = image.lookup(here, Buffer.from(name, 'latin1'));
    if (nid === undefined) return undefined;
    const inode = image.inode(nid);
    if ((inode.mode & S.IFMT) !== S.IFLNK || (names.length === 0 && !follow)) {
      way.push(inode);
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    const target = image.readlink(inode);
    if (target.startsWith('/')) way = way.slice(0, 1);
    names.unshift(...target.split('/'));
  }
  return way[way.length - 1];
}
