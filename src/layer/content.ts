// What an opened lower file is: a descriptor of the system, or a number that stands for a file inside an image.
// Layers give it (Layer.open), overlay/ keeps it in the handle of an open file and reads through it.
// Both are integers, so that they lie in the same field of the shared handle table.

import { whenHere } from '../bytes/source.js';
import { SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { close, lseek, pread } from '../linux/files.js';

export { NOT_HERE } from '../bytes/source.js';

/** One open file of a layer that has no descriptors. Offsets and sizes in bytes. */
export interface Content {
  readonly size: number;
  /** Reads up to `size` bytes at `offset` to arena offset `out`. @returns bytes (less only at the end), -errno or NOT_HERE. */
  read(out: number, size: number, offset: number): number;
  /** Start of the next hole or data at or after `offset`, which lies before the end. */
  seek(offset: number, hole: boolean): number;
  /** Whether all of it is here. Absent: it is. */
  isHere?(): boolean;
  /** Has bytes fetched that will be read soon. Absent: they are all here. */
  wantSoon?(offset: number, length: number): void;
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

/** As pread(2), for either kind; short only at the end of a file for contents, which may also be NOT_HERE. */
export function readFile(file: number, out: number, size: number, offset: number): number {
  if (file < FIRST) return pread(file, out, size, offset);
  return contentOf(file)?.read(out, size, offset) ?? -E.BADF;
}

/**
 * Waits for what the last readFile() found missing (NOT_HERE).
 * @param done gets 0, or -errno when it does not come. @returns what ends the wait without a call.
 */
export function awaitContent(done: (result: number) => void): () => void {
  return whenHere(done);
}

/** Whether all of an opened file is here, as that of a descriptor always is. */
export function isFileHere(file: number): boolean {
  return file < FIRST || (contentOf(file)?.isHere?.() ?? true);
}

/** Has bytes of a content fetched that will be read soon. */
export function wantSoon(file: number, offset: number, length: number): void {
  contentOf(file)?.wantSoon?.(offset, length);
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
