// What an opened lower file is: a descriptor of the system, or a number that stands for a file inside an image.
// Layers give it (Layer.open), overlay/ keeps it in the handle of an open file and reads through it.
// Both are integers, so that they lie in the same field of the shared handle table.

import { SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { close, lseek, pread } from '../linux/files.js';

/** One open file of a layer that has no descriptors. Offsets and sizes in bytes. */
export interface Content {
  readonly size: number;
  /** Reads up to `size` bytes at `offset` to arena offset `out`. @returns bytes (less only at the end) or -errno. */
  read(out: number, size: number, offset: number): number;
  /** Start of the next hole or data at or after `offset`, which lies before the end. */
  seek(offset: number, hole: boolean): number;
  close(): void;
}

/** Numbers from here are contents; far above any descriptor (NR_OPEN is 2^20 by default, 2^30 at most). */
const FIRST = 0x4000_0001;

const contents: (Content | undefined)[] = [];
const free: number[] = [];

/** The number that stands for `content` until closeFile(). */
export function openContent(content: Content): number {
  const at = free.pop() ?? contents.length;
  contents[at] = content;
  return FIRST + at;
}

/** Whether `file` is a content number, which system calls do not know. */
export function isContent(file: number): boolean {
  return file >= FIRST;
}

function contentOf(file: number): Content | undefined {
  return contents[file - FIRST];
}

/** As pread(2), for either kind; short only at the end of a file for contents. */
export function readFile(file: number, out: number, size: number, offset: number): number {
  if (file < FIRST) return pread(file, out, size, offset);
  return contentOf(file)?.read(out, size, offset) ?? -E.BADF;
}

/** As lseek(2) with SEEK_DATA or SEEK_HOLE, for either kind. */
export function seekFile(file: number, offset: number, whence: number): number {
  if (file < FIRST) return lseek(file, offset, whence);
  const content = contentOf(file);
  if (content === undefined) return -E.BADF;
  if (offset < 0 || offset >= content.size) return -E.NXIO;
  return content.seek(offset, whence === SEEK.HOLE);
}

export function closeFile(file: number): void {
  if (file < FIRST) {
    close(file);
    return;
  }
  const at = file - FIRST;
  contents[at]?.close();
  contents[at] = undefined;
  free.push(at);
}
