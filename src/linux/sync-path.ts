// Puts a file or the names of a directory on disk, by path.
// The last step of whoever publishes by a rename; who has a descriptor takes fsync of files.ts.
// Follows: fsync(2): a rename is on disk only when the directory was synced.

import { closeSync, fsyncSync, openSync } from 'node:fs';

/** @throws the error of node:fs. */
export function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
