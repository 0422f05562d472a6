// The bytes of archive members: ranges of the archive where it can be read again, else of a temporary file.
// Made by tar-read and cpio-read while they pass over the archive, opened later by whoever uses the tree.
// Follows: open(2) O_TMPFILE; large temporary files belong to /var/tmp (file-hierarchy(7)).

import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { requireRange } from '../bytes/source.js';
import { readFully } from './below.js';
import { ArchiveError, TreeError } from './errors.js';
import type { Content, Extent, OpenContent } from './tree.js';
import type { Window } from './window.js';

/** Bytes in a file. */
export interface Range {
  readonly fd: number;
  readonly offset: number;
}

/** A member's data as it lies in a range: `from` bytes into the range are those at `at` of the file. */
export interface Piece extends Extent {
  readonly from: number;
}

/** How the data of a sparse member lies in its file. */
export interface DataMap {
  /** Bytes of the file, holes included. */
  readonly realSize: number;
  readonly pieces: readonly Piece[];
}

/** Where the data of one archive's members goes, and the descriptors that the tree needs. */
export class MemberStore {
  readonly #folder: string;
  #spool = -1;
  #written = 0;

  /** @param folder for temporary data; default: TMPDIR, else /var/tmp. */
  constructor(folder?: string) {
    this.#folder = folder ?? process.env['TMPDIR'] ?? '/var/tmp';
  }

  /**
   * Passes `size` bytes of the archive and remembers where they can be read again.
   * @param what for messages: the structure that the data belongs to. @param _map of a sparse member, for other stores than this.
   @throws ArchiveError when the archive is shorter.
   */
  keep(window: Window, size: number, what: string, _map?: DataMap): Range {
    const { file } = window;
    const at = window.position;
    if (file !== undefined) {
      if (!window.skip(size)) throw truncated(what, at, size, file.size - at);
      return { fd: file.fd, offset: at };
    }
    const range = { fd: this.#open(), offset: this.#written };
    for (let left = size; left > 0; ) {
      const some = window.peekSome();
      if (some.length === 0) throw truncated(what, at, size, size - left);
      const step = Math.min(some.length, left);
      this.#write(some.subarray(0, step));
      window.pass(step);
      left -= step;
    }
    return range;
  }

  close(): void {
    if (this.#spool >= 0) closeSync(this.#spool);
    this.#spool = -1;
  }

  #write(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) {
        const n = writeSync(this.#spool, bytes, done, bytes.length - done, this.#written);
        done += n;
        this.#written += n;
      }
    } catch (cause) {
      throw new TreeError(
        `cannot keep the archive's data in ${this.#folder}: ${(cause as Error).message}; set TMPDIR to a folder with room`,
        { cause },
      );
    }
  }

  #open(): number {
    if (this.#spool >= 0) return this.#spool;
    const path = join(this.#folder, `.varve-${process.pid}-${process.hrtime.bigint()}`);
    try {
      this.#spool = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
    } catch (cause) {
      throw new TreeError(`cannot make a temporary file: ${(cause as Error).message}`, { cause });
    }
    return this.#spool;
  }
}

export function truncated(what: string, at: number, wanted: number, have: number): ArchiveError {
  return new ArchiveError(
    what,
    'data',
    at,
    `ends too early: ${wanted} bytes wanted, ${have} there`,
  );
}

/** Content that lies in one range, whole. */
export class RangeContent implements Content {
  /** Where the data lies. */
  readonly range: Range;
  readonly #size: number;

  constructor(range: Range, size: number) {
    this.range = range;
    this.#size = size;
  }

  open(): OpenContent {
    const { fd, offset } = this.range;
    const size = this.#size;
    return {
      size,
      file: { fd, offset },
      read: (at, out) => {
        requireRange(at, out.length, size);
        readAll(fd, out, offset + at);
      },
      close: () => {},
    };
  }
}

/** Content of a sparse member: pieces one after the other in a range, holes between them. */
export class PiecesContent implements Content {
  readonly extents: readonly Extent[];
  /** Where the data lies. */
  readonly range: Range;
  readonly #size: number;
  readonly pieces: readonly Piece[];

  /** @param pieces in ascending order, without overlaps, within `size`. */
  constructor(range: Range, size: number, pieces: readonly Piece[]) {
    this.range = range;
    this.#size = size;
    this.pieces = pieces;
    this.extents = pieces.map(({ at, length }) => ({ at, length }));
  }

  open(): OpenContent {
    return {
      size: this.#size,
      read: (at, out) => {
        requireRange(at, out.length, this.#size);
        this.#read(at, out);
      },
      close: () => {},
    };
  }

  #read(at: number, out: Uint8Array): void {
    const pieces = this.pieces;
    const end = at + out.length;
    out.fill(0);
    for (let i = this.#first(at); i < pieces.length; i++) {
      const piece = pieces[i] as Piece;
      if (piece.at >= end) break;
      const from = Math.max(piece.at, at);
      const to = Math.min(piece.at + piece.length, end);
      const inFile = this.range.offset + piece.from + (from - piece.at);
      readAll(this.range.fd, out.subarray(from - at, to - at), inFile);
    }
  }

  /** The first piece that ends behind `at`, by bisection. */
  #first(at: number): number {
    let low = 0;
    let high = this.pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.pieces[middle] as Piece;
      if (piece.at + piece.length <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function readAll(fd: number, out: Uint8Array, offset: number): void {
  if (readFully(fd, out, offset, 'the archive') < out.length) {
    throw new TreeError('the archive has become shorter since it was read');
  }
}
