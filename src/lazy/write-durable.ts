// Small files that are on disk when they have their name.
// Used wherever the image store is written; what is large is written by its own code.

import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Writes the file `path`, replacing what had its name. That it is there is on disk once its folder is synced. */
export function writeDurable(path: string, content: string | Uint8Array): void {
  const staged = join(dirname(path), `.${process.pid}-${randomBytes(6).toString('hex')}`);
  try {
    writeFileSync(staged, content, { flush: true, flag: 'wx' });
    renameSync(staged, path);
  } catch (error) {
    rmSync(staged, { force: true });
    throw error;
  }
}
