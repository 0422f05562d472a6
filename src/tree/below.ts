// Opening and reading files below a held directory, however long their paths are.
// Used by scan (content and directories) and by extract; no symlink on the way is ever followed.
// Follows: openat2(2) RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; PATH_MAX of limits.h.

import { readSync } from 'node:fs';
import { O } from '../linux/constants.js';
import { close, openBeneath, openBeneathOnMount } from '../linux/files.js';
import { putBytes, scratch } from '../linux/memory.js';
import { TreeError } from './errors.js';
import { show } from './tree.js';

/** Scratch for paths: below what scan and extract use, above the fixed places of src/linux. */
const PATH_AT = 0x1000;
/** Bytes of a path that one system call takes, without the NUL. */
const PATH_MAX = 4095;

/**
 * Opens `path` (latin1, relative; empty: the directory itself) below `rootFd`.
 * @returns an fd, or -errno: -ELOOP for a symlink on the way, -EXDEV for a path that leaves `rootFd`.
 */
export function openBelow(rootFd: number, path: string, flags: number): number {
  return openPieces(rootFd, path, flags, openBeneath);
}

/** As openBelow(), and never onto another mount: -EXDEV there. */
export function openBelowOnMount(rootFd: number, path: string, flags: number): number {
  return openPieces(rootFd, path, flags, openBeneathOnMount);
}

function openPieces(rootFd: number, path: string, flags: number, open: typeof openBeneath): number {
  let dir = rootFd;
  let from = 0;
  while (path.length - from > PATH_MAX) {
    const cut = path.lastIndexOf('/', from + PATH_MAX);
    const next = openPiece(dir, path.slice(from, cut), O.PATH | O.DIRECTORY, open);
    if (dir !== rootFd) close(dir);
    if (next < 0) return next;
    dir = next;
    from = cut + 1;
  }
  const fd = openPiece(dir, path.slice(from), flags, open);
  if (dir !== rootFd) close(dir);
  return fd;
}

function openPiece(dir: number, path: string, flags: number, open: typeof openBeneath): number {
  putBytes(scratch + PATH_AT, path === '' ? '.' : path);
  return open(dir, scratch + PATH_AT, flags);
}

/**
 * Fills `out` from byte `at` of `fd`.
 * @param path latin1, for messages. @returns bytes read: fewer only at the end of the file. @throws TreeError when it cannot be read.
 */
export function readFully(fd: number, out: Uint8Array, at: number, path: string): number {
  let done = 0;
  while (done < out.length) {
    let n: number;
    try {
      n = readSync(fd, out, done, out.length - done, at + done);
    } catch (cause) {
      throw new TreeError(`cannot read ${show(path)}: ${(cause as Error).message}`, { cause });
    }
    if (n === 0) break;
    done += n;
  }
  return done;
}
