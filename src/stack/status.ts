// What a mount has done and what it takes: counters of the server's arena, its memory, as one record.
// Called by `varve status`, the demo and tests; reads the arena through /proc, never asks the server.
// Counters: vfs/counters.ts. Memory: /proc/PID/smaps_rollup (proc_pid_smaps(5)).

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { OPCODES } from '../fuse/opcodes.js';
import { type LastRestart, SERVER_FDS } from '../supervisor/protocol.js';
import { Counter, FILL } from '../vfs/counters.js';
import { HEADER } from '../vfs/layout.js';
import { digestOfImage } from './find-image.js';
import type { KnownMount } from './mounts-known.js';
import type { MountSpec } from './spec.js';

/** Counts since the mount was made. */
export interface Counters {
  readonly requests: number;
  readonly errors: number;
  /** Lookups answered from the server's own tables. */
  readonly lookupsCached: number;
  readonly copyUps: number;
  readonly copyUpBytes: number;
  /** How many there are now. */
  readonly nodes: number;
  readonly handles: number;
  readonly layerDirFds: number;
  /** Requests handed to another thread. */
  readonly parked: number;
  /** Lookups that met an object of the upper which no longer fits the layers below: `varve check` lists them. */
  readonly misfits: number;
  /** Requests and copy-ups that wait for content of layers that are loaded on demand. */
  readonly awaiting: number;
  /** Chunks of such layers that were asked for. */
  readonly wanted: number;
  /** Requests by name, those that occurred. */
  readonly opcodes: Readonly<Record<string, number>>;
}

/** Bytes. */
export interface Memory {
  readonly pss: number;
  readonly rss: number;
}

/** How far the upper is filled with what a lower has (overlay/fill.ts). */
export interface FillProgress {
  readonly state: 'filling' | 'filled' | 'failed';
  /** Directories that were looked at: what was there before counts again after a restart. */
  readonly directories: number;
  /** Files and directories that were copied, and the size of the files. */
  readonly copied: number;
  readonly bytes: number;
  /** errno; 0: none. */
  readonly error: number;
}

export interface Detaching extends Partial<FillProgress> {
  readonly lower: string;
}

export interface MountReport {
  readonly mountpoint: string;
  readonly backend: 'fuse' | 'kernel';
  /** Of a composefs image; its digest as it was compared, or else as its place in the store says. */
  readonly mode?: KnownMount['mode'];
  readonly image?: { readonly path: string; readonly digest?: string };
  readonly state: KnownMount['state'];
  readonly why?: string;
  readonly pid?: number;
  /** The same, and the process that replaces it when it dies. */
  readonly serverPid?: number;
  readonly supervisorPid?: number;
  /** Servers that have taken the place of another one. */
  readonly restarts?: number;
  readonly lastRestart?: LastRestart;
  readonly mountedBy?: string;
  /** ISO 8601. */
  readonly since?: string;
  readonly log?: string;
  readonly layers?: KnownMount['layers'];
  /** A lower that is being detached. */
  readonly detaching?: Detaching;
  readonly counters?: Counters;
  readonly memory?: Memory;
}

export function reportOf(mount: KnownMount): MountReport {
  const { mountpoint, backend, mode, state, layers, status } = mount;
  const composefs = layers?.composefs;
  const alive = status !== undefined && status.state !== 'failed';
  return {
    mountpoint,
    backend,
    mode,
    image: composefs && {
      path: composefs.image,
      digest: composefs.digest ?? digestOfImage(composefs.image),
    },
    state,
    why: status?.why,
    pid: alive ? status.pid : undefined,
    serverPid: alive ? status.pid : undefined,
    supervisorPid: mount.supervisor,
    restarts: status?.restarts,
    lastRestart: status?.lastRestart,
    mountedBy: status?.mountedBy,
    since: status === undefined ? undefined : new Date(status.since).toISOString(),
    log: status?.log,
    layers,
    detaching: detachingOf(mount),
    counters: alive ? readCounters(status.pid) : undefined,
    memory: alive ? memoryOf(status.pid) : undefined,
  };
}

function detachingOf({ status }: KnownMount): Detaching | undefined {
  const detaching = (status?.spec as MountSpec | undefined)?.detaching;
  if (detaching === undefined || status === undefined) return undefined;
  return { lower: detaching.lower, ...readFill(status.pid) };
}

/** @returns undefined when nothing is being filled, or the process is gone. */
export function readFill(pid: number): FillProgress | undefined {
  const at = readArena(pid);
  if (at === undefined || at(Counter.fillState) === FILL.NONE) return undefined;
  const states = { [FILL.GOES_ON]: 'filling', [FILL.DONE]: 'filled' } as const;
  return {
    state: states[at(Counter.fillState) as 1 | 2] ?? 'failed',
    directories: at(Counter.fillDirectories),
    copied: at(Counter.fillObjects),
    bytes: at(Counter.fillBytes),
    error: at(Counter.fillError),
  };
}

/** The path at which a server has given up, as its log has it. */
export function lastOfFill(log: string): string | undefined {
  try {
    const lines = readFileSync(log, 'latin1').split('\n');
    const line = lines.findLast((text) => text.startsWith('varve: detach: /'));
    return line === undefined ? undefined : /: (\/.*): E[A-Z0-9]+: given up$/.exec(line)?.[1];
  } catch {
    return undefined;
  }
}

/** Bytes of the header that hold counters. */
const SIZE = Counter.opcodes + 64 * 8;

/** What the counters of a server's arena hold, by their offsets. */
function readArena(pid: number): ((offset: number) => number) | undefined {
  const bytes = Buffer.alloc(SIZE);
  try {
    const fd = openSync(`/proc/${pid}/fd/${SERVER_FDS.arena}`, 'r');
    try {
      // A successor has no arena yet when it starts.
      if (readSync(fd, bytes, 0, SIZE, HEADER) < SIZE) return undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
  return (offset) => Number(bytes.readBigUInt64LE(offset));
}

/** @returns undefined when the process is gone or not ours to look into. */
export function readCounters(pid: number): Counters | undefined {
  const at = readArena(pid);
  if (at === undefined) return undefined;
  const opcodes: Record<string, number> = {};
  for (const { name, number } of OPCODES) {
    const n = at(Counter.opcodes + 8 * number);
    if (n > 0) opcodes[name] = n;
  }
  return {
    requests: at(Counter.requests),
    errors: at(Counter.errors),
    lookupsCached: at(Counter.lookupsCached),
    copyUps: at(Counter.copyUps),
    copyUpBytes: at(Counter.copyUpBytes),
    nodes: at(Counter.nodes),
    handles: at(Counter.handles),
    layerDirFds: at(Counter.layerDirFds),
    parked: at(Counter.parked),
    misfits: at(Counter.misfits),
    awaiting: at(Counter.awaiting),
    wanted: at(Counter.wanted),
    opcodes,
  };
}

/** @returns undefined when the process is gone or not ours to look into. */
export function memoryOf(pid: number): Memory | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    const field = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
    return { pss: field('Pss'), rss: field('Rss') };
  } catch {
    return undefined;
  }
}
