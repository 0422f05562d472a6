// The handle table: every open file and directory, as flat 64-byte records in the shared arena.
// overlay/ opens and closes them; an fh is slot and generation, never reused, as nodeids are.
// A node lists its handles, so that copy-up can switch them to the new file. For a successor the fd of each is 0: rebuild.ts.

import { u32 } from '../linux/memory.js';
import * as counters from './counters.js';
import { requestInHand } from './journal.js';
import { HANDLE_COUNT, HANDLES, HEADER } from './layout.js';
import { F as N, get as nodeGet, put as nodePut } from './nodes.js';

/** Fields of a record, as u32 indexes. */
export const H = {
  generation: 0,
  /** Slot of the node; 0 when the record is free. */
  node: 1,
  /** open(2) flags as the kernel sent them. */
  flags: 2,
  /** fd + 1, or 0. */
  fd: 3,
  next: 4,
  prev: 5,
  /** KIND bits. */
  kind: 6,
  /** Number of the request that made it, low half. */
  unique: 7,
  /** Permission bits that the file must get back, and 0x10000, while the server opens it against them; else 0. */
  mode: 8,
} as const;
const WORDS = 16;
const BASE = HANDLES >>> 2;

export const KIND = {
  DIR: 1,
  /** The fd is a lower object's. */
  LOWER: 2,
  /** Reads and writes go past this server; the node's backing id is in use. */
  PASSTHROUGH: 4,
  /** Its node was made for it, by the same request. */
  MADE: 8,
} as const;

const STATE = (HEADER + 0xa000) >>> 2;

export function get(slot: number, field: number): number {
  return u32[BASE + slot * WORDS + field] as number;
}

export function put(slot: number, field: number, value: number): void {
  u32[BASE + slot * WORDS + field] = value;
}

/** The slot that (fhLo, fhHi) names, or 0. */
export function handleOf(fhLo: number, fhHi: number): number {
  if (fhLo === 0 || fhLo >= HANDLE_COUNT) return 0;
  const k = BASE + fhLo * WORDS;
  return u32[k + H.generation] === fhHi && u32[k + H.node] !== 0 ? fhLo : 0;
}

/** A handle of `node`, linked into its list; 0 when the table is full. */
export function allocHandle(node: number, fd: number, flags: number, kind: number): number {
  let slot = u32[STATE + 1] as number;
  if (slot !== 0) {
    u32[STATE + 1] = get(slot, H.next);
  } else {
    slot = u32[STATE] || 1;
    if (slot >= HANDLE_COUNT) return 0;
    u32[STATE] = slot + 1;
  }
  const k = BASE + slot * WORDS;
  const head = nodeGet(node, N.handles);
  u32[k + H.flags] = flags;
  u32[k + H.fd] = fd + 1;
  u32[k + H.kind] = kind;
  u32[k + H.unique] = requestInHand();
  u32[k + H.mode] = 0;
  // Last: with a node it is in use.
  u32[k + H.node] = node;
  link(slot, node, head);
  counters.count(counters.Counter.handles);
  return slot;
}

function link(slot: number, node: number, head: number): void {
  put(slot, H.next, head);
  put(slot, H.prev, 0);
  if (head !== 0) put(head, H.prev, slot);
  nodePut(node, N.handles, slot);
}

/** Unlinks and frees; the caller has closed the fd. */
export function freeHandle(slot: number): void {
  const k = BASE + slot * WORDS;
  const next = u32[k + H.next] as number;
  const prev = u32[k + H.prev] as number;
  if (prev !== 0) put(prev, H.next, next);
  else nodePut(u32[k + H.node] as number, N.handles, next);
  if (next !== 0) put(next, H.prev, prev);
  u32[k + H.node] = 0;
  u32[k + H.fd] = 0;
  u32[k + H.generation] = (u32[k + H.generation] as number) + 1;
  u32[k + H.next] = u32[STATE + 1] as number;
  u32[STATE + 1] = slot;
  const live = (HEADER + counters.Counter.handles) >>> 2;
  u32[live] = (u32[live] as number) - 1;
}

/** The first slot above all that were ever in use. */
export function handlesEnd(): number {
  return u32[STATE] || 1;
}

/** For a successor: no handle is on the free list. Then relinkHandle() or releaseHandle() for each. */
export function forgetFreeHandles(): void {
  u32[STATE + 1] = 0;
}

/** A handle of a predecessor, in the list of its node again; what it opened is lost. */
export function relinkHandle(slot: number): void {
  put(slot, H.fd, 0);
  put(slot, H.kind, get(slot, H.kind) & ~KIND.LOWER);
  const node = get(slot, H.node);
  link(slot, node, nodeGet(node, N.handles));
}

/** Puts a record on the free list. Its next user gets a generation that nobody had, whenever the predecessor died. */
export function releaseHandle(slot: number): void {
  put(slot, H.node, 0);
  put(slot, H.generation, get(slot, H.generation) + 1);
  put(slot, H.next, u32[STATE + 1] as number);
  u32[STATE + 1] = slot;
}
