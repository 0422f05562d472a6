// Where things of the library are made before they appear: a folder in its root, given away by one rename.
// Used by everything that adds to or takes from the library. The lock of the root is held for moments only: while somebody
// looks whether a name is free, and renames. A stage is locked by its maker, so that what a killed one left is told from it.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { O } from '../../linux/constants.js';
import { check, E, errnoName } from '../../linux/errno.js';
import { syncfs } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { mountTable } from '../../linux/mountinfo.js';
import { lockFile } from '../../linux/peer.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { removeTree } from '../../tree/remove-tree.js';
import type { WinePlaces } from '../prefix/places.js';

const PREFIX = '.tmp-';
/** Milliseconds to wait for another command, and between two tries. */
const PATIENCE = 10_000;
const PAUSE = 20;

export interface Stage {
  /** Absolute, empty at first, on the filesystem of the library. */
  readonly folder: string;
  /** Removes what is left in it. */
  close(): void;
}

/** Makes a stage, and removes those of commands that were killed. @throws MountError of kind `layer`. */
export function openStage({ root }: WinePlaces): Stage {
  makeFolder(root);
  mapMemory();
  sweep(root);
  const name = `${PREFIX}${randomBytes(6).toString('hex')}`;
  const folder = join(realpathSync(root), name);
  try {
    mkdirSync(folder, { mode: 0o755 });
  } catch (error) {
    throw new MountError('layer', `${root}: cannot be written: ${reasonOf(error)}`);
  }
  const lock = openSync(folder, O.RDONLY | O.DIRECTORY);
  lockFile(lock);
  return {
    folder,
    close: () => {
      removeFolder(folder);
      closeSync(lock);
    },
  };
}

/** Ends sessions in the stages of commands that were killed, unless somebody still uses them: the next stage removes these. */
export async function endLeftSessions({ root }: WinePlaces): Promise<void> {
  const mounts = mountTable();
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    const folder = join(realpathSync(root), name);
    const isLeft = mounts.some(({ mountpoint }) => mountpoint.startsWith(`${folder}/prefix/`));
    if (!name.startsWith(PREFIX) || !isLeft || !isFree(folder)) continue;
    const { stopPrefix } = await import('../prefix/stop.js');
    try {
      await stopPrefix(join(folder, 'prefix'), { patience: 0, remark: () => {} });
    } catch (error) {
      // Its programs go on; whoever comes later looks again.
      if (!(error instanceof MountError)) throw error;
    }
  }
}

/** Whether the maker of a stage has gone. */
function isFree(folder: string): boolean {
  mapMemory();
  const fd = openSync(folder, O.RDONLY | O.DIRECTORY);
  const r = lockFile(fd);
  closeSync(fd);
  return r === 0;
}

/** Removes a folder with all that is in it; what is mounted there stays, with its path. */
export function removeFolder(path: string): void {
  mapMemory();
  const parent = openSync(dirname(path), O.RDONLY | O.DIRECTORY);
  try {
    removeTree(parent, Buffer.from(path.slice(dirname(path).length + 1)).toString('latin1'));
  } finally {
    closeSync(parent);
  }
}

function sweep(root: string): void {
  const left = readdirSync(root).filter((name) => name.startsWith(PREFIX));
  if (left.length === 0) return;
  const mounts = mountTable();
  for (const name of left) {
    const folder = join(realpathSync(root), name);
    // Wine may still be running there; the next command looks again.
    if (mounts.some(({ mountpoint }) => mountpoint.startsWith(`${folder}/`))) continue;
    let fd: number;
    try {
      fd = openSync(folder, O.RDONLY | O.DIRECTORY);
    } catch {
      continue;
    }
    if (lockFile(fd) === 0) removeFolder(folder);
    closeSync(fd);
  }
}

/** Does something while no other command changes what the library has. @throws MountError `busy`, and what `work` throws. */
export async function withLibrary<T>({ root }: WinePlaces, work: () => T | Promise<T>): Promise<T> {
  makeFolder(root);
  const lock = openSync(root, O.RDONLY | O.DIRECTORY);
  try {
    await takeLock(lock, root);
    return await work();
  } finally {
    closeSync(lock);
  }
}

async function takeLock(fd: number, root: string): Promise<void> {
  mapMemory();
  for (const end = Date.now() + PATIENCE; ; ) {
    const r = lockFile(fd);
    if (r >= 0) return;
    if (r !== -E.AGAIN) {
      throw new MountError('layer', `${root}: cannot be locked (${errnoName(r)})`);
    }
    if (Date.now() >= end) {
      throw new MountError('busy', `${root}: another command is changing it: try again later`);
    }
    await setTimeout(PAUSE);
  }
}

export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new MountError('layer', `${path}: cannot be made: ${reasonOf(error)}`);
  }
}

/** Has everything of a filesystem stored, before the lock is taken: publish() has little left to wait for then. */
export function settle(made: string): void {
  const folder = openSync(made, O.RDONLY | O.DIRECTORY);
  try {
    check(syncfs(folder), 'sync', made);
  } finally {
    closeSync(folder);
  }
}

/**
 * Gives what was made its name, when all of it is on disk. Whoever calls has the lock and knows that the name is free.
 * @throws MountError of kind `layer`.
 */
export function publish(made: string, target: string): void {
  makeFolder(dirname(target));
  const folder = openSync(dirname(target), O.RDONLY | O.DIRECTORY);
  try {
    check(syncfs(folder), 'sync', target);
    renameSync(made, target);
    fsyncSync(folder);
  } catch (error) {
    throw new MountError('layer', `${target}: cannot be made: ${reasonOf(error)}`);
  } finally {
    closeSync(folder);
  }
}
