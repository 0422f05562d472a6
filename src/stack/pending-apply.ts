// Whether a directory is half way between two states, because an apply to it was killed.
// Asked before a directory becomes a layer; ops/apply/apply.ts makes the folder, and finishes or undoes what it tells.
// The folder is named after the directory's inode number: the directory may get another name meanwhile.

import { lstatSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { MountError } from './errors.js';

/** The folder's name in a directory that has no neighbours on its filesystem, or none that this user may make. */
export const INNER_APPLY_FOLDER = '.varve-apply';

/** There from the moment at which the directory itself is changed. */
export const APPLY_JOURNAL = 'journal';

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

/**
 * The one that is there, of this user or of root: in a folder like /tmp anybody may have made one of this name, and what a
 * journal says is done. @throws the error of lstat(2) for `path` itself.
 */
export function findApplyFolder(path: string): string | undefined {
  return findOf(path, new Set([process.geteuid?.() ?? 0, 0]));
}

function findOf(path: string, owners: ReadonlySet<number>): string | undefined {
  return applyFolders(path).find((folder) => {
    try {
      const stat = lstatSync(folder, { throwIfNoEntry: false });
      return stat?.isDirectory() === true && owners.has(stat.uid);
    } catch {
      // It cannot be looked at, so it is not this user's.
      return false;
    }
  });
}

/** Whether a directory shows what it did before, or what it is to be: not so while the journal is there. */
function isWhole(path: string): boolean {
  const folder = findOf(path, new Set([process.geteuid?.() ?? 0, 0, lstatSync(path).uid]));
  if (folder === undefined) return true;
  // In the directory it would be seen.
  if (basename(folder) === INNER_APPLY_FOLDER) return false;
  try {
    return lstatSync(join(folder, APPLY_JOURNAL), { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** @param role what the directory is: `lowerdir`. @throws MountError of kind `busy`. */
export function requireWhole(path: string, role: string): void {
  if (isWhole(path)) return;
  throw new MountError(
    'busy',
    `${role}: ${path}: \`varve apply\` is changing it, or was killed: wait, or run \`varve apply --recover ${path}\``,
  );
}
