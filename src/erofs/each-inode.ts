// Goes through all inodes of an image, each once, whatever a damaged or hostile image says.
// Used by store/ and stack/ to find what an image takes from elsewhere; nothing is kept but the numbers that were seen.
// Follows: hard links are the names of one nid; a directory that is below itself comes to an end.

import { S } from '../linux/constants.js';
import type { ErofsImage, Inode } from './image.js';

/**
 * Calls `visit` for every inode but the root.
 * @param visit `path` is a path of it, latin1, beginning with a slash. @throws ErofsError
 */
export function eachInode(image: ErofsImage, visit: (path: string, inode: Inode) => void): void {
  const seen = new Set<number>([image.rootNid]);
  const pending: [path: string, directory: Inode][] = [['', image.inode(image.rootNid)]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [folder, directory] = next;
    image.children(directory, (name, nid) => {
      if (seen.has(nid)) return;
      seen.add(nid);
      const inode = image.inode(nid);
      const path = `${folder}/${Buffer.from(name).toString('latin1')}`;
      visit(path, inode);
      if ((inode.mode & S.IFMT) === S.IFDIR) pending.push([path, inode]);
    });
  }
}
