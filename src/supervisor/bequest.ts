// What the heir of a killed supervisor needs to keep readers of the kernel waiting: descriptors, and how a loader is started.
// Written by holder.ts whenever it changes, and by a loader that has nobody else left (loader-orders.ts); read by supervisor.ts.
// It lies in the queue of a Unix socket (SCM_RIGHTS): what is on its way is open as long as somebody has the receiving end, whoever that is.
// Format: 1 + n/64 messages: a memfd with JSON, the lock, the guard; the kept descriptors in the order of their names. The last that is whole counts.

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { check } from '../linux/errno.js';
import { memoryFile } from '../linux/native-memory.js';
import { lockFile } from '../linux/peer.js';
import { FDS_MAX, peekFds, peekFromStart, sendFds } from '../linux/socket.js';
import type { HeirProgram, LoadRequest } from './protocol.js';

/** Raised whenever what is written changes its meaning. */
const VERSION = 1;

/** Milliseconds for which an heir waits for whoever has the guard, and between two looks. */
const PATIENCE = 5000;
const LOOK = 20;

/** A process that may be gone by now, and its number somebody else's. */
export interface ProcessMark {
  readonly pid: number;
  /** Clock ticks since the machine started. */
  readonly since: string;
}

interface Told {
  /** How the loader was asked for. */
  readonly request: LoadRequest;
  /** The one that ran. */
  readonly loader?: ProcessMark;
  readonly restarts: number;
  readonly heir: HeirProgram;
  /** Counted on through all supervisors. */
  readonly number: number;
}

export interface Bequest extends Told {
  /** What the loader has had kept. */
  readonly kept: ReadonlyMap<string, number>;
  /** Of the supervisor (presence.ts): whoever has it from here is in nobody's way. */
  readonly lock: number;
  /**
   * A file that only one process at a time may have locked by an opening of its own: a supervisor of these descriptors. It has the
   * number of the last bequest that somebody holds (f64): an heir that has found an older one is too late.
   */
  readonly guard: number;
}

/** @param queue the sending end. @returns how many messages it is. @throws Error, and then what is in the queue is as good as before. */
export function bequeath(queue: number, { kept, lock, guard, ...told }: Bequest): number {
  const text = Buffer.from(JSON.stringify({ version: VERSION, names: [...kept.keys()], ...told }));
  const note = memoryFile('varve-bequest', text.length);
  try {
    writeSync(note, text, 0, text.length, 0);
    check(sendFds(queue, [note, lock, guard]), 'send descriptors');
    check(sendFds(queue, [...kept.values()]), 'send descriptors');
  } finally {
    closeSync(note);
  }
  return 1 + Math.ceil(kept.size / FDS_MAX);
}

/**
 * What was bequeathed; it stays in the queue for another heir, should this one be killed.
 * @param queue the receiving end. @returns undefined when there is nothing. @throws Error when another version has written it.
 */
export function lookAtBequest(queue: number): Bequest | undefined {
  let last: Bequest | undefined;
  check(peekFromStart(queue), 'setsockopt');
  for (let next = peekOne(queue); next !== undefined; next = peekOne(queue)) {
    if (last !== undefined) for (const fd of descriptorsOf(last)) closeSync(fd);
    last = next;
  }
  return last;
}

function peekOne(queue: number): Bequest | undefined {
  const fds = peekFds(queue, 3);
  if (typeof fds === 'number') return undefined;
  const [note, lock, guard] = fds as [number, number, number];
  const bytes = Buffer.alloc(fstatSync(note).size);
  readSync(note, bytes, 0, bytes.length, 0);
  closeSync(note);
  const { version, names, ...told } = JSON.parse(bytes.toString()) as Told & {
    readonly version: number;
    readonly names: readonly string[];
  };
  if (version !== VERSION) throw new Error(`the supervisor was of another version (${version})`);
  const kept = peekFds(queue, names.length);
  if (typeof kept === 'number') {
    for (const fd of [lock, guard]) closeSync(fd);
    return undefined;
  }
  const named = new Map(names.map((name, i) => [name, kept[i] as number]));
  return { ...told, lock, guard, kept: named };
}

const descriptorsOf = ({ kept, lock, guard }: Bequest): number[] => [...kept.values(), lock, guard];

export function makeGuard(): number {
  return memoryFile('varve-guard', 8);
}

/** That bequest is held: none before it is to be found. */
export function noteHeld({ guard, number }: Pick<Bequest, 'guard' | 'number'>): void {
  writeSync(guard, Buffer.from(Float64Array.of(number).buffer), 0, 8, 0);
}

/** Takes the guard for the life of this process. @returns false when another process has it. */
export function takeGuard(guard: number): boolean {
  const own = openSync(`/proc/self/fd/${guard}`, 'r+');
  if (lockFile(own) >= 0) return true;
  closeSync(own);
  return false;
}

/** Takes the guard of a bequest; the process that has it may be about to be gone. @returns false when there is another heir, or was. */
export async function isOurs({ guard, number }: Bequest): Promise<boolean> {
  for (let waited = 0; !takeGuard(guard); waited += LOOK) {
    if (waited >= PATIENCE) return false;
    await sleep(LOOK);
  }
  const bytes = Buffer.alloc(8);
  readSync(guard, bytes, 0, 8, 0);
  return number >= bytes.readDoubleLE();
}

/** @returns undefined when there is no such process. */
export function processMark(pid: number): ProcessMark | undefined {
  try {
    // The name of a process may have spaces and parentheses; the first field behind it is the third of all.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return { pid, since: fields[22 - 3] as string };
  } catch {
    return undefined;
  }
}

/** Kills a process, if it is still that one; resolves when it has no descriptor any more. */
export async function endOf(mark: ProcessMark): Promise<void> {
  const lives = (): boolean =>
    processMark(mark.pid)?.since === mark.since && existsSync(`/proc/${mark.pid}/fd/0`);
  if (!lives()) return;
  try {
    process.kill(mark.pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
  while (lives()) await sleep(LOOK);
}
