// Where everything of a layered prefix lies, and what its session says of itself.
// Used by everything that starts, joins, stops or mends a session.
// Only drive_c is ever mounted: st_dev and st_ino of the prefix itself name its wineserver, and stay.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type PrefixPaths, pathsOf } from './places.js';
import { writeFileWhole } from './write-file.js';

/** Absolute paths, those of places.ts included. */
export interface SessionPaths extends PrefixPaths {
  /** For shells: two lines, there only while drive_c is mounted for everybody; see markUp(). */
  readonly mark: string;
  /** Locked by whoever brings the prefix from one state into another. */
  readonly lock: string;
  /** Locked shared by every program that uses the mount, exclusively by whoever takes it down. */
  readonly users: string;
  /** Locked by the process that takes the prefix down when nobody uses it any more. */
  readonly keeper: string;
  /** What that process prints. */
  readonly log: string;
  /** A start that is ready made for the next session; see ready-start.ts. */
  readonly ready: string;
}

export function sessionPaths(folder: string): SessionPaths {
  const paths = pathsOf(folder);
  const { state } = paths;
  return {
    ...paths,
    mark: join(state, 'up'),
    lock: join(state, 'lock'),
    users: join(state, 'session'),
    keeper: join(state, 'keeper'),
    log: join(state, 'log'),
    ready: join(state, 'ready'),
  };
}

/** Who does the union: a server of varve's, the kernel, or the kernel in a user namespace. */
export type SessionBackend = 'fuse' | 'kernel' | 'namespace';

/** session.json: there from before drive_c is moved until the registry's changes are stored. */
export interface SessionRecord {
  readonly version: 1;
  readonly backend: SessionBackend;
  /** Below the prefix's own changes, topmost first. */
  readonly layers: readonly string[];
  /** Path of the wineserver that serves the prefix. */
  readonly wineserver: string;
  /** What that program needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Of backend `namespace`: the process that holds the mount namespace. */
  readonly holder?: Process;
  /** Of backend `kernel`: how mount(8) would make the same mount. */
  readonly mountOptions?: string;
}

/** A process that another one cannot be taken for. */
export interface Process {
  readonly pid: number;
  /** Field 22 of proc_pid_stat(5). */
  readonly start: string;
}

/** @returns undefined: no session, or one whose record is torn (then nothing had been moved yet). */
export function readSession(paths: PrefixPaths): SessionRecord | undefined {
  try {
    return JSON.parse(readFileSync(paths.session, 'utf8')) as SessionRecord;
  } catch {
    return undefined;
  }
}

export function writeSession(paths: PrefixPaths, record: SessionRecord): void {
  writeFileWhole(paths.session, `${JSON.stringify(record)}\n`);
}

/**
 * Tells shells that the prefix may be used as it is: the value of WINEPREFIX_OVERLAYS it was asked for with, and the
 * folder that relative paths of it start from.
 */
export function markUp(paths: SessionPaths, overlays: string, cwd: string): void {
  // What is no single line a shell cannot compare.
  if (`${overlays}${cwd}`.includes('\n')) return;
  const staged = `${paths.mark}.new`;
  writeFileSync(staged, `${overlays}\n${cwd}\n`, { mode: 0o600 });
  renameSync(staged, paths.mark);
}

/** What markUp() has said. */
export interface SessionMark {
  readonly overlays: string;
  readonly cwd: string;
}

/** @returns undefined: shells were told nothing. */
export function readMark({ mark }: SessionPaths): SessionMark | undefined {
  try {
    const [overlays = '', cwd = ''] = readFileSync(mark, 'utf8').split('\n');
    return { overlays, cwd };
  } catch {
    return undefined;
  }
}

/** The process as it is now; undefined: there is none. */
export function processOf(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : { pid, start: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, start }: Process): boolean {
  return processOf(pid)?.start === start;
}
