// An upper that nobody mounts meanwhile: its lock, and the refusal where somebody has it mounted already.
// Called before an upper is changed in place; the lock is the one that a server takes of its upper and workdir.
// Follows: stack/claim.ts, flock(2). Kernel overlays take no such lock, and are found in the mount table.

import { closeSync, openSync, realpathSync } from 'node:fs';
import { O } from '../linux/constants.js';
import { E, errnoName } from '../linux/errno.js';
import { mapMemory } from '../linux/memory.js';
import { mountTable } from '../linux/mountinfo.js';
import { lockFileSoon } from '../linux/peer.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { layersOf } from '../stack/mounts-known.js';

export interface HeldUpper {
  /** A descriptor of the upper, readable. */
  readonly fd: number;
  /** Lets others mount it again. */
  release(): void;
}

/**
 * @param upper, workdir absolute. @param doing for the message: what must not happen beside a mount.
 * @throws MountError: `busy` where it is mounted, `layer` where it cannot be opened or locked.
 */
export function holdUpper(upper: string, workdir: string | undefined, doing: string): HeldUpper {
  mapMemory();
  const fds: number[] = [];
  const release = (): void => {
    for (const fd of fds) closeSync(fd);
  };
  try {
    for (const path of workdir === undefined ? [upper] : [upper, workdir]) {
      fds.push(lock(path, doing));
    }
    // Behind the lock: whoever mounts it from now on meets that.
    const user = mountTable().find(
      (entry) => entry.type === 'overlay' && isSame(layersOf(entry).upperdir, upper),
    );
    if (user !== undefined) throw inUse(upper, `by the overlay on ${user.mountpoint}`, doing);
    return { fd: fds[0] as number, release };
  } catch (error) {
    release();
    throw error;
  }
}

function lock(path: string, doing: string): number {
  let fd: number;
  try {
    fd = openSync(path, O.RDONLY | O.DIRECTORY);
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: check the path`);
  }
  const r = lockFileSoon(fd);
  if (r >= 0) return fd;
  closeSync(fd);
  if (r === -E.AGAIN) throw inUse(path, 'by a mount or by another command', doing);
  throw new MountError('layer', `${path}: cannot be locked (${errnoName(r)})`);
}

function inUse(path: string, by: string, doing: string): MountError {
  return new MountError('busy', `${path}: in use ${by}: ${doing} when it is unmounted`);
}

function isSame(named: string | undefined, path: string): boolean {
  if (named === undefined) return false;
  if (named === path) return true;
  try {
    return realpathSync(named) === realpathSync(path);
  } catch {
    // A mount of another namespace names what is not here.
    return false;
  }
}
