// Makes a folder and those above it.
// Used where a person names a folder that need not be there: new stores and digest stores.
// Why not mkdirSync({ recursive: true }): below /proc, where nothing can be made, Node 20 tries again for ever.

import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** @throws the error of mkdir(2); what is there already stays as it is. */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, 0o755);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path).isDirectory()) return;
    const above = dirname(path);
    if (code !== 'ENOENT' || above === path || existsSync(above)) throw error;
    makeFolder(above);
    mkdirSync(path, 0o755);
  }
}
