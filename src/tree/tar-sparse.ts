// Maps of sparse tar members: which parts of the file the data behind the header is.
// Read by tar-read, in all four forms that GNU tar has written.
// Follows: "Storing Sparse Files" of the GNU tar 1.34 manual: old GNU format, PAX versions 0.0, 0.1 and 1.0.

import { ArchiveError } from './errors.js';
import type { Piece } from './stored.js';
import { BLOCK, parseNumber } from './tar-header.js';
import type { Records } from './tar-pax.js';
import type { Window } from './window.js';

/** Data runs of one member; a map of this size is 32 MiB of text. */
const PIECES_MAX = 1024 * 1024;

const OLD_GNU = { map: 386, isExtended: 482, realSize: 483 } as const;
/** 12 bytes of offset, 12 of length. */
const ENTRY = 24;
const EXTENSION_ENTRIES = 21;
const EXTENSION_FLAG = 504;

/** A sparse member: its size with the holes, and its data. */
export interface SparseMap {
  readonly realSize: number;
  readonly pieces: readonly Piece[];
  /** The member's name, where the header has a made-up one. */
  readonly name?: string;
}

/** The map in and behind a header of type `S`; passes the blocks that it goes on in. */
export function readOldGnuMap(raw: Uint8Array, window: Window, offset: number): SparseMap {
  const runs: number[] = [];
  readRuns(raw, OLD_GNU.map, 4, runs, offset);
  let isExtended = raw[OLD_GNU.isExtended] !== 0;
  while (isExtended) {
    const block = window.peek(BLOCK);
    if (block.length < BLOCK) throw bad(offset, 'ends too early');
    readRuns(block, 0, EXTENSION_ENTRIES, runs, offset);
    isExtended = block[EXTENSION_FLAG] !== 0;
    window.pass(BLOCK);
    if (runs.length > 2 * PIECES_MAX) throw bad(offset, 'has too many parts');
  }
  const size = raw.subarray(OLD_GNU.realSize, OLD_GNU.realSize + 12);
  return { realSize: parseNumber(size, 'realsize', offset), pieces: toPieces(runs, offset) };
}

function readRuns(
  raw: Uint8Array,
  at: number,
  count: number,
  runs: number[],
  offset: number,
): void {
  for (let i = 0; i < count; i++) {
    const entry = raw.subarray(at + ENTRY * i, at + ENTRY * (i + 1));
    if (entry[0] === 0) break;
    runs.push(
      parseNumber(entry.subarray(0, 12), 'sparse offset', offset),
      parseNumber(entry.subarray(12), 'sparse length', offset),
    );
  }
}

/**
 * The map that PAX records describe; undefined when they describe none. Version 1.0 has it in front of the data, whose
 * blocks are passed.
 */
export function readPaxMap(
  records: Records,
  window: Window,
  offset: number,
): SparseMap | undefined {
  const found = new Map(records.filter(([key]) => key.startsWith('GNU.sparse.')));
  if (found.size === 0) return undefined;
  const size = found.get('GNU.sparse.realsize') ?? found.get('GNU.sparse.size');
  if (size === undefined) return undefined;
  const realSize = decimal(size, offset);
  const name = found.get('GNU.sparse.name');
  if (found.get('GNU.sparse.major') === '1') {
    return { realSize, name, pieces: toPieces(readMapInData(window, offset), offset) };
  }
  const map = found.get('GNU.sparse.map');
  const runs =
    map !== undefined
      ? map.split(',').filter((digits) => digits !== '')
      : records
          .filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
          .map(([, value]) => value);
  const numbers = runs.map((digits) => decimal(digits, offset));
  return { realSize, name, pieces: toPieces(numbers, offset) };
}

/** Version 1.0: decimal numbers, each ended by a newline, padded to a whole block; the first is how many pairs follow. */
function readMapInData(window: Window, offset: number): number[] {
  const numbers: number[] = [];
  let digits = '';
  let wanted = 1;
  while (numbers.length < wanted) {
    const block = window.peek(BLOCK);
    if (block.length < BLOCK) throw bad(offset, 'ends too early');
    for (const byte of block) {
      if (numbers.length === wanted) break;
      if (byte !== 0x0a) {
        digits += String.fromCharCode(byte);
        if (digits.length > 20) throw bad(offset, 'is no list of numbers');
        continue;
      }
      numbers.push(decimal(digits, offset));
      digits = '';
      if (numbers.length === 1) wanted = 1 + 2 * (numbers[0] as number);
      if (wanted > 2 * PIECES_MAX + 1) throw bad(offset, 'has too many parts');
    }
    window.pass(BLOCK);
  }
  return numbers.slice(1);
}

/** Offsets and lengths, alternating, as pieces whose data lies one after the other; empty ones mark the end and go. */
function toPieces(runs: readonly number[], offset: number): Piece[] {
  if (runs.length % 2 !== 0) throw bad(offset, 'has an odd number of parts');
  const pieces: Piece[] = [];
  let end = 0;
  let from = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const at = runs[i] as number;
    const length = runs[i + 1] as number;
    if (at < end || length < 0 || !Number.isSafeInteger(at + length)) {
      throw bad(
        offset,
        `has a part of ${length} bytes at ${at}, which overlaps or is out of range`,
      );
    }
    if (length > 0) pieces.push({ at, length, from });
    end = at + length;
    from += length;
  }
  return pieces;
}

/** Checks a map against the member that it belongs to. @param dataSize bytes behind the header and the map. */
export function checkMap(map: SparseMap, dataSize: number, offset: number): void {
  const last = map.pieces[map.pieces.length - 1];
  if (map.realSize < 0 || (last !== undefined && last.at + last.length > map.realSize)) {
    throw bad(offset, `ends behind the file's size of ${map.realSize} bytes`);
  }
  const mapped = last === undefined ? 0 : last.from + last.length;
  if (mapped > dataSize) throw bad(offset, `wants ${mapped} bytes of data, there are ${dataSize}`);
}

function decimal(digits: string, offset: number): number {
  const number = Number(digits);
  if (!/^[0-9]+$/.test(digits) || !Number.isSafeInteger(number)) {
    throw bad(offset, `${JSON.stringify(digits.slice(0, 40))} is no number in range`);
  }
  return number;
}

function bad(offset: number, problem: string): ArchiveError {
  return new ArchiveError('tar member', 'sparse map', offset, problem);
}
