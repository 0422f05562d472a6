// The next piece of a directory, made while the client works through the one before.
// Used by dispatch.ts for filesystems that say so (FileSystem.listsAhead); server.ts gives it the moments between requests.
// A few pieces for the whole server: who lists beside many others may find its own gone, and waits. Costs a copy of the reply.

import { u8 } from '../linux/memory.js';
import type { FileSystem, Request } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import type { ReplySink } from './dirsink.js';

/** The reply buffer of a thread that there is not: see layout.ts and job-record.ts. */
const AHEAD = replyBuffer(7);
/** Clients that list at the same time, mostly; and bytes of a piece, which the kernel asks for 32 KiB of. */
const PIECES = 8;
const PIECE_SIZE = 128 * 1024;

/** A piece of a listing: what of a request says that it wants this one, and what it is. */
class Piece {
  readonly at: number;
  plus = false;
  nodeLo = 0;
  nodeHi = 0;
  fhLo = 0;
  fhHi = 0;
  offset = -1;
  size = 0;
  /** Bytes, -1: it is still to be made. */
  length = -1;
  /** Position behind it. */
  next = 0;

  /** @param at arena offset. */
  constructor(at: number) {
    this.at = at;
  }
}

export class ListAhead {
  readonly #fs: FileSystem;
  readonly #sink: ReplySink;
  readonly #pieces = Array.from({ length: PIECES }, (_, i) => new Piece(AHEAD + i * PIECE_SIZE));
  /** Pieces that are to be made, the one that was expected first in front. */
  readonly #wanted: Piece[] = [];
  #turn = 0;
  #next = 0;

  /** @param sink one of its own. */
  constructor(fs: FileSystem, sink: ReplySink) {
    this.#fs = fs;
    this.#sink = sink;
  }

  /** A piece is expected to be asked for, and not made yet. */
  get wanted(): boolean {
    return this.#wanted.length > 0;
  }

  /** Position behind the piece that take() has given. */
  get next(): number {
    return this.#next;
  }

  /** Copies the piece to `out` if it is there. @returns its bytes, or -1. */
  take(
    out: number,
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    size: number,
    plus: boolean,
  ): number {
    for (let i = 0; i < PIECES; i++) {
      const p = this.#pieces[i] as Piece;
      if (p.offset !== offset || p.nodeLo !== r.nodeLo || p.nodeHi !== r.nodeHi) continue;
      if (p.size !== size || p.plus !== plus || p.fhLo !== fhLo || p.fhHi !== fhHi) continue;
      const { length } = p;
      this.#drop(p);
      if (length < 0) continue;
      this.#next = p.next;
      u8.copyWithin(out, p.at, p.at + length);
      return length;
    }
    return -1;
  }

  /** A piece was given that ends at `offset`: the client will ask for the one behind it. */
  expect(
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    size: number,
    plus: boolean,
  ): void {
    if (size > PIECE_SIZE) return;
    const p = this.#free();
    p.plus = plus;
    p.nodeLo = r.nodeLo;
    p.nodeHi = r.nodeHi;
    p.fhLo = fhLo;
    p.fhHi = fhHi;
    p.offset = offset;
    p.size = size;
    this.#wanted.push(p);
  }

  /** Makes a piece. @param r the request record: none is being handled. */
  make(r: Request): void {
    const p = this.#wanted.shift();
    if (p === undefined) return;
    const sink = this.#sink;
    r.nodeLo = p.nodeLo;
    r.nodeHi = p.nodeHi;
    r.uniqueLo = 0;
    r.uniqueHi = 0;
    sink.begin(p.at, p.size, p.plus);
    // A failure is the next request's to meet.
    if (this.#fs.readdir(r, p.fhLo, p.fhHi, p.offset, sink) < 0) return;
    p.length = sink.end - p.at;
    p.next = sink.last;
  }

  /** A piece that nobody waits for, or the oldest one. */
  #free(): Piece {
    let piece = this.#pieces.find((p) => p.offset < 0);
    if (piece === undefined) {
      piece = this.#pieces[this.#turn] as Piece;
      this.#turn = (this.#turn + 1) % PIECES;
      this.#drop(piece);
    }
    return piece;
  }

  #drop(p: Piece): void {
    const at = this.#wanted.indexOf(p);
    if (at >= 0) this.#wanted.splice(at, 1);
    p.offset = -1;
    p.length = -1;
  }
}
