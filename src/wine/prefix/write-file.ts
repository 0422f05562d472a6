// A small file that is there whole or not at all.
// Used for everything that a prefix, a base or a layer keeps beside its files; what stood at its name is replaced, never
// written into: it may be a symlink or a hard link to somebody else's file.

import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

/** @throws the error of node:fs; then the old one is still there. */
export function writeFileWhole(path: string, bytes: Uint8Array | string): void {
  const temporary = `${path}.new-${process.pid}`;
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, 'wx', 0o644);
  try {
    try {
      const data = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
      for (let done = 0; done < data.length; ) done += writeSync(fd, data, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
