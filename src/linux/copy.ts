// Copying the content of a file: by reflink, else extent by extent with its holes kept.
// Called by overlay/ for small copy-ups on the server's thread, and by fuse/worker.ts for large ones.
// Follows: ioctl_ficlone(2), copy_file_range(2), lseek(2) SEEK_DATA and SEEK_HOLE.

import { SEEK } from './constants.js';
import { E } from './errno.js';
import { cloneFile, copyFileRange, fsync, ftruncate, lseek, pread, pwrite } from './files.js';
import { scratch } from './memory.js';

// Part of this thread's scratch: the buffer of the read/write fallback.
const BUFFER_AT = 0x10000;
const BUFFER_SIZE = 0x10000;

/** Bytes asked of one copy_file_range call; a signal or a full disk is noticed between calls. */
const CHUNK = 256 * 1024 * 1024;

/** Errors after which another way of copying is tried. */
function isUnsupported(errno: number): boolean {
  return (
    errno === -E.XDEV ||
    errno === -E.OPNOTSUPP ||
    errno === -E.INVAL ||
    errno === -E.NOSYS ||
    errno === -E.TXTBSY ||
    errno === -E.PERM
  );
}

/**
 * Copies `length` bytes between two open files at the given offsets (bytes).
 * @returns bytes copied, fewer when `from` ends before; or -errno when nothing was copied.
 */
export function copyRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): number {
  let done = 0;
  while (done < length) {
    const n = copyFileRange(
      from,
      fromOffset + done,
      to,
      toOffset + done,
      Math.min(length - done, CHUNK),
    );
    if (n === -E.INTR) continue;
    if (n < 0) return done > 0 ? done : n;
    if (n === 0) break;
    done += n;
  }
  return done;
}

/** As copyRange(), through memory. */
function copyThroughMemory(from: number, to: number, offset: number, length: number): number {
  const buffer = scratch + BUFFER_AT;
  let done = 0;
  while (done < length) {
    const n = pread(from, buffer, Math.min(length - done, BUFFER_SIZE), offset + done);
    if (n === -E.INTR) continue;
    if (n < 0) return n;
    if (n === 0) break;
    for (let written = 0; written < n; ) {
      const w = pwrite(to, buffer + written, n - written, offset + done + written);
      if (w === -E.INTR) continue;
      if (w < 0) return w;
      written += w;
    }
    done += n;
  }
  return done;
}

/**
 * Makes the empty file `to` a copy of the first `size` bytes of `from`; holes stay holes. Moves the offset of `from`.
 * @param sync fsync the copy before returning.
 * @returns `size`, or -errno (-ENOSPC, -EDQUOT, -EIO, ...); then `to` is incomplete.
 */
export function copyFile(from: number, to: number, size: number, sync = false): number {
  if (size > 0) {
    const cloned = cloneFile(to, from);
    if (cloned < 0) {
      const r = copyExtents(from, to, size);
      if (r < 0) return r;
    }
    // A reflink takes the source's whole length, which may have grown since its size was read.
    const r = ftruncate(to, size);
    if (r < 0) return r;
  }
  if (sync) {
    const r = fsync(to);
    if (r < 0) return r;
  }
  return size;
}

function copyExtents(from: number, to: number, size: number): number {
  let inKernel = true;
  let at = 0;
  while (at < size) {
    const data = lseek(from, at, SEEK.DATA);
    if (data === -E.NXIO) break;
    const start = data < 0 ? at : data;
    if (start >= size) break;
    const hole = data < 0 ? size : lseek(from, start, SEEK.HOLE);
    const end = hole < 0 ? size : Math.min(hole, size);
    let done = start;
    while (done < end) {
      let n = inKernel ? copyRange(from, done, to, done, end - done) : -E.OPNOTSUPP;
      if (n < 0 && isUnsupported(n)) {
        inKernel = false;
        n = copyThroughMemory(from, to, done, end - done);
      } else if (n === 0 && inKernel) {
        // Some filesystems (proc, old FUSE) answer 0 although there is data.
        inKernel = false;
        continue;
      }
      if (n < 0) return n;
      if (n === 0) return 0;
      done += n;
    }
    at = end;
  }
  return 0;
}
