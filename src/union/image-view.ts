// An EROFS image as a layer view: objects as the image says, content read from its bytes.
// Made for lowers that are images; whoever opened the image closes it.
// Follows: fs/erofs/namei.c; names are looked up one at a time, symlinks are not followed.

import type { ErofsImage, Inode } from '../erofs/image.js';
import { nodeOfInode } from '../erofs/to-tree.js';
import { S } from '../linux/constants.js';
import type { LayerView, MarkPrefix, Seen } from './view.js';

/** enum fid_type, and bytes: the number as two words, the high one first, and a generation, which EROFS leaves 0. */
const FILEID_INO64_GEN = 0x81;
const HANDLE_SIZE = 12;

/** Directories whose inodes are remembered. */
const KNOWN_DIRS = 64;

/** @param close called by the view's close(). */
export function viewImage(
  image: ErofsImage,
  label: string,
  marks: MarkPrefix,
  close: () => void,
): LayerView {
  const known = new Map<string, Inode | undefined>();

  function directory(path: string): Inode | undefined {
    if (path === '') return image.inode(image.rootNid);
    if (known.has(path)) return known.get(path);
    const inode = walk(path);
    if (known.size >= KNOWN_DIRS) known.clear();
    known.set(path, inode);
    return inode;
  }

  function walk(path: string): Inode | undefined {
    if (path === '') return image.inode(image.rootNid);
    const cut = path.lastIndexOf('/');
    const dir = directory(path.slice(0, Math.max(cut, 0)));
    if (dir === undefined || (dir.mode & S.IFMT) !== S.IFDIR) return undefined;
    const nid = image.lookup(dir, Buffer.from(path.slice(cut + 1), 'latin1'));
    return nid === undefined ? undefined : image.inode(nid);
  }

  return {
    label,
    marks,
    look(path): Seen | undefined {
      const inode = walk(path);
      if (inode === undefined) return undefined;
      return { node: nodeOfInode(image, inode), id: String(inode.nid), links: inode.nlink };
    },
    list(path) {
      const inode = directory(path);
      if (inode === undefined || (inode.mode & S.IFMT) !== S.IFDIR) return [];
      const names: string[] = [];
      image.children(inode, (name) => {
        names.push(Buffer.from(name).toString('latin1'));
      });
      return names.sort();
    },
    named({ type, bytes }) {
      if (type !== FILEID_INO64_GEN || bytes.length !== HANDLE_SIZE) return undefined;
      const words = Buffer.from(bytes);
      return String(words.readUInt32LE(0) * 0x1_0000_0000 + words.readUInt32LE(4));
    },
    namesOf(ids) {
      const found = new Map<string, string[]>();
      const pending: [string, Inode][] = [['', image.inode(image.rootNid)]];
      for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
        const [prefix, dir] = next;
        image.children(dir, (name, nid) => {
          const path = prefix + Buffer.from(name).toString('latin1');
          const inode = image.inode(nid);
          if ((inode.mode & S.IFMT) === S.IFDIR) pending.push([`${path}/`, inode]);
          else if (ids.has(String(nid))) {
            found.set(String(nid), [...(found.get(String(nid)) ?? []), path]);
          }
        });
      }
      return found;
    },
    handle(path) {
      const inode = walk(path);
      if (inode === undefined) return undefined;
      const bytes = Buffer.alloc(HANDLE_SIZE);
      bytes.writeUInt32LE(Math.floor(inode.nid / 0x1_0000_0000), 0);
      bytes.writeUInt32LE(inode.nid >>> 0, 4);
      return { type: FILEID_INO64_GEN, bytes, uuid: image.superblock.uuid };
    },
    close,
  };
}
