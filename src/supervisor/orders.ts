// The server's side of its start: takes its orders from the supervisor, reports, receives /dev/fuse.
// Called by stack/server.ts (and by servers of tests) before it serves; blocking calls on fd 5.
// Messages: ServerOrders and ServerReport of protocol.ts.

import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { check, SysError } from '../linux/errno.js';
import { dup3 } from '../linux/files.js';
import { createArena, mapMemory } from '../linux/memory.js';
import { receiveFd, receiveFds, sendFds } from '../linux/socket.js';
import { openLog } from './folder.js';
import {
  MAX_LINE,
  type Recovery,
  type Refusal,
  SERVER_FDS,
  type ServerOrders,
  type ServerReport,
  type StackChange,
  toLine,
} from './protocol.js';

/** What the supervisor keeps for successors, or has kept: descriptors by name. */
const kept = new Map<string, number>();
/** They are a predecessor's, and /dev/fuse is here already. */
let succeeds = false;
/** There is a supervisor that keeps them. */
let employed = false;

/**
 * Reads the orders and maps the arena; a successor is given its predecessor's descriptors, too.
 * @param layout of the arena as this program knows it.
 * @param prepare opens what a change needs, while the old server still serves. @returns undefined when there is no supervisor to give any.
 */
export function takeOrders(
  layout: number,
  prepare: (change: StackChange) => ReadonlyMap<string, number> = () => new Map(),
): ServerOrders | undefined {
  report({ state: 'loaded', layout });
  const orders = readOrders();
  if (orders === undefined) return undefined;
  employed = true;
  const { successor } = orders;
  if (successor !== undefined) {
    redirectOutput(successor.log);
    place(openSync(successor.arena, 'r+'), SERVER_FDS.arena);
  } else if (!orders.arena) {
    place(createArena(), SERVER_FDS.arena);
  }
  mapMemory(SERVER_FDS.arena);
  if (successor !== undefined) {
    if (successor.change?.early) prepareChange(prepare, successor.change);
    takeDescriptors(successor.kept);
  }
  return orders;
}

function readOrders(): ServerOrders | undefined {
  const chunks: Buffer[] = [];
  for (let length = 0; length < MAX_LINE; ) {
    const chunk = Buffer.alloc(65536);
    const n = readSync(SERVER_FDS.orders, chunk);
    if (n === 0) break;
    chunks.push(chunk.subarray(0, n));
    length += n;
    if (chunk[n - 1] === 10) return JSON.parse(Buffer.concat(chunks).toString()) as ServerOrders;
  }
  return undefined;
}

function place(fd: number, wanted: number): void {
  check(dup3(fd, wanted), 'dup3');
  closeSync(fd);
}

function redirectOutput(path: string): void {
  const log = openLog(path);
  for (const fd of [1, 2]) check(dup3(log, fd), 'dup3');
  closeSync(log);
}

/** What is opened by path is opened while somebody answers: the path may lead through the mount. */
function prepareChange(
  prepare: (change: StackChange) => ReadonlyMap<string, number>,
  change: StackChange,
): void {
  for (const [name, fd] of prepare(change)) kept.set(name, fd);
  if (kept.size === 0) return;
  report({ state: 'prepared', kept: [...kept.keys()] });
  handOver();
}

/** Sends what is kept to the supervisor, which has been told the names. */
function handOver(): void {
  readSync(SERVER_FDS.orders, Buffer.alloc(1));
  check(sendFds(SERVER_FDS.orders, [...kept.values()]), 'send descriptors');
}

/** The change is made, and these are the descriptors from now on; nothing of it is to be found out again. */
export function reportChanged(now: ReadonlyMap<string, number>, told: object): void {
  kept.clear();
  for (const [name, fd] of now) kept.set(name, fd);
  report({ state: 'changed', kept: [...kept.keys()], told });
  handOver();
}

/** The change was not made, and none of it is left. */
export function reportUnchanged(refusal: Refusal, told: object): void {
  report({ state: 'unchanged', refusal, told });
}

/** All that a predecessor kept, by name. */
export function allInherited(): ReadonlyMap<string, number> {
  return kept;
}

function takeDescriptors(names: readonly string[]): void {
  succeeds = true;
  report({ state: 'waiting' });
  const fds = receiveFds(SERVER_FDS.orders, 1 + names.length, -1);
  if (typeof fds === 'number') throw new SysError('receive descriptors', fds);
  const [fuse, ...rest] = fds as [number, ...number[]];
  place(fuse, SERVER_FDS.fuse);
  names.forEach((name, i) => {
    kept.set(name, rest[i] as number);
  });
}

function report(what: ServerReport): void {
  try {
    writeSync(SERVER_FDS.orders, toLine(what));
  } catch {
    // The supervisor is gone; the mount lives on without it.
  }
}

/** A descriptor that outlives this server: `open` gives it, or a predecessor has had it opened. The supervisor has a duplicate. */
export function keep(name: string, open: () => number): number {
  const there = kept.get(name);
  if (there !== undefined) return there;
  const fd = open();
  if (employed) kept.set(name, fd);
  return fd;
}

/** A descriptor that a predecessor kept, or undefined. */
export function inherited(name: string): number | undefined {
  return succeeds ? kept.get(name) : undefined;
}

/** Whether this server takes over from another: then everything that was to be prepared was. */
export function isSuccessor(): boolean {
  return succeeds;
}

/**
 * Says that the layers are open and waits for the mount: only now may MOUNTPOINT hide one of them. For a successor the
 * mount is there already.
 * @returns the descriptor of /dev/fuse. @throws SysError when the supervisor could not mount, or is gone.
 */
export function awaitMount(): number {
  if (succeeds) return SERVER_FDS.fuse;
  report({ state: 'opened', kept: [...kept.keys()] });
  if (kept.size > 0) handOver();
  place(check(receiveFd(SERVER_FDS.orders), 'receive /dev/fuse'), SERVER_FDS.fuse);
  return SERVER_FDS.fuse;
}

/** Asks for a successor that changes the stack. */
export function askForChange(change: StackChange): void {
  if (!employed) return;
  report({ state: 'asks', change });
}

/** Says that requests are answered. */
export function reportReady(session: object, recovery: Recovery): void {
  report({ state: 'ready', session, recovery });
}

/** Says that the mount is gone and all is well, or that a successor may take over; the server must end then. */
export function reportEnded(): void {
  report({ state: 'ended' });
}

/** Says that the connection was aborted; the server must end then. */
export function reportAborted(message: string): void {
  report({ state: 'aborted', message });
}

/** Says what went wrong; the server must end then. @param final another server of this program would fail, too. */
export function reportError(error: Refusal, final = false): void {
  report({ state: 'error', error, final });
}

/** Reads what the supervisor says to a server that serves. @returns `deaf` when there is no supervisor any more. */
export function hearOrders(): 'leave' | 'deaf' {
  // There is only one thing that it says (LEAVE).
  return readSync(SERVER_FDS.orders, Buffer.alloc(4096)) === 0 ? 'deaf' : 'leave';
}
