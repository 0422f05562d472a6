// A tree becomes a cpio archive as the kernel takes it for its initramfs: newc, the same bytes for the same tree.
// Called by boot/; content is read once, in order. cpio-read is the way back.
// Follows: Documentation/driver-api/early-userspace/buffer-format.rst of Linux 6.18.

import { S } from '../linux/constants.js';
import { majorOf, minorOf } from '../linux/device.js';
import { TreeError } from './errors.js';
import { show, type TreeNode, walk } from './tree.js';

const CHUNK = 1024 * 1024;
const TRAILER = 'TRAILER!!!';
/** What a field of 8 hexadecimal digits holds. */
const FIELD_MAX = 0xffff_ffff;

export interface CpioWriteOptions {
  /** Inode number of the first object; the others count up from there. 1. */
  readonly ino?: number;
}

/**
 * Writes all names of a tree but the root, parents first, in byte order, and the trailer. Of a file with several names
 * the last carries the data, as cpio(1) does it.
 * @param sink takes the bytes at once: the buffer is used again.
 * @throws TreeError for a file that newc cannot hold (4 GiB or more), or the error of a content.
 */
export function writeCpio(
  root: TreeNode,
  sink: (piece: Uint8Array) => void,
  options: CpioWriteOptions = {},
): void {
  let ino = options.ino ?? 1;
  let at = 0;
  const write = (piece: Uint8Array): void => {
    at += piece.length;
    sink(piece);
  };
  const align = (): void => {
    if (at % 4 > 0) write(new Uint8Array(4 - (at % 4)));
  };
  const linked = new Map<TreeNode, { ino: number; left: number }>();
  walk(root, (path, node, parent) => {
    if (parent === undefined) return;
    const isLinked = node.entries === undefined && node.links > 1;
    const known = linked.get(node) ?? { ino: ino++, left: node.links };
    known.left--;
    if (isLinked) linked.set(node, known);
    const hasData = known.left === 0 || !isLinked;
    write(header(path.slice(1), node, known.ino, hasData ? dataSize(path, node) : 0));
    align();
    if (hasData) writeData(node, write);
    align();
  });
  write(header(TRAILER, undefined, 0, 0));
  align();
}

function dataSize(path: string, node: TreeNode): number {
  const type = node.mode & S.IFMT;
  if (type === S.IFLNK) return node.target?.length ?? 0;
  if (type !== S.IFREG) return 0;
  if (node.size > FIELD_MAX) {
    throw new TreeError(
      `${show(path)} has ${node.size} bytes: cpio holds less than 4 GiB in a file`,
    );
  }
  return node.size;
}

function writeData(node: TreeNode, write: (piece: Uint8Array) => void): void {
  if (node.target !== undefined) {
    write(Buffer.from(node.target, 'latin1'));
    return;
  }
  if ((node.mode & S.IFMT) !== S.IFREG || node.size === 0) return;
  const buffer = new Uint8Array(Math.min(CHUNK, node.size));
  const opened = node.content?.open();
  try {
    for (let done = 0; done < node.size; done += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, node.size - done));
      opened?.read(done, part);
      write(part);
    }
  } finally {
    opened?.close();
  }
}

/** Header and name. @param node undefined: of the trailer. */
function header(name: string, node: TreeNode | undefined, ino: number, size: number): Uint8Array {
  const type = (node?.mode ?? 0) & S.IFMT;
  const rdev = type === S.IFCHR || type === S.IFBLK ? (node?.rdev ?? 0) : 0;
  const fields = [
    ino,
    node?.mode ?? 0,
    node?.uid ?? 0,
    node?.gid ?? 0,
    node === undefined ? 1 : node.links,
    // Unsigned there; what is older than 1970 becomes 1970.
    Math.min(Math.max(node?.mtime ?? 0, 0), FIELD_MAX),
    size,
    0,
    0,
    majorOf(rdev),
    minorOf(rdev),
    name.length + 1,
    0,
  ];
  const text = fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('');
  return Buffer.from(`070701${text}${name}\0`, 'latin1');
}
