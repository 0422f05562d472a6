// Directory blocks: how names are divided into them, and their bytes.
// The size is needed by plan.ts, before any inode has a place; the bytes by write-meta.ts, when all have one.
// Follows: erofs_fs.h of Linux 6.18 (erofs_dirent); readers look names up by binary search over blocks and entries.

import { ErofsDirent, FILE_TYPE_MODES } from './format.js';
import { BLOCK } from './write-options.js';

const DIRENT = ErofsDirent.size;
const FILE_TYPES = new Map(FILE_TYPE_MODES.map((mode, type) => [mode, type]));

/** Bytes of a directory with these names: entries do not cross blocks, the last block ends with its last name. */
export function directorySize(names: readonly string[]): number {
  let size = 0;
  for (const name of names) {
    const length = DIRENT + name.length;
    if ((size % BLOCK) + length > BLOCK) size = Math.ceil(size / BLOCK) * BLOCK;
    size += length;
  }
  return size;
}

/** What a name stands for. */
interface Child {
  readonly nid: number;
  /** Type bits of st_mode. */
  readonly type: number;
}

/** The bytes of a directory at the start of `out`, which has room for whole blocks. @param names in byte order. */
export function encodeDirectory(
  names: readonly string[],
  children: readonly Child[],
  out: Buffer,
): void {
  for (let first = 0, at = 0; first < names.length; at += BLOCK) {
    let end = first;
    let used = 0;
    while (end < names.length) {
      const length = DIRENT + (names[end] as string).length;
      if (used + length > BLOCK) break;
      used += length;
      end++;
    }
    const length = encodeBlock(names, children, first, end, out.subarray(at));
    out.fill(0, at + length, at + BLOCK);
    first = end;
  }
}

/** Names `first` to `end`, which fit into a block, and what they stand for, to the start of `out`. @returns bytes. */
export function encodeBlock(
  names: readonly string[],
  children: readonly Child[],
  first: number,
  end: number,
  out: Buffer,
): number {
  let nameAt = (end - first) * DIRENT;
  let entry = 0;
  for (let i = first; i < end; i++) {
    const name = names[i] as string;
    const child = children[i] as Child;
    const { nid } = child;
    out.writeUInt32LE(nid % 0x1_0000_0000, entry);
    out.writeUInt32LE(Math.floor(nid / 0x1_0000_0000), entry + 4);
    out.writeUInt16LE(nameAt, entry + 8);
    out.writeUInt8(FILE_TYPES.get(child.type) ?? 0, entry + 10);
    out.writeUInt8(0, entry + 11);
    out.write(name, nameAt, 'latin1');
    nameAt += name.length;
    entry += DIRENT;
  }
  return nameAt;
}
