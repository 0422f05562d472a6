// Takes away a directory with all that is in it, however deep.
// Called by extract when it fails, by apply and rebase for what is replaced; works on descriptors, so that nothing outside can be
// reached, and stops at mount points: what is mounted there is not part of the tree.
// Follows: unlinkat(2); node:fs stops at PATH_MAX.

import { AT, DT, O } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { E } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getBytes, putBytes, scratch } from '../linux/memory.js';
import { openBelowOnMount } from './below.js';

// This thread's scratch: a name, and directory entries.
const NAME_AT = 0x800;
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;

/** Removes `name` (latin1) below `parent`. What cannot be removed stays, and what is mounted in it: the caller looks. */
export function removeTree(parent: number, name: string): void {
  const directories = [name];
  // The list grows while it is walked: a directory stands behind the one that it is in.
  for (const path of directories) {
    const fd = openToEmpty(parent, path);
    if (fd < 0) continue;
    const found: string[] = [];
    readEntries(fd, scratch + DENTS_AT, DENTS_SIZE, (at, length, _lo, _hi, type) => {
      if (type === DT.DIR || type === DT.UNKNOWN) found.push(getBytes(at, length));
      else files.unlinkAt(fd, at);
    });
    for (const entry of found) {
      putBytes(scratch + NAME_AT, entry);
      // On file systems that do not tell types: a directory says so.
      const r = files.unlinkAt(fd, scratch + NAME_AT);
      if (r === -E.ISDIR || r === -E.PERM) directories.push(`${path}/${entry}`);
    }
    files.close(fd);
  }
  for (const path of directories.reverse()) {
    const slash = path.lastIndexOf('/');
    const fd = openBelowOnMount(parent, path.slice(0, Math.max(slash, 0)), O.PATH | O.DIRECTORY);
    if (fd < 0) continue;
    putBytes(scratch + NAME_AT, path.slice(slash + 1));
    files.unlinkAt(fd, scratch + NAME_AT, AT.REMOVEDIR);
    files.close(fd);
  }
}

/** Opens a directory whose mode may forbid it already. */
function openToEmpty(parent: number, path: string): number {
  const pathFd = openBelowOnMount(parent, path, O.PATH | O.DIRECTORY);
  if (pathFd < 0) return pathFd;
  files.chmodFd(pathFd, 0o700);
  files.close(pathFd);
  return openBelowOnMount(parent, path, O.RDONLY | O.DIRECTORY);
}
