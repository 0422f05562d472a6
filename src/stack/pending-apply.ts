// Whether a directory is half way between two states, because an apply to it was killed.
// Asked before a directory becomes a layer; ops/apply.ts makes the folder, and finishes or undoes what it tells.
// The folder is named after the directory's inode number: the directory may get another name meanwhile.

import { lstatSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MountError } from './errors.js';

/** The folder's name in a directory that has no neighbours on its filesystem, or none that this user may make. */
export const INNER_APPLY_FOLDER = '.varve-apply';

/**
 * Where an apply to a directory keeps its journal, what it puts in and what it takes out: beside it, else in it.
 * @param path absolute, without symlinks.
 */
export function applyFolders(path: string): readonly string[] {
  const inside = join(path, INNER_APPLY_FOLDER);
  if (path === '/') return [inside];
  const { ino } = lstatSync(path, { bigint: true });
  return [join(dirname(path), `${INNER_APPLY_FOLDER}-${ino}`), inside];
}

/** The one that is there. @throws the error of lstat(2) for `path` itself. */
export function findApplyFolder(path: string): string | undefined {
  return applyFolders(path).find((folder) => {
    try {
      return lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === true;
    } catch {
      // It cannot be looked at, so it is not this user's.
      return false;
    }
  });
}

/** @param role what the directory is: `lowerdir`. @throws MountError of kind `busy`. */
export function requireWhole(path: string, role: string): void {
  if (findApplyFolder(path) === undefined) return;
  throw new MountError(
    'busy',
    `${role}: ${path}: \`varve apply\` is changing it, or was killed: wait, or run \`varve apply --recover ${path}\``,
  );
}
