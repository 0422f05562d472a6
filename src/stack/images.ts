// Images among the layers: telling one from a directory, and opening it.
// Used by check.ts and plan.ts (without FFI, before anything is started) and by open.ts in the server.
// Format: fs/erofs/erofs_fs.h; the superblock lies at byte 1024.

import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { EROFS_SUPER_MAGIC_V1, EROFS_SUPER_OFFSET } from '../erofs/format.js';

/** Whether the regular file at `path` begins as an EROFS image does. @throws the error of open(2) or read(2). */
export function isErofs(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const magic = Buffer.alloc(4);
    return (
      readSync(fd, magic, 0, 4, EROFS_SUPER_OFFSET) === 4 &&
      magic.readUInt32LE() === EROFS_SUPER_MAGIC_V1
    );
  } finally {
    closeSync(fd);
  }
}

/** Whether a checked layer is an image: every layer that is not one is a directory. */
export function isImage(path: string): boolean {
  return statSync(path).isFile();
}
