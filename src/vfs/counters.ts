// Counters of one mount in the arena's header, written by the server, read by the supervisor for `varve status`.
// Plain stores by the one server thread; readers may see a counter one request late.
// Layout: u64 each, little endian, from HEADER.

import { u32 } from '../linux/memory.js';
import { HEADER } from './layout.js';

/** Byte offsets from HEADER. Opcode counters: OPCODES + 8 * opcode, opcodes 0..63. */
export const Counter = {
  /** Non-zero once INIT was answered. */
  ready: 0,
  requests: 8,
  errors: 16,
  lookupsCached: 24,
  copyUps: 32,
  copyUpBytes: 40,
  nodes: 48,
  handles: 56,
  layerDirFds: 64,
  parked: 72,
  /** LAYOUT_VERSION of the program that made the arena. */
  layout: 80,
  /** Lookups that met an object of the upper which no longer fits the layers below. */
  misfits: 88,
  /** Requests and copy-ups that wait for content of lazy layers, and chunks that were asked for so far. */
  awaiting: 96,
  wanted: 104,
  /** Of a lower layer that is being detached (overlay/fill.ts): FILL, errno of the failure, directories looked at, copies, their bytes. */
  fillState: 464,
  fillError: 472,
  fillDirectories: 480,
  fillObjects: 488,
  fillBytes: 496,
  opcodes: 512,
} as const;

/** Values of Counter.fillState: nothing of it yet, at work, all is in the upper, given up. */
export const FILL = { NONE: 0, GOES_ON: 1, DONE: 2, FAILED: 3 } as const;

/** Adds one to the counter at byte offset `which`. */
export function count(which: number): void {
  add(which, 1);
}

/** Adds `n` (below 2^32). */
export function add(which: number, n: number): void {
  const k = (HEADER + which) >>> 2;
  const sum = (u32[k] as number) + n;
  u32[k] = sum >>> 0;
  if (sum > 0xffffffff) u32[k + 1] = (u32[k + 1] as number) + 1;
}

/** Reads a counter that stays below 2^32. */
export function get(which: number): number {
  return u32[(HEADER + which) >>> 2] as number;
}

/** Sets a counter to `n` (below 2^32). */
export function set(which: number, n: number): void {
  u32[(HEADER + which) >>> 2] = n >>> 0;
}
