// A new upper takes the place of the old one by one rename, and the old one is kept beside it; the same way back.
// Called by rebase.ts with the upper locked. What is killed leaves the old upper or the new one: recover() clears up after it.
// Follows: renameat2(2) RENAME_EXCHANGE. A filled index is a second rename: until it is done, no mount takes the upper.

import { statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AT, RENAME } from '../../linux/constants.js';
import { E, SysError } from '../../linux/errno.js';
import { close, renameAt, syncfs } from '../../linux/files.js';
import { putBytes, scratch } from '../../linux/memory.js';
import { MountError } from '../../stack/errors.js';
import { type ExtractWarning, extractTree } from '../../tree/extract.js';
import type { TreeNode } from '../../tree/tree.js';
import type { MarkPrefix } from '../../union/view.js';
import {
  foldersOf,
  indexIn,
  inoOf,
  type LayerPaths,
  makeFolder,
  openPath,
  type Record,
  removeFolder,
  renameUndone,
  upperIn,
  writeRecord,
} from './folder.js';
import { detachIndex, forbidMounts, indexOf, makeIndex, permitMounts } from './index-folder.js';

// This thread's scratch: two paths.
const ONE_AT = 0x2000;
const OTHER_AT = 0x3100;

/** The two directories of a stack that a rebase replaces, or parts of them: absolute paths. */
export interface Writable {
  readonly upper: string;
  readonly work: string;
}

export interface NewUpper {
  readonly root: TreeNode;
  /** Objects that the index is to have, by the names of their entries. */
  readonly indexed: ReadonlyMap<TreeNode, string>;
  readonly prefix: MarkPrefix;
  readonly from: LayerPaths;
  readonly to: LayerPaths;
}

export interface Published {
  /** Where the old upper is now; undefined: removed. */
  readonly kept: string | undefined;
  readonly warnings: readonly ExtractWarning[];
}

/**
 * Writes the new upper and puts it in the old one's place.
 * @param onProgress told how many names are written.
 * @throws MountError, SysError, TreeError; the old upper is then where it was.
 */
export function publish(
  at: Writable,
  made: NewUpper,
  discard: boolean,
  onProgress: (names: number) => void,
): Published {
  const folder = makeFolder(at.upper);
  try {
    const begun: Record = {
      version: 1,
      upperdir: at.upper,
      from: made.from,
      to: made.to,
      time: new Date().toISOString(),
      old: statSync(at.upper).ino,
    };
    writeRecord(folder, begun);
    const warnings = extractTree(made.root, upperIn(folder), { onProgress });
    refuseLosses(warnings);
    const index = makeIndex(at.work, folder, made.root, made.indexed);
    const record = { ...begun, new: statSync(upperIn(folder)).ino, index };
    writeRecord(folder, record);
    turn(at, folder, record, made.prefix);
    if (discard) removeFolder(folder);
    return { kept: discard ? undefined : upperIn(folder), warnings };
  } catch (error) {
    // What stands stays: only an upper that is not in its place is taken away.
    recover(at);
    throw error;
  }
}

export interface Undone {
  /** Where the upper is that was in place until now; undefined: removed. */
  readonly kept: string | undefined;
  /** What the upper that is in place fits. */
  readonly layers: LayerPaths;
}

/**
 * Puts the upper back that the last rebase has replaced; what it is now is kept in its turn.
 * @throws MountError `absent` when there is nothing to undo.
 */
export function undo(at: Writable, prefix: MarkPrefix, discard: boolean): Undone {
  const { ino } = statSync(at.upper);
  const found = foldersOf(at.upper).findLast(
    ({ record, has }) => has === 'old' && record.new === ino,
  );
  if (found === undefined) {
    throw new MountError(
      'absent',
      `upperdir: ${at.upper}: nothing to undo: no ${basename(at.upper)}.before-rebase-* beside it belongs to what is there now`,
    );
  }
  const { path, record } = found;
  writeRecord(path, { ...record, undone: true });
  turn(at, path, record, prefix);
  const layers = record.from;
  if (!discard) return { kept: upperIn(renameUndone(path)), layers };
  removeFolder(path);
  return { kept: undefined, layers };
}

/** Exchanges the upper with the one in the folder, and the index with it. */
function turn(at: Writable, folder: string, { index }: Record, prefix: MarkPrefix): void {
  sync(folder);
  if (index === undefined) detachIndex(at.work, prefix);
  else forbidMounts(at.work);
  exchange(at.upper, upperIn(folder));
  if (index === undefined) return;
  exchange(indexOf(at.work), indexIn(folder));
  permitMounts(at.work);
}

/**
 * Finishes what a killed rebase or undo has begun, where the other upper stands already, and clears away what it has left where not.
 * @returns what was done, one line each.
 */
export function recover(at: Writable): string[] {
  const done: string[] = [];
  for (const { path, record, has } of foldersOf(at.upper)) {
    if (has === 'unfinished' || (has === 'new' && record.undone === undefined)) {
      removeFolder(path);
      done.push(`${path}: removed: it was not finished, and the upper is the old one`);
      continue;
    }
    if (record.index !== undefined) {
      // The new index goes with the new upper, wherever that is.
      const isNewInFolder = inoOf(indexIn(path)) === record.index;
      if (isNewInFolder === (has === 'old')) {
        exchange(indexOf(at.work), indexIn(path));
        done.push(`${path}: finished: the index is that of the upper now`);
      }
    }
    if (has === 'new') done.push(`${renameUndone(path)}: kept: the old upper is back in its place`);
    else if (record.undone !== undefined) {
      const { undone: _, ...rest } = record;
      writeRecord(path, rest);
      done.push(`${path}: as before: the old upper was not yet put back`);
    }
  }
  permitMounts(at.work);
  return done;
}

/** What an upper cannot do without must have been written. */
export function refuseLosses(warnings: readonly ExtractWarning[]): void {
  const lost = warnings.find(({ problem }) => /devices|"(?:user|trusted)\.\*"/.test(problem));
  if (lost === undefined) return;
  throw new MountError(
    'permission',
    `${lost.path}: ${lost.problem}: run it as the user whose mounts have written the upper`,
  );
}

/** Swaps two directories in one step. @throws MountError, SysError. */
function exchange(one: string, other: string): void {
  putBytes(scratch + ONE_AT, Buffer.from(one).toString('latin1'));
  putBytes(scratch + OTHER_AT, Buffer.from(other).toString('latin1'));
  const at = AT.FDCWD;
  const r = renameAt(at, scratch + ONE_AT, at, scratch + OTHER_AT, RENAME.EXCHANGE);
  if (r === -E.INVAL || r === -E.NOSYS) {
    throw new MountError(
      'layer',
      `${one}: its filesystem cannot exchange two directories: move the upper to another one`,
    );
  }
  if (r === -E.BUSY || r === -E.XDEV) {
    throw new MountError(
      'busy',
      `${one}: it is a mount point, and cannot be replaced: name the directory that is mounted there`,
    );
  }
  if (r < 0) throw new SysError('rename', r, one);
  sync(dirname(one));
}

/** Everything on the filesystem of a directory. */
function sync(path: string): void {
  const fd = openPath(path);
  syncfs(fd);
  close(fd);
}
