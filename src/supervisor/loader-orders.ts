// The loader's side of its talk with the supervisor: orders, descriptors that outlive it, and the question whether it may go.
// Called by stack/loader.ts and by what it uses; every call waits for the supervisor, which answers at once.
// Messages: LoaderOrders and LoaderReport of protocol.ts. Without a supervisor nothing is kept, and nothing else changes.

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { mapMemory } from '../linux/memory.js';
import { isHungUp } from '../linux/poll.js';
import { receiveFds, sendFds } from '../linux/socket.js';
import { bequeath, lookAtBequest, makeGuard, processMark } from './bequest.js';
import { openLog } from './folder.js';
import { makeQueue } from './holder.js';
import { lockAt } from './presence.js';
import {
  BEQUEST_FD,
  GO,
  GROUP,
  type HeirProgram,
  type LoaderOrders,
  type LoaderReport,
  MAX_LINE,
  type Refusal,
  SERVER_FDS,
  toLine,
} from './protocol.js';

/** Milliseconds within which a holder's heir is mostly there. */
const HEIR_STARTS = 500;

const SOCKET = SERVER_FDS.orders;
const kept = new Map<string, number>();
let orders: LoaderOrders | undefined;

/** Reads the orders and takes what was kept. @returns undefined when there is no supervisor, or there will be another, and another loader. */
export function takeLoaderOrders(): LoaderOrders | undefined {
  mapMemory();
  orders = readOrders();
  if (orders === undefined || !takeKept(orders.kept)) {
    passOn();
    return undefined;
  }
  // A supervisor that ends what it holds is not to find it held here.
  closeSync(BEQUEST_FD);
  return orders;
}

function takeKept(names: readonly string[]): boolean {
  if (names.length === 0) return true;
  report({ state: 'waiting' });
  const fds = receiveFds(SOCKET, names.length, -1);
  if (typeof fds === 'number') return false;
  names.forEach((name, i) => {
    kept.set(name, fds[i] as number);
  });
  return true;
}

/** The supervisor was killed before this loader had anything, and its holder perhaps, too: of two heirs the second gives way. */
function passOn(): void {
  try {
    const heir = lookAtBequest(BEQUEST_FD)?.heir;
    if (heir === undefined) return;
    // The holder's heir ends this process.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HEIR_STARTS);
    startHeir(heir, BEQUEST_FD);
  } catch {
    // There is none: nobody depends on it.
  }
}

function startHeir({ program, log }: HeirProgram, bequest: number): void {
  const output = openLog(log);
  // Its fd 3 is free, as when a holder starts it.
  spawn(process.execPath, program, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', output, output, 'ignore', bequest],
  })
    .on('error', (error) => console.error(error))
    .unref();
  closeSync(output);
}

function readOrders(): LoaderOrders | undefined {
  const chunks: Buffer[] = [];
  for (let length = 0; length < MAX_LINE; ) {
    const chunk = Buffer.alloc(65536);
    const n = readSync(SOCKET, chunk);
    if (n === 0) return undefined;
    chunks.push(chunk.subarray(0, n));
    length += n;
    if (chunk[n - 1] === 10) return JSON.parse(Buffer.concat(chunks).toString()) as LoaderOrders;
  }
  return undefined;
}

/** @returns false when the supervisor is gone. */
function report(what: LoaderReport): boolean {
  try {
    writeSync(SOCKET, toLine(what));
    return true;
  } catch {
    return false;
  }
}

function answer(): string | undefined {
  const byte = Buffer.alloc(1);
  try {
    return readSync(SOCKET, byte, 0, 1, null) === 1 ? byte.toString() : undefined;
  } catch {
    return undefined;
  }
}

/** Descriptors that are kept, by name. */
export function allKept(): ReadonlyMap<string, number> {
  return kept;
}

/**
 * Has the supervisor keep duplicates of these for the next loader, under these names.
 * @returns whether it has them; false: there is no supervisor any more.
 */
export function keepForNext(named: ReadonlyMap<string, number>): boolean {
  if (named.size === 0) return true;
  const isAsked = report({ state: 'keep', names: [...named.keys()] }) && answer() !== undefined;
  if (!isAsked || sendFds(SOCKET, [...named.values()]) < 0) return false;
  if (answer() === undefined) return false;
  for (const [name, fd] of named) kept.set(name, fd);
  return true;
}

/** The supervisor closes its duplicates of these; this process's own stay open. */
export function releaseKept(names: readonly string[]): void {
  const known = names.filter((name) => kept.delete(name));
  if (known.length > 0 && report({ state: 'release', names: known })) answer();
}

/** Says that connections are taken. */
export function reportLoaderReady(): void {
  report({ state: 'ready' });
}

export function reportLoaderError(error: Refusal): void {
  report({ state: 'error', error });
}

/** Nothing is left to do. @returns whether this process is to end; else somebody is about to come. */
export function mayGo(): boolean {
  return !report({ state: 'idle' }) || (answer() ?? GO) === GO;
}

/**
 * Called now and then: where readers of the kernel depend on this loader, its supervisor was killed, and nobody is there that will start
 * another, this one does. It ends this loader; should it be killed before, the lock is free for another attempt.
 */
export function replaceSupervisor(): void {
  const isNeeded = [...kept.keys()].some((name) => name.startsWith(GROUP));
  if (orders === undefined || !isNeeded || !isHungUp(SOCKET)) return;
  const opened: number[] = [];
  try {
    const { heir, request } = orders;
    mkdirSync(dirname(heir.lock), { mode: 0o700, recursive: true });
    const lock = lockAt(heir.lock);
    // A holder has it, or another supervisor.
    if (lock === undefined) return;
    const guard = makeGuard();
    const { sending, receiving } = makeQueue();
    opened.push(lock, guard, sending, receiving);
    const loader = processMark(process.pid);
    bequeath(sending, {
      kept,
      lock,
      guard,
      heir,
      request,
      restarts: 0,
      number: 0,
      ...(loader && { loader }),
    });
    startHeir(heir, receiving);
  } catch (error) {
    // It must not end for that: it is the last that readers have.
    console.error(error);
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}
