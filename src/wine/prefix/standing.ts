// What state a prefix is in, and how one that was left in the middle of something is mended.
// Called before every session and by everybody who changes a prefix, under its lock.
// States: down; up (drive_c is the union); broken (its changes are aside, and no mount answers).

import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { unmountFuse } from '../../linux/mount.js';
import { mountAt, parseMountInfo } from '../../linux/mountinfo.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { moveBack } from './drive.js';
import {
  isAlive,
  readSession,
  type SessionPaths,
  type SessionRecord,
  sessionPaths,
} from './layout.js';
import { type Lock, waitLock } from './locks.js';
import { finishPublishing, harvest } from './materialise.js';
import { requireOwnDrive } from './own-drive.js';
import { serverLives } from './waiting.js';

export type Standing = 'down' | 'up' | 'broken';

/** How long somebody else may take to bring the prefix up or down, milliseconds. */
const PATIENCE = 30_000;

export function standingOf(paths: SessionPaths, session = readSession(paths)): Standing {
  if (session !== undefined && isMounted(paths, session)) return 'up';
  const isLeft =
    session !== undefined || existsSync(paths.upper) || mountAt(paths.driveC) !== undefined;
  return isLeft ? 'broken' : 'down';
}

function isMounted(paths: SessionPaths, { holder }: SessionRecord): boolean {
  if (holder !== undefined) return isAlive(holder) && isMountedFor(holder.pid, paths.driveC);
  if (mountAt(paths.driveC) === undefined) return false;
  try {
    // ENOTCONN, EIO: nobody serves it any more.
    statSync(paths.driveC);
    return true;
  } catch {
    return false;
  }
}

function isMountedFor(pid: number, path: string): boolean {
  try {
    const table = parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
    return mountAt(path, table) !== undefined;
  } catch {
    return false;
  }
}

/** Whether a session is up. @param folder of the prefix. */
export function isUp(folder: string): boolean {
  return standingOf(sessionPaths(folder)) === 'up';
}

/**
 * Mends what a session left that did not end by itself: its changes go back to drive_c, those of the registry are
 * stored. The caller has the lock, and nothing is up.
 * @returns what a person should know. @throws MountError `busy` while Wine still runs.
 */
export function mend(paths: SessionPaths): string[] {
  const remarks: string[] = [];
  if (existsSync(paths.upper) && serverLives(paths.folder)) {
    throw new MountError(
      'busy',
      `${paths.folder}: its mount is gone, but Wine still runs there: end it by \`varve wine stop --kill ${paths.folder}\``,
    );
  }
  rmSync(paths.mark, { force: true });
  rmSync(paths.ready, { force: true });
  // The mount of a server that has died: what it was told is written, and nobody can use it.
  for (let i = 0; i < 8 && existsSync(paths.upper) && mountAt(paths.driveC) !== undefined; i++)
    unmountFuse(paths.driveC, true);
  const stray = moveBack(paths);
  finishPublishing(paths.folder);
  if (stray !== undefined) {
    remarks.push(`${paths.driveC}: something was written beside the mount: see ${stray}`);
  }
  requireOwnDrive(paths);
  if (existsSync(paths.session)) {
    harvest(paths.folder);
    rmSync(paths.session);
    remarks.push(`${paths.folder}: the last session did not end by itself: its changes are kept`);
  }
  return remarks;
}

/** What another user did there would not be the prefix's owner's any more. @throws MountError of kind `permission`. */
export function requireOwner(folder: string): void {
  const uid = statSync(folder, { throwIfNoEntry: false })?.uid;
  if (uid === undefined || uid === process.geteuid?.()) return;
  throw new MountError('permission', `${folder}: belongs to user ${uid}: Wine wants its own user`);
}

/**
 * Keeps a prefix down, mended, until it is released.
 * @param doing for the message. @throws MountError `busy` while a session is up.
 */
export async function holdPrefix(folder: string, doing: string): Promise<Lock> {
  requireOwner(folder);
  const paths = sessionPaths(folder);
  try {
    mkdirSync(paths.state, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new MountError('layer', `${folder}: cannot be a prefix: ${reasonOf(error)}`);
  }
  const lock = await waitLock(paths.lock, false, PATIENCE);
  if (lock === undefined) {
    throw new MountError('busy', `${folder}: another command is busy with it: ${doing} later`);
  }
  try {
    if (standingOf(paths) === 'up') {
      throw new MountError(
        'busy',
        `${folder}: Wine runs in it: end its programs or \`varve wine stop ${folder}\`, then ${doing}`,
      );
    }
    mend(paths);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Mends a prefix that is not up; see mend(). @throws MountError. */
export async function recoverPrefix(folder: string): Promise<void> {
  const paths = sessionPaths(folder);
  if (!existsSync(paths.state)) return;
  const lock = await waitLock(paths.lock, false, PATIENCE);
  try {
    if (lock !== undefined && standingOf(paths) === 'broken') mend(paths);
  } finally {
    lock?.release();
  }
}
