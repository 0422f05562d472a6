// Paths inside an image: from a text to an inode, symlinks followed without ever leaving the image.
// Used by the commands that look into an image without mounting it.
// Follows: path_resolution(7), with the image's root as `/` and the parent of the root.

import { S } from '../linux/constants.js';
import type { ErofsImage, Inode } from './image.js';

/** Symlinks followed on the way, as MAXSYMLINKS of Linux. */
const MAX_LINKS = 40;

/**
 * The inode at `path` (latin1; a leading slash is allowed).
 * @param follow whether a symlink at the end is followed too; on the way they always are.
 * @returns undefined when there is none, or when too many symlinks lead to one another.
 */
export function resolveInImage(
  image: ErofsImage,
  path: string,
  follow: boolean,
): Inode | undefined {
  let names = path.split('/');
  let way: Inode[] = [image.inode(image.rootNid)];
  for (let links = 0, i = 0; i < names.length; i++) {
    const name = names[i] as string;
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
    const last = names.slice(i + 1).every((n) => n === '');
    if ((inode.mode & S.IFMT) !== S.IFLNK || (last && !follow)) {
      if (last && names.length > i + 1 && (inode.mode & S.IFMT) === S.IFLNK) return inode;
      way.push(inode);
      if (last && names.length === i + 1) break;
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    const target = image.readlink(inode);
    if (target.startsWith('/')) way = way.slice(0, 1);
    names = [...target.split('/'), ...names.slice(i + 1)];
    i = -1;
  }
  return way[way.length - 1];
}
