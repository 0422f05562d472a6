// A small file that may be missing: absence is a value.
// Used for records and notes beside what they are about.
// Follows: open(2), ENOENT.

import { readFileSync } from 'node:fs';

/** @returns the file's bytes, undefined when there is none of this name. @throws any other error of open(2) or read(2). */
export function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
