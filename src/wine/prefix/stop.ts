// The end of a session: waits for Wine and for whoever else uses the prefix, unmounts, puts everything back, stores the registry.
// Called by `varve wine stop`, by the keeper, and by whoever started the session.
// The order: unmounted, changes back in drive_c, registry.delta, session.json gone. mend() goes on where this was cut off.

import { existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { MountError } from '../../stack/errors.js';
import type { WineBuild } from './build.js';
import { moveBack, unmountDrive } from './drive.js';
import {
  readMark,
  readSession,
  type SessionPaths,
  type SessionRecord,
  sessionPaths,
} from './layout.js';
import { tryLock, waitLock } from './locks.js';
import { harvest } from './materialise.js';
import { makeReadyStart } from './ready-start.js';
import { mend, requireOwner, standingOf } from './standing.js';
import { killWine, programsOf, servedBy, serverLives, usersOf, waitForWine } from './waiting.js';

/** Milliseconds for a wineserver that is about to end, asked while others are kept waiting. */
const MOMENT = 200;

/** Milliseconds between two tries to unmount. */
const PAUSE = 100;

export interface StopWish {
  /** Milliseconds to wait for programs; Infinity: as long as it takes. */
  readonly patience: number;
  /** The command line up to its first word, for the next start; see ready-start.ts. Absent: none is made ready. */
  readonly varve?: readonly string[];
  remark(text: string): void;
}

/**
 * Stops a session when nobody uses it any more. What is down stays so; what a crash left is mended.
 * @returns whether there was anything to do. @throws MountError `busy` when patience is over.
 */
export async function stopPrefix(folder: string, wish: StopWish): Promise<boolean> {
  const paths = sessionPaths(folder);
  if (!existsSync(paths.state)) return false;
  requireOwner(folder);
  const deadline = performance.now() + wish.patience;
  const left = (): number => Math.max(0, deadline - performance.now());
  const told = new Set<string>();
  const remark = (text: string): void => {
    if (!told.has(text)) wish.remark(text);
    told.add(text);
  };
  for (;;) {
    const tried = await tryStop(paths, left, { ...wish, remark });
    if (tried !== 'used') return tried === 'stopped';
    const session = readSession(paths);
    if (left() === 0) throw inUse(folder);
    if (session !== undefined) {
      const late = (): void => remark(waitingText(folder));
      await waitForWine(servedBy(folder, session), left(), late);
    }
    const lateToo = (): void => remark(`waiting for programs that use ${folder}`);
    (await waitLock(paths.users, false, left(), lateToo))?.release();
    await sleep(Math.min(PAUSE, left()));
  }
}

/**
 * Ends every Windows program of a prefix. @param installed the Wine to ask where no session says which it is.
 * @throws MountError.
 */
export async function killPrefix(folder: string, installed: () => WineBuild): Promise<void> {
  const session = readSession(sessionPaths(folder));
  if (session !== undefined) return killWine(servedBy(folder, session));
  if (serverLives(folder)) await killWine({ folder, ...installed() });
}

function waitingText(folder: string): string {
  const who = programsOf(folder);
  return `waiting for Wine to end in ${folder}${who === '' ? '' : `: ${who}`}`;
}

function inUse(folder: string): MountError {
  const who = programsOf(folder);
  return new MountError(
    'busy',
    `${folder}: in use${who === '' ? '' : ` by ${who}`}: end that, or write \`varve wine stop --kill ${folder}\``,
  );
}

async function tryStop(
  paths: SessionPaths,
  left: () => number,
  wish: StopWish,
): Promise<'stopped' | 'down' | 'used'> {
  const { remark } = wish;
  const late = (): void => remark(`waiting for another command that is busy with ${paths.folder}`);
  const lock = await waitLock(paths.lock, false, Math.max(left(), MOMENT), late);
  if (lock === undefined) return 'used';
  try {
    const session = readSession(paths);
    const standing = standingOf(paths, session);
    if (standing === 'down') return 'down';
    if (session === undefined || standing === 'broken') {
      for (const text of mend(paths)) remark(text);
      return 'stopped';
    }
    return await stopAlone(paths, session, wish);
  } finally {
    lock.release();
  }
}

/** With the prefix's lock. */
async function stopAlone(
  paths: SessionPaths,
  session: SessionRecord,
  { varve, remark }: StopWish,
): Promise<'stopped' | 'used'> {
  const users = tryLock(paths.users, false);
  if (users === undefined) return 'used';
  try {
    if (!(await waitForWine(servedBy(paths.folder, session), MOMENT))) return 'used';
    try {
      await unmountDrive(paths, session);
    } catch (error) {
      if (!(error instanceof MountError) || error.kind !== 'busy') throw error;
      const who = usersOf(paths.driveC);
      remark(`waiting until nothing is open in ${paths.driveC}${who === '' ? '' : `: ${who}`}`);
      return 'used';
    }
    const mark = readMark(paths);
    rmSync(paths.mark, { force: true });
    const stray = moveBack(paths);
    if (stray !== undefined) remark(`${paths.driveC}: something lay below the mount: see ${stray}`);
    harvest(paths.folder);
    rmSync(paths.session);
    if (varve !== undefined) await makeReadyStart(paths, { session, mark, varve });
    return 'stopped';
  } finally {
    users.release();
  }
}
