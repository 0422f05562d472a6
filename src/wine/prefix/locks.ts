// Locks of a prefix: whole files of its .varve folder, which the kernel gives back when their holder dies.
// Used by session.ts, standing.ts and stop.ts; shells take the same ones by flock(1).
// Follows flock(2): a lock belongs to the open file, so a program that inherits the descriptor keeps it.

import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { E, errnoName } from '../../linux/errno.js';
import { lockFile } from '../../linux/peer.js';
import { MountError, reasonOf } from '../../stack/errors.js';

export interface Lock {
  /** Close-on-exec; whoever is to keep the lock inherits it. */
  readonly fd: number;
  release(): void;
}

/** Milliseconds between two tries. */
const PAUSE = 15;

/** @returns undefined: somebody has it. @throws MountError. */
export function tryLock(path: string, shared: boolean): Lock | undefined {
  let fd: number;
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    fd = openSync(path, flags, 0o600);
  } catch (error) {
    throw new MountError('permission', `${path}: ${reasonOf(error)}: the prefix must be your own`);
  }
  const r = lockFile(fd, shared);
  if (r >= 0) return { fd, release: () => closeSync(fd) };
  closeSync(fd);
  if (r === -E.AGAIN) return undefined;
  throw new MountError('layer', `${path}: cannot be locked (${errnoName(r)})`);
}

/**
 * Waits for a lock.
 * @param patience milliseconds. @param late is called once, after a second of waiting.
 * @returns undefined when patience is over. @throws MountError.
 */
export async function waitLock(
  path: string,
  shared: boolean,
  patience: number,
  late: () => void = () => {},
): Promise<Lock | undefined> {
  const start = performance.now();
  let told = false;
  for (;;) {
    const lock = tryLock(path, shared);
    if (lock !== undefined) return lock;
    const waited = performance.now() - start;
    if (waited >= patience) return undefined;
    if (waited > 1000 && !told) {
      told = true;
      late();
    }
    await sleep(PAUSE);
  }
}
