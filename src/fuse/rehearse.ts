// Practises before the first client comes: requests on the first directories and in a borrowed one, handled but never sent.
// Called by server.ts while there is nothing to do; V8 then has compiled the paths that the first real requests take.
// Measured: a LOOKUP takes 26 us of processor in the first thousand and 3 us after ten thousand; idle time is free.

import { DT, S } from '../linux/constants.js';
import { u8, u16, u32 } from '../linux/memory.js';
import { ENTRY_SIZE } from '../vfs/attr.js';
import { Counter, get, set } from '../vfs/counters.js';
import type { FileSystem, NodeRef } from '../vfs/filesystem.js';
import { HEADER } from '../vfs/layout.js';
import { FuseAttr, FuseAttrOut, FuseDirent, FuseOutHeader } from './abi.js';
import type { Dispatcher } from './dispatch.js';
import { OP } from './opcodes.js';
import { numberAt, OUT, Practice, putArguments } from './practice.js';
import { ChangeRehearsal } from './rehearse-changes.js';

/** Turns in all; one comes between two looks at the device and takes some 0.2 ms. */
const ROUNDS = 400;
/** Of the turns that read, every so many lists a directory anew. A number that is not a multiple of DIRECTORIES. */
const LIST_EVERY = 5;
/** Names to practise with in each of so many directories, the root included. */
const NAMES = 16;
const DIRECTORIES = 4;
/** Counters of what clients have asked for, which the practice must not change: from one offset to before another. */
const ASKED = [
  [Counter.requests, Counter.nodes],
  [Counter.opcodes, Counter.opcodes + 8 * 64],
] as const;
/** Bytes of a listing; more where the filesystem makes one as fast as a client asks for it. */
const DIRECTORY_SIZE = 4096;
const LARGE_PIECE = 32768;
const ROOT: NodeRef = [1, 0];

/** Bytes (st_size) of a directory, and milliseconds of listing it, above which a client might wait for the practice. */
const SMALL_DIRECTORY = 16 * 1024;
const QUICK_LISTING = 20;

interface Place {
  readonly node: NodeRef;
  /** Its name in the root; undefined for the root itself. */
  readonly name: Uint8Array | undefined;
  /** Bytes with their NUL, and the DT_* of what they name. */
  readonly names: readonly { readonly bytes: Uint8Array; readonly type: number }[];
}

export class Rehearsal {
  readonly #practice: Practice;
  readonly #fs: FileSystem;
  /** The directories but the root hold a lookup until the last turn. */
  readonly #places: Place[] = [];
  /** Directories of the root that are not places yet. */
  #candidates: Uint8Array[] = [];
  #changes: ChangeRehearsal | undefined;
  #round = 0;
  /** Names of places whose misfits are counted: a client that finds them known meets these no more. */
  readonly #counted = new Set<string>();
  #misfits = 0;

  constructor(dispatcher: Dispatcher, fs: FileSystem) {
    this.#practice = new Practice(dispatcher);
    this.#fs = fs;
  }

  get over(): boolean {
    return this.#round >= ROUNDS;
  }

  /** One turn: reading and changing by turns. Leaves nodes and handles but for the places, and what counts requests, as they were. */
  turn(): void {
    const asked = ASKED.map(([from, to]) => u8.slice(HEADER + from, HEADER + to));
    this.#misfits = get(Counter.misfits);
    if (this.#round === 0) this.#findRoot();
    else if (this.#round % 2 === 0) this.#read(this.#round >>> 1);
    else this.#change(this.#round >>> 1);
    this.#round++;
    if (this.over) this.#leave();
    for (const [i, [from]] of ASKED.entries()) u8.set(asked[i] as Uint8Array, HEADER + from);
    set(Counter.misfits, this.#misfits);
  }

  #change(round: number): void {
    this.#changes ??= new ChangeRehearsal(this.#practice, this.#fs);
    this.#changes.round(round);
  }

  #read(round: number): void {
    const next = this.#places.length < DIRECTORIES ? this.#candidates.shift() : undefined;
    if (next !== undefined) {
      const found = this.#enter(next);
      if (found !== undefined) this.#places.push(found);
      return;
    }
    const at = round % Math.max(1, this.#places.length);
    const place = round % LIST_EVERY === 0 ? this.#listAnew(at) : this.#places[at];
    if (place === undefined) return;
    for (const { bytes, type } of place.names) this.#lookUp(place.node, bytes, type);
  }

  /** Gives back what practising holds. */
  #leave(): void {
    for (const { node } of this.#places) if (node !== ROOT) this.#practice.forget(node);
    this.#places.length = 0;
    this.#changes?.leave();
    this.#changes = undefined;
  }

  #findRoot(): void {
    if (!this.#isSmallDirectory(ROOT)) return;
    const names = this.#list(OP.READDIR, ROOT);
    this.#places.push({ node: ROOT, name: undefined, names });
    this.#candidates = names.filter(({ type }) => type === DT.DIR).map(({ bytes }) => bytes);
  }

  /** A directory of the root, listed for the first time, or again as if for the first time. */
  #enter(name: Uint8Array): Place | undefined {
    const before = get(Counter.misfits);
    const node = this.#practice.lookUp(ROOT, name);
    if (node === undefined) return undefined;
    const key = Buffer.from(name).toString('latin1');
    if (!this.#counted.has(key)) this.#misfits += get(Counter.misfits) - before;
    this.#counted.add(key);
    const start = performance.now();
    if (this.#fs.listsAhead || this.#isSmallDirectory(node)) {
      const names = this.#list(OP.READDIRPLUS, node);
      if (performance.now() - start < QUICK_LISTING) return { node, name, names };
    }
    this.#practice.forget(node);
    return undefined;
  }

  /** Forgets the place and what the filesystem keeps of it, and finds it again. */
  #listAnew(at: number): Place | undefined {
    const place = this.#places[at];
    if (place === undefined) return undefined;
    if (place.name === undefined) {
      this.#list(OP.READDIRPLUS, place.node);
      return place;
    }
    this.#practice.forget(place.node);
    const again = this.#enter(place.name);
    this.#places.splice(at, 1, ...(again === undefined ? [] : [again]));
    return again;
  }

  /** Also false for what is no directory (any more): its name may mean something else than when it was listed. */
  #isSmallDirectory(node: NodeRef): boolean {
    if (this.#practice.getAttributes(node) === 0) return false;
    const attr = OUT + FuseAttrOut.at.attr;
    const mode = u32[(attr + FuseAttr.at.mode) >>> 2] as number;
    const size = numberAt(attr + FuseAttr.at.size);
    return (mode & S.IFMT) === S.IFDIR && size[1] === 0 && size[0] <= SMALL_DIRECTORY;
  }

  #lookUp(parent: NodeRef, name: Uint8Array, type: number): void {
    const node = this.#practice.lookUp(parent, name);
    if (node === undefined) return;
    this.#practice.getAttributes(node);
    if (type === DT.REG && this.#round % 4 === 0) this.#openFile(node);
    this.#practice.forget(node);
  }

  /** OPEN for reading and RELEASE; no READ, which may change the time of last access. */
  #openFile(node: NodeRef): void {
    if (this.#practice.ask(OP.OPEN, node, putArguments([], 8)) === 0) return;
    this.#practice.ask(OP.RELEASE, node, putArguments(numberAt(OUT), 24));
  }

  /** Lists a directory, and takes back the lookups of READDIRPLUS. @returns the first names. */
  #list(opcode: number, node: NodeRef): Place['names'] {
    // Directories are opened only for a filesystem that keeps state in them (fh 0 otherwise).
    const opened = this.#practice.ask(OP.OPENDIR, node, putArguments([], 8)) !== 0;
    const fh: NodeRef = opened ? numberAt(OUT) : [0, 0];
    const size = this.#fs.listsAhead ? LARGE_PIECE : DIRECTORY_SIZE;
    const reply = this.#practice.ask(opcode, node, putArguments([...fh, 0, 0, size], 40));
    const plus = opcode === OP.READDIRPLUS;
    const names: { bytes: Uint8Array; type: number }[] = [];
    const counted: NodeRef[] = [];
    const end = OUT + Math.max(0, reply - FuseOutHeader.size);
    const entrySize = plus ? ENTRY_SIZE : 0;
    for (let at = OUT; at + entrySize + FuseDirent.size <= end; ) {
      const child = numberAt(at);
      if (plus && child[0] !== 0) counted.push(child);
      const dirent = at + entrySize;
      const length = u16[(dirent + FuseDirent.at.namelen) >>> 1] as number;
      const bytes = new Uint8Array(length + 1);
      bytes.set(u8.subarray(dirent + FuseDirent.size, dirent + FuseDirent.size + length));
      const type = u32[(dirent + FuseDirent.at.type) >>> 2] as number;
      // Directories among the first names or behind them: the root of a composefs image begins with 256 whiteouts.
      const most = type === DT.DIR ? NAMES + DIRECTORIES : NAMES;
      if (bytes[0] !== 0x2e && names.length < most) names.push({ bytes, type });
      at = dirent + ((FuseDirent.size + length + 7) & ~7);
    }
    for (const child of counted) this.#practice.forget(child);
    if (opened) this.#practice.ask(OP.RELEASEDIR, node, putArguments(fh, 24));
    return names;
  }
}
