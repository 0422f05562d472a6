// The running system as covers.ts asks for it: its mounts, and what is in its directories.
// Read by ops/try for the plan of a sandbox, and by new-root.ts once more where the plan does not fit any longer.
// Paths are bytes as latin1.

import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { mountTable } from '../linux/mountinfo.js';
import type { Kind, Machine } from './covers.js';

const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');

const kindOf = (entry: {
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isFile(): boolean;
}): Kind => {
  if (entry.isDirectory()) return 'directory';
  if (entry.isSymbolicLink()) return 'symlink';
  return entry.isFile() ? 'file' : 'other';
};

/** Mounts are those of now. */
export function thisMachine(): Machine {
  return {
    mounts: mountTable(),
    list: (path) => {
      try {
        const entries = readdirSync(bytes(path), { withFileTypes: true, encoding: 'latin1' });
        return entries.map((entry) => ({ name: entry.name, kind: kindOf(entry) }));
      } catch {
        return undefined;
      }
    },
    kindOf: (path) => {
      try {
        return kindOf(lstatSync(bytes(path)));
      } catch {
        return undefined;
      }
    },
    readlink: (path) => readlinkSync(bytes(path), { encoding: 'latin1' }),
  };
}
