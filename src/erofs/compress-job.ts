// The record that main thread and compression workers share: a slot of input, output and a table of pieces.
// Filled by write-data.ts, worked on by compress-piece.ts (in a worker or in line), read back in order by write-data.ts.
// Guarded by the queue of compress-pool.ts: a slot belongs to the main thread or to one worker, never to both.

import { allocate, nativeBytes, release } from '../linux/native-memory.js';
import { EXTENT_WORDS } from './index-encode.js';
import { BLOCK, type Coder } from './write-options.js';

/** Words of a piece: one file, or a segment of one. The main thread writes the first ones, the worker the results. */
export const Piece = {
  /** Bytes from the start of the slot's input. */
  inputAt: 0,
  /** Bytes; a multiple of BLOCK unless the file ends here. */
  length: 1,
  /** PieceFlag. */
  flags: 2,
  /** Number of the coder. */
  coder: 3,
  /** Bytes. */
  pclusterSize: 4,
  /** Bytes of an uncompressed tail that fit behind the inode. */
  room: 5,

  // Results.
  /** PieceResult. */
  result: 6,
  /** Whole blocks in the slot's output. */
  outputAt: 7,
  outputSize: 8,
  /** In the slot's table of extents. */
  firstExtent: 9,
  extents: 10,
  /** Bytes in the slot's input that go elsewhere: inline, or to the packed file. */
  tailAt: 11,
  tailSize: 12,
  /** CRC-32 of what is stored, 0 when nobody asked for it. */
  sum: 13,
  /** Words of a piece in all. */
  WORDS: 16,
} as const;

export const PieceFlag = {
  FIRST: 1,
  LAST: 2,
  /** Nothing is to be compressed: the input is what is stored. */
  STORE: 4,
  TAIL_PACKING: 8,
  FRAGMENT: 16,
} as const;

export const PieceResult = {
  /** Pclusters in the output, as the extents say. */
  COMPRESSED: 0,
  /** Whole file, not worth compressing: full blocks in the output. The tail, if any, is for behind the inode. */
  FLAT: 1,
  /** The input is as it was. */
  STORED: 2,
} as const;

/** What workers are told once. */
export interface WorkerSettings {
  readonly coders: readonly Coder[];
  /** Bytes of the largest pcluster. */
  readonly maxPcluster: number;
  readonly slot: SlotShape;
  /** Address of each slot. */
  readonly slots: readonly number[];
  /** Pieces get the checksum of what is stored. */
  readonly sums: boolean;
}

/** Sizes of the parts of a slot, bytes. */
export interface SlotShape {
  readonly input: number;
  readonly output: number;
  readonly pieces: number;
  readonly extents: number;
}

const HEADER_SIZE = 64;

/** @param segment bytes of input that a slot takes, at least one whole file of that size. */
export function shapeOf(segment: number): SlotShape {
  const pieces = Math.max(64, Math.floor(segment / 8192));
  return {
    input: segment + BLOCK,
    // A piece may end with one more block than its input has.
    output: segment + (pieces + 1) * BLOCK,
    pieces,
    extents: segment / BLOCK + pieces * 2,
  };
}

const tableBytes = (shape: SlotShape): number =>
  HEADER_SIZE + (shape.pieces * Piece.WORDS + shape.extents * EXTENT_WORDS) * 4;

const slotBytes = (shape: SlotShape): number =>
  Math.ceil((shape.input + shape.output + tableBytes(shape)) / BLOCK) * BLOCK;

/** Memory of a slot. @returns its address. */
export const allocateSlot = (shape: SlotShape): number => allocate(slotBytes(shape));
export const releaseSlot = (address: number, shape: SlotShape): void =>
  release(address, slotBytes(shape));

/** A slot as one thread sees it. */
export class Slot {
  readonly number: number;
  readonly shape: SlotShape;
  readonly inputAddress: number;
  readonly outputAddress: number;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  /** Piece.WORDS for each piece. */
  readonly pieces: Int32Array;
  /** EXTENT_WORDS for each extent, the block counted from the start of the piece's output. */
  readonly extents: Uint32Array;
  readonly #header: Int32Array;

  constructor(number: number, address: number, shape: SlotShape) {
    this.number = number;
    this.shape = shape;
    const bytes = nativeBytes(address, slotBytes(shape));
    const { buffer } = bytes;
    this.inputAddress = address;
    this.outputAddress = address + shape.input;
    this.input = bytes.subarray(0, shape.input);
    this.output = bytes.subarray(shape.input, shape.input + shape.output);
    let at = shape.input + shape.output;
    this.#header = new Int32Array(buffer, at, HEADER_SIZE / 4);
    at += HEADER_SIZE;
    this.pieces = new Int32Array(buffer, at, shape.pieces * Piece.WORDS);
    at += shape.pieces * Piece.WORDS * 4;
    this.extents = new Uint32Array(buffer, at, shape.extents * EXTENT_WORDS);
  }

  /** Pieces that are filled in. */
  get count(): number {
    return this.#header[0] as number;
  }
  set count(value: number) {
    this.#header[0] = value;
  }
}
