// The server's side of its start: takes its orders from the supervisor, reports, receives /dev/fuse.
// Called by stack/server.ts (and by servers of tests) before it serves; blocking calls on fd 5.
// Messages: ServerOrders and ServerReport of protocol.ts.

import { closeSync, readSync, writeSync } from 'node:fs';
import { check } from '../linux/errno.js';
import { dup3 } from '../linux/files.js';
import { createArena, mapMemory } from '../linux/memory.js';
import { receiveFd } from '../linux/socket.js';
import {
  MAX_LINE,
  type Refusal,
  SERVER_FDS,
  type ServerOrders,
  type ServerReport,
  toLine,
} from './protocol.js';

/** Reads the orders and maps the arena. @returns undefined when there is no supervisor to give any. */
export function takeOrders(): ServerOrders | undefined {
  const orders = readOrders();
  if (orders === undefined) return undefined;
  if (!orders.arena) {
    const arena = createArena();
    check(dup3(arena, SERVER_FDS.arena), 'dup3');
    closeSync(arena);
  }
  mapMemory(SERVER_FDS.arena);
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

function report(what: ServerReport): void {
  try {
    writeSync(SERVER_FDS.orders, toLine(what));
  } catch {
    // The supervisor is gone; the mount lives on without it.
  }
}

/**
 * Says that the layers are open and waits for the mount: only now may MOUNTPOINT hide one of them.
 * @returns the descriptor of /dev/fuse. @throws SysError when the supervisor could not mount, or is gone.
 */
export function awaitMount(): number {
  report({ state: 'opened' });
  const fd = check(receiveFd(SERVER_FDS.orders), 'receive /dev/fuse');
  check(dup3(fd, SERVER_FDS.fuse), 'dup3');
  closeSync(fd);
  return SERVER_FDS.fuse;
}

/** Says that requests are answered. */
export function reportReady(): void {
  report({ state: 'ready' });
}

/** Says that the mount is gone and all is well; the server must end then. */
export function reportEnded(): void {
  report({ state: 'ended' });
}

/** Says what went wrong; the server must end then. */
export function reportError(error: Refusal): void {
  report({ state: 'error', error });
}
