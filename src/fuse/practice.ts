// Requests that nobody sent: formed in the request buffer as the kernel forms them, handled, their replies kept here.
// The words of a rehearsal (rehearse.ts, rehearse-changes.ts). They carry the number 0, which no real request has.
// Follows: struct fuse_in_header; counts of lookups are given back as the kernel gives them back.

import { u8, u32 } from '../linux/memory.js';
import type { NodeRef } from '../vfs/filesystem.js';
import { replyBuffer, requestBuffer } from '../vfs/layout.js';
import { FuseInHeader, FuseOutHeader } from './abi.js';
import type { Dispatcher } from './dispatch.js';
import { OP } from './opcodes.js';

const REQ = requestBuffer(0);
const REPLY_ERROR = (replyBuffer(0) >>> 2) + 1;

/** Where the arguments of a request begin. */
export const ARGS = REQ + FuseInHeader.size;
/** Where a reply begins, behind its header. */
export const OUT = replyBuffer(0) + FuseOutHeader.size;

/** Writes the arguments: words from `words`, then zeros up to `size` bytes, then `tail`. @returns their bytes. */
export function putArguments(words: readonly number[], size: number, tail?: Uint8Array): number {
  const at = ARGS >>> 2;
  for (let i = 0; i < size >>> 2; i++) u32[at + i] = words[i] ?? 0;
  if (tail !== undefined) u8.set(tail, ARGS + size);
  return size + (tail?.length ?? 0);
}

/** The nodeid, or the fh, at `at` of the reply. */
export function numberAt(at: number): NodeRef {
  return [u32[at >>> 2] as number, u32[(at >>> 2) + 1] as number];
}

export class Practice {
  readonly #dispatcher: Dispatcher;

  constructor(dispatcher: Dispatcher) {
    this.#dispatcher = dispatcher;
  }

  /** Handles a request on a node, whose arguments of `size` bytes lie at ARGS. @returns reply bytes, 0 on error. */
  ask(opcode: number, [lo, hi]: NodeRef, size: number): number {
    const length = FuseInHeader.size + size;
    u32.fill(0, REQ >>> 2, ARGS >>> 2);
    u32[REQ >>> 2] = length;
    u32[(REQ + FuseInHeader.at.opcode) >>> 2] = opcode;
    u32[(REQ + FuseInHeader.at.nodeid) >>> 2] = lo;
    u32[((REQ + FuseInHeader.at.nodeid) >>> 2) + 1] = hi;
    const reply = this.#dispatcher.handle(length);
    return reply > 0 && u32[REPLY_ERROR] === 0 ? reply : 0;
  }

  /** LOOKUP of a NUL-terminated name. @returns the node, one lookup counted; undefined where there is none. */
  lookUp(parent: NodeRef, name: Uint8Array): NodeRef | undefined {
    if (this.ask(OP.LOOKUP, parent, putArguments([], 0, name)) === 0) return undefined;
    const node = numberAt(OUT);
    return node[0] === 0 && node[1] === 0 ? undefined : node;
  }

  /** GETATTR. @returns as ask(). */
  getAttributes(node: NodeRef): number {
    return this.ask(OP.GETATTR, node, putArguments([], 16));
  }

  forget(node: NodeRef): void {
    this.ask(OP.FORGET, node, putArguments([1], 8));
  }
}
