// Practises before the first client comes: read-only requests on the first directories, handled but never sent.
// Called by server.ts while there is nothing to do; V8 then has compiled the paths that the first real requests take.
// Measured: a LOOKUP takes 26 us of processor in the first thousand and 3 us after ten thousand; idle time is free.

import { DT } from '../linux/constants.js';
import { u8, u16, u32 } from '../linux/memory.js';
import { ENTRY_SIZE } from '../vfs/attr.js';
import { Counter } from '../vfs/counters.js';
import { HEADER, replyBuffer, requestBuffer } from '../vfs/layout.js';
import { FuseDirent, FuseInHeader, FuseOutHeader } from './abi.js';
import type { Dispatcher } from './dispatch.js';
import { OP } from './opcodes.js';

const REQ = requestBuffer(0);
const ARGS = REQ + FuseInHeader.size;
const OUT = replyBuffer(0) + FuseOutHeader.size;
const REPLY_ERROR = (replyBuffer(0) >>> 2) + 1;

/** Turns in all; one comes between two looks at the device and takes some 0.3 ms. */
const ROUNDS = 400;
/** Names to practise with in each of so many directories, the root included. */
const NAMES = 16;
const DIRECTORIES = 4;
/** Bytes of counters that the practice must not change. */
const COUNTERS_SIZE = Counter.opcodes + 8 * 64;
const DIRECTORY_SIZE = 4096;
const ROOT: NodeId = [1, 0];

type NodeId = readonly [lo: number, hi: number];

interface Place {
  readonly node: NodeId;
  /** Bytes with their NUL, and the DT_* of what they name. */
  readonly names: readonly { readonly bytes: Uint8Array; readonly type: number }[];
}

/** Arguments that begin with a file handle, the rest zero. */
function putHandle(fhLo: number, fhHi: number): void {
  u32.fill(0, ARGS >>> 2, (ARGS >>> 2) + 10);
  u32[ARGS >>> 2] = fhLo;
  u32[(ARGS >>> 2) + 1] = fhHi;
}

export class Rehearsal {
  readonly #dispatcher: Dispatcher;
  /** Undefined before the first turn; the directories but the root hold a lookup until the last one. */
  #places: Place[] | undefined;
  #round = 0;

  constructor(dispatcher: Dispatcher) {
    this.#dispatcher = dispatcher;
  }

  get over(): boolean {
    return this.#round >= ROUNDS;
  }

  /** One turn. Leaves nodes, handles and counters as they were. */
  turn(): void {
    const counters = u8.slice(HEADER, HEADER + COUNTERS_SIZE);
    this.#places ??= this.#findPlaces();
    const place = this.#places[this.#round % this.#places.length] as Place;
    if (this.#round % 8 === 0) this.#list(OP.READDIRPLUS, place.node);
    for (const { bytes, type } of place.names) this.#lookUp(place.node, bytes, type);
    this.#round++;
    if (this.over) this.#leave();
    u8.set(counters, HEADER);
  }

  /** Gives back what practising holds. */
  #leave(): void {
    for (const { node } of this.#places ?? []) if (node !== ROOT) this.#forget(node);
    this.#places = undefined;
  }

  #findPlaces(): Place[] {
    const root = { node: ROOT, names: this.#list(OP.READDIR, ROOT) };
    const places: Place[] = [root];
    for (const { bytes, type } of root.names) {
      if (places.length === DIRECTORIES) break;
      if (type !== DT.DIR) continue;
      u8.set(bytes, ARGS);
      if (this.#ask(OP.LOOKUP, ROOT, bytes.length) === 0) continue;
      const node: NodeId = [u32[OUT >>> 2] as number, u32[(OUT >>> 2) + 1] as number];
      places.push({ node, names: this.#list(OP.READDIR, node) });
    }
    return places;
  }

  /** Handles a request of `opcode` on a node, whose arguments of `size` bytes lie at ARGS. @returns reply bytes, 0 on error. */
  #ask(opcode: number, [lo, hi]: NodeId, size: number): number {
    const length = FuseInHeader.size + size;
    u32.fill(0, REQ >>> 2, ARGS >>> 2);
    u32[REQ >>> 2] = length;
    u32[(REQ + FuseInHeader.at.opcode) >>> 2] = opcode;
    u32[(REQ + FuseInHeader.at.nodeid) >>> 2] = lo;
    u32[((REQ + FuseInHeader.at.nodeid) >>> 2) + 1] = hi;
    const reply = this.#dispatcher.handle(length);
    return reply > 0 && u32[REPLY_ERROR] === 0 ? reply : 0;
  }

  #lookUp(parent: NodeId, name: Uint8Array, type: number): void {
    u8.set(name, ARGS);
    if (this.#ask(OP.LOOKUP, parent, name.length) === 0) return;
    const node: NodeId = [u32[OUT >>> 2] as number, u32[(OUT >>> 2) + 1] as number];
    if (node[0] === 0 && node[1] === 0) return;
    u32.fill(0, ARGS >>> 2, (ARGS >>> 2) + 4);
    this.#ask(OP.GETATTR, node, 16);
    if (type === DT.REG && this.#round % 4 === 0) this.#openFile(node);
    this.#forget(node);
  }

  /** OPEN for reading and RELEASE; no READ, which may change the time of last access. */
  #openFile(node: NodeId): void {
    u32.fill(0, ARGS >>> 2, (ARGS >>> 2) + 2);
    if (this.#ask(OP.OPEN, node, 8) === 0) return;
    const fhLo = u32[OUT >>> 2] as number;
    const fhHi = u32[(OUT >>> 2) + 1] as number;
    putHandle(fhLo, fhHi);
    this.#ask(OP.RELEASE, node, 24);
  }

  #forget(node: NodeId): void {
    u32[ARGS >>> 2] = 1;
    u32[(ARGS >>> 2) + 1] = 0;
    this.#ask(OP.FORGET, node, 8);
  }

  /** Lists a directory, and takes back the lookups of READDIRPLUS. @returns the first names. */
  #list(opcode: number, node: NodeId): Place['names'] {
    // Directories are opened only for a filesystem that keeps state in them (fh 0 otherwise).
    u32.fill(0, ARGS >>> 2, (ARGS >>> 2) + 2);
    const opened = this.#ask(OP.OPENDIR, node, 8) !== 0;
    const fhLo = opened ? (u32[OUT >>> 2] as number) : 0;
    const fhHi = opened ? (u32[(OUT >>> 2) + 1] as number) : 0;
    putHandle(fhLo, fhHi);
    u32[(ARGS + 16) >>> 2] = DIRECTORY_SIZE;
    const plus = opcode === OP.READDIRPLUS;
    const reply = this.#ask(opcode, node, 40);
    const names: { bytes: Uint8Array; type: number }[] = [];
    const counted: NodeId[] = [];
    const end = OUT + Math.max(0, reply - FuseOutHeader.size);
    const entrySize = plus ? ENTRY_SIZE : 0;
    for (let at = OUT; at + entrySize + FuseDirent.size <= end; ) {
      const lo = u32[at >>> 2] as number;
      if (plus && lo !== 0) counted.push([lo, u32[(at >>> 2) + 1] as number]);
      const dirent = at + entrySize;
      const length = u16[(dirent + FuseDirent.at.namelen) >>> 1] as number;
      const bytes = new Uint8Array(length + 1);
      bytes.set(u8.subarray(dirent + FuseDirent.size, dirent + FuseDirent.size + length));
      const type = u32[(dirent + FuseDirent.at.type) >>> 2] as number;
      if (bytes[0] !== 0x2e && names.length < NAMES) names.push({ bytes, type });
      at = dirent + ((FuseDirent.size + length + 7) & ~7);
    }
    for (const child of counted) this.#forget(child);
    if (opened) {
      putHandle(fhLo, fhHi);
      this.#ask(OP.RELEASEDIR, node, 24);
    }
    return names;
  }
}
