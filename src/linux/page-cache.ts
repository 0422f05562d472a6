// Which pages of a file are in memory.
// Used by boot/inspect: what was read of an image, as long as its filesystem stays mounted; by lazy/verify, which asks the disk.
// Follows: mmap(2), mincore(2), posix_fadvise(2). Who may not write to a file sees all of its pages as absent, or all as present, by kernel.

import { func, negErrno, ret } from './libc.js';
import { allocate, nativeBytes, release } from './native-memory.js';

const mmap = func(
  'int64_t mmap(uint64_t addr, size_t len, int prot, int flags, int fd, int64_t off)',
);
const munmap = func('int munmap(uint64_t addr, size_t len)');
const mincore = func('int mincore(uint64_t addr, size_t len, uint64_t vec)');

const fadvise = func('int posix_fadvise(int fd, int64_t at, int64_t length, int advice)');

const FADV_DONTNEED = 4;
const PROT_READ = 1;
const MAP_SHARED = 1;
const PAGE = 4096;
/** Bytes that are mapped at once; a multiple of the page. */
const WINDOW = 256 * 1024 * 1024;

/** Pages of a file that are on disk, and that nobody maps, leave memory: who reads on reads the disk. */
export function forgetPages(fd: number): void {
  fadvise(fd, 0, 0, FADV_DONTNEED);
}

export interface ByteRange {
  readonly at: number;
  readonly length: number;
}

/** The parts of a file that are in memory, in ascending order, in bytes. @throws Error when the kernel does not say. */
export function residentRanges(fd: number, size: number): ByteRange[] {
  const ranges: { at: number; length: number }[] = [];
  const pages = WINDOW / PAGE;
  const vector = allocate(pages);
  try {
    for (let from = 0; from < size; from += WINDOW) {
      const length = Math.min(WINDOW, size - from);
      const address = mmap(0, length, PROT_READ, MAP_SHARED, fd, from);
      if (address === -1) throw new Error(`mmap of ${length} bytes: errno ${-negErrno()}`);
      const r = ret(mincore(address, length, vector));
      munmap(address, length);
      if (r < 0) throw new Error(`mincore: errno ${-r}`);
      const found = nativeBytes(vector, Math.ceil(length / PAGE));
      found.forEach((byte, i) => {
        if ((byte & 1) === 0) return;
        const at = from + i * PAGE;
        const last = ranges.at(-1);
        if (last !== undefined && last.at + last.length === at) last.length += PAGE;
        else ranges.push({ at, length: PAGE });
      });
    }
  } finally {
    release(vector, pages);
  }
  const last = ranges.at(-1);
  if (last !== undefined) last.length = Math.min(last.length, size - last.at);
  return ranges;
}
