// What `varve wine PROGRAM` and `varve wine run` share: a session, the program in it, and how both end.
// Used by wine-program.ts and wine-run.ts. A program that nobody waits for replaces this process: its exit code, signals and
// terminal are its own.
// Exit codes: the program's, 128 and a signal's number, 125 to 127 as env(1).

import { accessSync, constants as fs, statSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { E, errnoName } from '../linux/errno.js';
import { dup3 } from '../linux/files.js';
import { execute } from '../linux/namespace.js';
import { EXIT_SANDBOX } from '../sandbox/plan.js';
import { MountError } from '../stack/errors.js';
import type { Below } from '../wine/prefix/below.js';
import { findWine, type WineBuild } from '../wine/prefix/build.js';
import type { PrefixRecord } from '../wine/prefix/record.js';
import { type Ended, type Session, startSession } from '../wine/prefix/session.js';
import { followWhenDown } from '../wine/update/follow.js';
import type { Arguments } from './args.js';
import { lineOf } from './exit-codes.js';
import { remark } from './output.js';
import { FORWARDED, forwardSignals } from './signals.js';
import { varveItself } from './varve-itself.js';

/** Seconds that a prefix stays up for the next program of a script. */
const LINGER = 5;

/** Where a program has the lock that says that it uses the prefix. */
const LOCK_FD = 3;

export interface Asked {
  readonly given: Arguments;
  readonly folder: string;
  readonly below: readonly Below[];
  readonly wine: WineBuild;
  /** It is that of the prefix's record. */
  readonly recorded: boolean;
  /** The value of WINEPREFIX_OVERLAYS that counts here. */
  readonly overlays?: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Called when the session is up, before the program runs. */
  started?(session: Session): void;
}

/** The build that was asked for, or that the prefix is run with. @throws MountError. */
export function wineOf(given: Arguments, recorded: string | undefined): WineBuild {
  return findWine(given.value('wine') ?? recorded, process.env);
}

/** The record of a prefix that has moved to the current version of its base, where it follows that. @throws MountError. */
export function followed(
  given: Arguments,
  folder: string,
  record: PrefixRecord,
): Promise<PrefixRecord> {
  return followWhenDown(folder, record, process.env, (text) => remark(given, `wine: ${text}`));
}

/** @returns the exit code, unless the program took the place of this process. @throws MountError. */
export async function runInSession(asked: Asked): Promise<number> {
  const { given, folder, below, wine, overlays, program, args } = asked;
  const linger = lingerOf(given);
  const session = await startSession({
    folder,
    below,
    wine,
    backend: backendOf(given),
    env: process.env,
    onlyThisWine: asked.recorded || given.has('wine') || 'LD_LIBRARY_PATH' in wine.env,
    ...(overlays === undefined ? {} : { overlays }),
    remark: (text) => remark(given, `wine: ${text}`),
  });
  asked.started?.(session);
  const leave = (seconds: number): void => session.leave(varveItself(), seconds);
  const launch = session.launch(program, args, given.has('host'));
  if (given.has('detach')) {
    leave(linger);
    dup3(launch.lock, LOCK_FD);
    return become(launch.words, session.env, [0, 1, 2, LOCK_FD]);
  }
  let code: number;
  try {
    code = codeOf(await passSignals(session, program, args, given.has('host')));
  } catch (error) {
    code = codeOfFailure(error, launch.words[0]);
  }
  // Whoever does not want to wait need not: the end is then the keeper's.
  const gone = new Promise<'left'>((done) => {
    for (const signal of FORWARDED) process.once(signal, () => done('left'));
  });
  const end = session.stop(varveItself()).catch((error) => {
    process.stderr.write(`varve: wine: ${lineOf(error)}\n`);
  });
  if ((await Promise.race([end, gone])) === 'left') leave(0);
  return code;
}

/** Runs a program of Wine as it is, in a prefix without layers. Returns only when that fails. */
export function runPlain(
  { program, args, wine, given }: Pick<Asked, 'program' | 'args' | 'wine' | 'given'>,
  folder: string | undefined,
): number {
  const env = {
    ...process.env,
    ...wine.env,
    ...(folder === undefined ? {} : { WINEPREFIX: folder }),
  };
  const isServer = program === 'wineserver' && !given.has('host');
  const words = given.has('host') ? [program] : isServer ? [wine.wineserver] : [wine.wine, program];
  return become([...words, ...args] as [string, ...string[]], env, [0, 1, 2]);
}

function backendOf(given: Arguments): 'auto' | 'fuse' | 'kernel' {
  const backend = given.value('backend') ?? 'auto';
  if (backend === 'auto' || backend === 'fuse' || backend === 'kernel') return backend;
  throw new MountError('option', `--backend=${backend}: one of auto, fuse, kernel`);
}

function lingerOf(given: Arguments): number {
  const text = given.value('linger') ?? process.env['VARVE_WINE_LINGER'] ?? String(LINGER);
  if (/^\d{1,6}(\.\d{1,3})?$/.test(text)) return Number(text);
  throw new MountError('option', `--linger=${text}: write a number of seconds`);
}

/** Replaces this process. @returns the exit code when it cannot. */
function become(
  [program, ...args]: readonly [string, ...string[]],
  env: NodeJS.ProcessEnv,
  kept: readonly number[],
): number {
  const path = pathOf(program, env);
  const r = path === undefined ? -E.NOENT : execute(path, [program, ...args], env, kept);
  const isAbsent = r === -E.NOENT;
  const why = isAbsent ? 'not found' : `cannot be run (${errnoName(r)})`;
  process.stderr.write(`varve: wine: ${program}: ${why}\n`);
  return isAbsent ? EXIT_SANDBOX.notFound : EXIT_SANDBOX.notRunnable;
}

/** Where execvp(3) would find it. */
function pathOf(program: string, env: NodeJS.ProcessEnv): string | undefined {
  if (program.includes('/')) return program;
  return (env['PATH'] ?? '/usr/bin:/bin')
    .split(':')
    .map((folder) => join(folder === '' ? '.' : folder, program))
    .find((path) => {
      try {
        accessSync(path, fs.X_OK);
        return statSync(path).isFile();
      } catch {
        return false;
      }
    });
}

async function passSignals(
  session: Session,
  program: string,
  args: readonly string[],
  host: boolean,
): Promise<Ended> {
  let quiet = (): void => {};
  try {
    return await session.run(program, args, 'inherit', {
      host,
      started: (child) => {
        quiet = forwardSignals(() => child);
      },
    });
  } finally {
    quiet();
  }
}

function codeOf({ code, signal }: Ended): number {
  return signal === null ? (code ?? 0) : 128 + constants.signals[signal];
}

function codeOfFailure(error: unknown, program: string): number {
  const { code } = error as NodeJS.ErrnoException;
  const isAbsent = code === 'ENOENT';
  const why = isAbsent ? 'not found' : `cannot be run (${code ?? lineOf(error)})`;
  process.stderr.write(`varve: wine: ${program}: ${why}\n`);
  return isAbsent ? EXIT_SANDBOX.notFound : EXIT_SANDBOX.notRunnable;
}
