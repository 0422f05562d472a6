// Takes away all that is in a directory, and leaves the directory.
// Called by apply for uppers whose changes have become part of another directory.
// Follows: unlinkat(2), by descriptors, so that nothing outside can be reached.

import { AT } from '../../linux/constants.js';
import { readEntries } from '../../linux/dirents.js';
import { E, SysError } from '../../linux/errno.js';
import { unlinkAt } from '../../linux/files.js';
import { getBytes, putBytes, scratch } from '../../linux/memory.js';
import { removeTree } from '../../tree/remove-tree.js';
import type { Held } from '../held.js';

// This thread's scratch: a name, and directory entries.
const NAME_AT = 0x800;
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;

/** @throws SysError when something stays. */
export function emptyDirectory(directory: Held): void {
  const names: string[] = [];
  const own = directory.below('');
  try {
    const r = readEntries(own.fd, scratch + DENTS_AT, DENTS_SIZE, (at, length) => {
      names.push(getBytes(at, length));
    });
    if (r < 0) throw new SysError('read', r, directory.label);
    for (const name of names) remove(own, name);
  } finally {
    own.close();
  }
}

function remove(directory: Held, name: string): void {
  putBytes(scratch + NAME_AT, name);
  const r = unlinkAt(directory.fd, scratch + NAME_AT);
  if (r === 0 || r === -E.NOENT) return;
  if (r !== -E.ISDIR && r !== -E.PERM) throw new SysError('unlink', r, directory.label);
  removeTree(directory.fd, name);
  putBytes(scratch + NAME_AT, name);
  const left = unlinkAt(directory.fd, scratch + NAME_AT, AT.REMOVEDIR);
  if (left < 0 && left !== -E.NOENT) throw new SysError('rmdir', left, directory.label);
}
