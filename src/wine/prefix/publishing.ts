// Several files of a prefix become valid together: they are made in a folder of `.varve`, and one rename of it is the moment.
// Called by materialise.ts and wine/update; what a killed process left to do is done by whoever comes next.
// From the folder they are then moved to their places: an exchange for the prefix's own files, plain renames for the rest.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { AT, O, RENAME } from '../../linux/constants.js';
import { check, E, SysError } from '../../linux/errno.js';
import { renameAt, syncfs } from '../../linux/files.js';
import { mapMemory, putBytes, scratch } from '../../linux/memory.js';
import { removeTree } from '../../tree/remove-tree.js';
import { fileOf, HIVES } from '../registry/hive.js';
import { pathsOf } from './places.js';

const NEXT = 'registry.next';

/** Wine looks for the time of its wine.inf here, and leaves a prefix with the word of NO_UPDATE alone. */
export const TIMESTAMP = '.update-timestamp';

/** Name of a directory that takes the place of drive_c: this, and its inode number. */
export const UPPER = 'upper.';

/** What stands beside drive_c; all else belongs to `.varve`, names with a dot inside meaning a folder there. */
const IN_PREFIX: readonly string[] = [...HIVES.map(fileOf), TIMESTAMP];

// This thread's scratch: two paths.
const ONE_AT = 0x2000;
const OTHER_AT = 0x3100;

/**
 * Makes files valid together.
 * @param fill puts them into a folder: registry files, files of `.varve`, a new drive_c as UPPER and its inode number, new
 * folders of `.varve` as `FOLDER.NAME`. What it throws leaves the prefix as it was.
 */
export function publishTogether(folder: string, fill: (stage: string) => void): void {
  finishPublishing(folder);
  const { state } = pathsOf(folder);
  mkdirSync(state, { recursive: true });
  const stage = join(state, `${NEXT}.new-${process.pid}`);
  removeStages(state);
  mkdirSync(stage);
  try {
    fill(stage);
    // Directories of a new drive_c have no sync of their own.
    if (readdirSync(stage).some((name) => name.startsWith(UPPER))) sync(stage);
    renameSync(stage, join(state, NEXT));
  } catch (error) {
    removeFolder(stage);
    throw error;
  }
  finishPublishing(folder);
}

/** Whether something is valid that is not in its place yet. */
export const isPublishing = (folder: string): boolean =>
  existsSync(join(pathsOf(folder).state, NEXT));

/** Moves to their places what is valid already; goes on where another process was cut off. */
export function finishPublishing(folder: string): void {
  const { state, driveC } = pathsOf(folder);
  const next = join(state, NEXT);
  const names = namesIn(next);
  if (names === undefined) return;
  for (const name of names) {
    const from = join(next, name);
    if (name.startsWith(UPPER)) {
      const ino = Number(name.slice(UPPER.length));
      if (statSync(driveC, { throwIfNoEntry: false })?.ino !== ino) exchange(from, driveC);
    } else if (IN_PREFIX.includes(name)) renameSync(from, join(folder, name));
    else if (statSync(from).isDirectory()) {
      const [parent = '', ...rest] = name.split('.');
      mkdirSync(join(state, parent), { recursive: true });
      renameSync(from, join(state, parent, rest.join('.')));
    } else renameSync(from, join(state, name));
  }
  // An old drive_c may be in it.
  removeFolder(next);
}

/** Where a file of `.varve` is valid that is about to be moved there. */
export const validPlace = (folder: string, name: string): string =>
  join(pathsOf(folder).state, NEXT, name);

function namesIn(folder: string): string[] | undefined {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Of processes that were killed before the moment: the prefix's lock is the caller's. */
function removeStages(state: string): void {
  for (const name of namesIn(state) ?? []) {
    if (name.startsWith(`${NEXT}.new-`)) removeFolder(join(state, name));
  }
}

function removeFolder(path: string): void {
  mapMemory();
  const parent = openSync(join(path, '..'), O.RDONLY | O.DIRECTORY);
  try {
    removeTree(parent, path.slice(path.lastIndexOf('/') + 1));
  } finally {
    closeSync(parent);
  }
}

function sync(path: string): void {
  mapMemory();
  const fd = openSync(path, O.RDONLY | O.DIRECTORY);
  try {
    check(syncfs(fd), 'sync', path);
  } finally {
    closeSync(fd);
  }
}

/** Swaps two directories in one step, or moves the one where there is no other. */
function exchange(one: string, other: string): void {
  mapMemory();
  putBytes(scratch + ONE_AT, Buffer.from(one).toString('latin1'));
  putBytes(scratch + OTHER_AT, Buffer.from(other).toString('latin1'));
  const at = AT.FDCWD;
  const r = renameAt(at, scratch + ONE_AT, at, scratch + OTHER_AT, RENAME.EXCHANGE);
  if (r >= 0) return;
  // Some filesystems cannot: between the two, a kill leaves no drive_c until the next start.
  if (r !== -E.INVAL && r !== -E.NOSYS && r !== -E.NOENT) throw new SysError('rename', r, other);
  if (statSync(other, { throwIfNoEntry: false }) !== undefined) renameSync(other, `${one}.old`);
  renameSync(one, other);
}
