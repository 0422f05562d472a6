// A session of a layered prefix: the registry in order, the union on drive_c, Wine in it, and everything back at its end.
// Started by `varve wine`; several at once share one mount. ARCHITECTURE: docs/wine-running.md.
// States and their order: layout.ts, standing.ts, stop.ts.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import type { Below } from './below.js';
import type { WineBuild } from './build.js';
import { type Drive, mountDrive, moveAside, moveBack } from './drive.js';
import { startKeeper } from './keeper.js';
import {
  markUp,
  readSession,
  type SessionPaths,
  type SessionRecord,
  sessionPaths,
  writeSession,
} from './layout.js';
import { type Lock, waitLock } from './locks.js';
import { materialise } from './materialise.js';
import { joining } from './namespace.js';
import { separate } from './own-drive.js';
import { mend, requireOwner, standingOf } from './standing.js';
import { stopPrefix } from './stop.js';
import { type Served, servedBy, serverLives } from './waiting.js';

export { isUp, recoverPrefix } from './standing.js';

/** How long somebody else may take to bring the prefix up or down, milliseconds. */
const PATIENCE = 60_000;

export interface SessionWish {
  /** Of the prefix; made where it is missing. */
  readonly folder: string;
  /** Topmost first; at least one. */
  readonly below: readonly Below[];
  readonly wine: WineBuild;
  /** auto: the kernel where root may have it, else a server. A session that is up stays as it is. */
  readonly backend?: 'fuse' | 'kernel' | 'auto';
  readonly env: NodeJS.ProcessEnv;
  readonly quiet?: boolean;
  /** Only this Wine will do, so that shells may not join with the one that they find. */
  readonly onlyThisWine?: boolean;
  /** The layers are those of WINEPREFIX_OVERLAYS: a session with others is refused. */
  readonly overlays?: string;
  remark?(text: string): void;
}

/** How a program ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A program to be started, in words; it is to inherit `lock` and nothing else of this process. */
export interface Launch {
  readonly words: readonly [string, ...string[]];
  readonly lock: number;
}

export interface RunHow {
  /** It is a program of this machine. */
  readonly host?: boolean;
  /** Is told of the process. */
  started?(child: ChildProcess): void;
}

export interface Session {
  readonly folder: string;
  /** For programs of the prefix: WINEPREFIX set, WINEPREFIX_OVERLAYS not. */
  readonly env: NodeJS.ProcessEnv;
  /** Runs a Windows program, or one of Wine's. @throws the error of spawn(). */
  run(
    program: string,
    args: readonly string[],
    stdio: 'inherit' | 'ignore' | readonly (number | 'inherit' | 'ignore')[],
    how?: RunHow,
  ): Promise<Ended>;
  /** How run() would start a program, or with `host` one of this machine. */
  launch(program: string, args: readonly string[], host?: boolean): Launch;
  /** Leaves the end to a process of its own. @param linger seconds between the last program and the end. */
  leave(varve: readonly string[], linger: number): void;
  /** Waits until Wine has ended and nobody else uses the prefix, and takes it down. @param varve as of leave(). @throws MountError. */
  stop(varve?: readonly string[]): Promise<void>;
}

/** @throws MountError; then the prefix is as it was. */
export async function startSession(wish: SessionWish): Promise<Session> {
  const remark = wish.quiet === true ? () => {} : (wish.remark ?? toStderr);
  const folder = preparePrefix(wish.folder);
  const paths = sessionPaths(folder);
  refuseOwn(paths, wish.below);
  const late = (): void => remark(`waiting for another command that is busy with ${folder}`);
  const lock = await waitLock(paths.lock, false, PATIENCE, late);
  if (lock === undefined) {
    throw new MountError('busy', `${folder}: another command is busy with it: try again later`);
  }
  let users: Lock | undefined;
  try {
    // The keeper has it for a moment.
    users = await waitLock(paths.users, true, PATIENCE);
    if (users === undefined) throw new MountError('busy', `${folder}: is locked: try again later`);
    let record = readSession(paths);
    if (standingOf(paths, record) === 'up') requireSame(folder, record as SessionRecord, wish);
    else record = await bringUp(paths, wish, remark);
    return sessionOf(paths, record as SessionRecord, users, wish, remark);
  } catch (error) {
    users?.release();
    throw error;
  } finally {
    lock.release();
  }
}

function toStderr(text: string): void {
  process.stderr.write(`varve: ${text}\n`);
}

/** Makes what Wine makes of a prefix before anything runs. @returns the folder without symlinks. */
function preparePrefix(folder: string): string {
  try {
    mkdirSync(folder, { recursive: true });
    const real = realpathSync(folder);
    requireOwner(real);
    makeDirectory(join(real, '.varve'), 0o700);
    if (makeDirectory(join(real, 'dosdevices'))) {
      symlinkSync('../drive_c', join(real, 'dosdevices/c:'));
      symlinkSync('/', join(real, 'dosdevices/z:'));
    }
    return real;
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw new MountError('layer', `${folder}: cannot be a prefix: ${reasonOf(error)}`);
  }
}

/** The prefix's own files are on top already. */
function refuseOwn({ driveC, upper }: SessionPaths, below: readonly Below[]): void {
  const own = below.find(({ driveC: layer }) =>
    [driveC, upper].some((path) => layer === path || layer.startsWith(`${path}/`)),
  );
  if (own === undefined) return;
  throw new MountError(
    'layer',
    `layer ${own.label}: is the prefix's own drive_c, which is on top already: leave it out`,
  );
}

/** @returns whether it was made. */
function makeDirectory(path: string, mode = 0o777): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function requireSame(folder: string, record: SessionRecord, wish: SessionWish): void {
  if (wish.overlays === undefined) return;
  const asked = wish.below.map(({ driveC }) => driveC);
  if (asked.length === record.layers.length && asked.every((p, i) => p === record.layers[i]))
    return;
  throw new MountError(
    'busy',
    `${folder}: Wine runs in it with other layers (${record.layers.join(', ')}): end its programs first, or \`varve wine stop ${folder}\``,
  );
}

/** With the prefix's lock, and no session up. */
async function bringUp(
  paths: SessionPaths,
  wish: SessionWish,
  remark: (text: string) => void,
): Promise<SessionRecord> {
  const { folder } = paths;
  for (const text of mend(paths)) remark(text);
  if (serverLives(folder)) {
    throw new MountError(
      'busy',
      `${folder}: Wine runs in it without its layers: end its programs first`,
    );
  }
  makeDirectory(paths.driveC);
  const { below } = wish;
  if (separate(paths))
    remark(`${folder}: had files in common with another folder: they are copied`);
  const { conflicts } = materialise(folder, below);
  if (conflicts.length > 0) {
    const places = conflicts.length === 1 ? '1 place' : `${conflicts.length} places`;
    remark(
      `${folder}: the prefix and its layers have changed the same in ${places} of the registry; the prefix's side counts: \`varve wine update ${folder} --conflicts\` lists them`,
    );
  }
  const planned: SessionRecord = {
    version: 1,
    backend: 'fuse',
    layers: below.map(({ driveC }) => driveC),
    wineserver: wish.wine.wineserver,
    env: wish.wine.env,
  };
  writeSession(paths, planned);
  let drive: Drive;
  try {
    moveAside(paths);
    drive = await mountDrive(paths, below, wish.backend ?? 'auto', wish.env);
  } catch (error) {
    moveBack(paths);
    rmSync(paths.session);
    throw error;
  }
  const record = { ...planned, ...drive };
  if (drive.backend !== 'fuse') writeSession(paths, record);
  if (drive.backend !== 'namespace' && wish.onlyThisWine !== true) {
    markUp(paths, wish.overlays ?? '', process.cwd());
  }
  return record;
}

function sessionOf(
  paths: SessionPaths,
  record: SessionRecord,
  users: Lock,
  wish: SessionWish,
  remark: (text: string) => void,
): Session {
  const { folder } = paths;
  const { WINEPREFIX_OVERLAYS: _, ...rest } = wish.env;
  const env = { ...rest, ...wish.wine.env, WINEPREFIX: folder };
  const served: Served = servedBy(folder, record);
  const launch: Session['launch'] = (program, args, host = false) => {
    const command = host || program === 'wineserver' ? [] : [wish.wine.wine];
    const name = !host && program === 'wineserver' ? wish.wine.wineserver : program;
    const inside = record.holder === undefined ? [] : joining(record.holder, process.cwd());
    const words = [...inside, ...command, name, ...args] as [string, ...string[]];
    return { words, lock: users.fd };
  };
  const run: Session['run'] = (program, args, stdio, how = {}) => {
    const [first, ...words] = launch(program, args, how.host).words;
    const [input = 'ignore', output = 'ignore', errors = 'ignore'] =
      typeof stdio === 'string' ? [stdio, stdio, stdio] : stdio;
    const streams: StdioOptions = [input, output, errors, users.fd];
    return new Promise((done, failed) => {
      const child = spawn(first, words, { stdio: streams, env });
      child.once('error', failed);
      child.once('exit', (code, signal) => done({ code, signal }));
      how.started?.(child);
    });
  };
  return {
    folder,
    env,
    launch,
    run,
    leave: (varve, linger) => startKeeper(paths, served, varve, linger),
    stop: async (varve) => {
      users.release();
      const patience = Number.POSITIVE_INFINITY;
      await stopPrefix(folder, { patience, remark, ...(varve === undefined ? {} : { varve }) });
    },
  };
}
