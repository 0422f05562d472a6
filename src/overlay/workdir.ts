// The workdir: where every change of several steps is prepared before one rename publishes it.
// Opened and cleaned at mount; copy-up, create, remove and rename stage here.
// Follows: fs/overlayfs/super.c (ovl_workdir_create, ovl_workdir_cleanup): `work` for staging, `index` for hard links.

import { AT, O, S } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { E } from '../linux/errno.js';
import { close, dotPath, mknodAt, openAt, renameAt, unlinkAt } from '../linux/files.js';
import { getBytes, putBytes } from '../linux/memory.js';
import { LISTING, LISTING_SIZE } from '../vfs/layout.js';
import type { Overlay } from './context.js';
import { LONG_NAME, TEMP_NAME } from './work.js';

const HEX_DIGITS = '0123456789abcdef';

/** Writes a new temporary name, `#` and hex digits, to `at`; returns `at`. */
export function tempName(o: Overlay, at = TEMP_NAME): number {
  let text = '';
  for (let n = o.tempCounter++; ; n = Math.floor(n / 16)) {
    text = (HEX_DIGITS[n % 16] as string) + text;
    if (n < 16) break;
  }
  putBytes(at, `#${text}`);
  return at;
}

/** Makes a whiteout with a temporary name in the workdir. @returns its name's offset, or -errno. */
export function stageWhiteout(o: Overlay, at = TEMP_NAME): number {
  const name = tempName(o, at);
  const r = mknodAt(o.config.workFd, name, S.IFCHR, 0);
  return r < 0 ? r : name;
}

/**
 * Moves `name` from an upper directory into the workdir and leaves a whiteout in its place, in one step where possible.
 * @returns the temporary name's offset, or -errno.
 */
export function exchangeForWhiteout(o: Overlay, dirfd: number, name: number): number {
  const temp = stageWhiteout(o);
  if (temp < 0) return temp;
  const r = renameAt(o.config.workFd, temp, dirfd, name, 2);
  if (r < 0) {
    unlinkAt(o.config.workFd, temp);
    return r;
  }
  return temp;
}

/**
 * Removes `name` (Latin-1) below `dirfd` with everything in it. Best effort: what stays is found at the next mount.
 * @returns 0 or -errno.
 */
export function removeTree(dirfd: number, name: string): number {
  putBytes(LONG_NAME, name);
  const r = unlinkAt(dirfd, LONG_NAME);
  if (r !== -E.ISDIR && r !== -E.PERM) return r;
  const fd = openAt(dirfd, LONG_NAME, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd < 0) return fd;
  const names: string[] = [];
  readEntries(fd, LISTING, LISTING_SIZE, (entry, length) => {
    names.push(getBytes(entry, length));
  });
  for (const entry of names) removeTree(fd, entry);
  close(fd);
  putBytes(LONG_NAME, name);
  return unlinkAt(dirfd, LONG_NAME, AT.REMOVEDIR);
}

/** What marks a volatile upper (stack/open.ts); the kernel's name. */
const INCOMPATIBLE = 'incompat';

/**
 * Removes what an interrupted operation left in a folder of the workdir (O_PATH or other descriptor).
 * @param keep says by its name (Latin-1) what is in use.
 */
export function sweep(folder: number, keep: (name: string) => boolean = () => false): void {
  const fd = openAt(folder, dotPath(), O.RDONLY | O.DIRECTORY);
  if (fd < 0) return;
  const names: string[] = [];
  readEntries(fd, LISTING, LISTING_SIZE, (entry, length) => {
    const name = getBytes(entry, length);
    if (name !== INCOMPATIBLE && !keep(name)) names.push(name);
  });
  for (const entry of names) removeTree(fd, entry);
  close(fd);
}
