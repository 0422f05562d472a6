// The bytes of one extracted file: data extents only, copied inside the kernel where they lie in a file.
// Called by extract for each regular file.
// Follows: copy_file_range(2) and what it refuses; holes are what is not written.

import { writeSync } from 'node:fs';
import { copyRange } from '../linux/copy.js';
import { E, SysError } from '../linux/errno.js';
import { ftruncate } from '../linux/files.js';
import { TreeError } from './errors.js';
import { dataExtents, type Extent, type OpenContent, show, type TreeNode } from './tree.js';

const buffer = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * Fills the new, empty file `fd`.
 * @param path for messages. @throws SysError when the disk is full or fails, or the error of the content.
 */
export function copyContent(
  node: TreeNode,
  fd: number,
  path: string,
  openBacking?: (node: TreeNode) => OpenContent,
): void {
  if (node.size === 0) return;
  const opened = open(node, path, openBacking);
  let end = 0;
  if (opened !== undefined) {
    const whole: readonly Extent[] = [{ at: 0, length: node.size }];
    const extents = node.content === undefined ? whole : dataExtents(node);
    try {
      for (const extent of extents) {
        copyExtent(opened, extent, fd, path);
        end = extent.at + extent.length;
      }
      opened.check?.();
    } finally {
      opened.close();
    }
  }
  if (end === node.size) return;
  const r = ftruncate(fd, node.size);
  if (r < 0) throw new SysError('truncate', r, show(path));
}

function open(
  node: TreeNode,
  path: string,
  openBacking?: (node: TreeNode) => OpenContent,
): OpenContent | undefined {
  if (node.content !== undefined) return node.content.open();
  if (node.backing === undefined) return undefined;
  if (openBacking === undefined) {
    throw new TreeError(
      `${show(path)} is an object of a store (${show(node.backing.path)}): name the store`,
    );
  }
  return openBacking(node);
}

function copyExtent(opened: OpenContent, extent: Extent, fd: number, path: string): void {
  const { at, length } = extent;
  const done = opened.file === undefined ? 0 : copyInKernel(opened.file, at, length, fd, path);
  for (let from = at + done; from < at + length; from += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, at + length - from));
    opened.read(from, part);
    write(fd, part, from, path);
  }
}

/** @returns bytes copied; what is left goes through memory. */
function copyInKernel(
  file: { fd: number; offset: number },
  at: number,
  length: number,
  fd: number,
  path: string,
): number {
  const r = copyRange(file.fd, file.offset + at, fd, at, length);
  // What ends early is a file that became shorter, or one that the kernel cannot copy: reading it tells.
  if (r >= 0) return r;
  if (r === -E.NOSPC || r === -E.DQUOT || r === -E.FBIG) throw new SysError('write', r, show(path));
  return 0;
}

function write(fd: number, bytes: Uint8Array, at: number, path: string): void {
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(fd, bytes, done, bytes.length - done, at + done);
    }
  } catch (cause) {
    throw new TreeError(`cannot write ${show(path)}: ${(cause as Error).message}`, { cause });
  }
}
