// The hot loop: a file, or a segment of one, becomes pclusters. Nothing here depends on what was compressed before.
// Run by the compression workers, or in line without workers; the results are read by write-data.ts.
// Follows: fs/erofs/zdata.c of Linux 6.18 (data at the end of its pcluster, zeros before it).

import { type Compressor, crc32At, makeCompressor } from '../linux/compressors.js';
import { allocate, copyNative } from '../linux/native-memory.js';
import { Piece, PieceFlag, PieceResult, type Slot, type WorkerSettings } from './compress-job.js';
import { EXTENT_FRAGMENT, EXTENT_INLINE, EXTENT_RAW, EXTENT_WORDS } from './index-encode.js';
import { BLOCK } from './write-options.js';

/** Bytes that an inline pcluster may have: behind an index that ends anywhere in a slot it still fits into a block. */
const MAX_INLINE = BLOCK - 64;
/** Bytes of index for a block: with full indexes, as an upper bound. */
const INDEX_COST = 8;

const blocksUp = (size: number): number => Math.ceil(size / BLOCK) * BLOCK;

/** How the current piece is compressed. */
interface How {
  readonly compressor: Compressor;
  readonly pcluster: number;
  /** Its end may go to the packed file, or behind the inode. */
  readonly mayFragment: boolean;
  readonly mayInline: boolean;
}

/** Compresses the pieces of slots; one for each thread. */
export class PieceCompressor {
  readonly #settings: WorkerSettings;
  readonly #compressors: (Compressor | undefined)[] = [];
  /** Where a pcluster is made, before its length is known. */
  readonly #scratch: number;
  /** The same for a second try. */
  readonly #second: number;
  #slot!: Slot;
  /** Word of the current piece in the table. */
  #piece = 0;
  #extent = 0;
  /** End of what the output has, bytes. */
  #out = 0;
  /** Bytes of an inline pcluster of the current piece, which waits in the scratch. */
  #inline = 0;

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
    this.#scratch = allocate(settings.maxPcluster + BLOCK);
    this.#second = allocate(settings.maxPcluster + BLOCK);
  }

  /** Fills in the results of every piece. */
  run(slot: Slot): void {
    this.#slot = slot;
    this.#out = 0;
    this.#extent = 0;
    for (let i = 0; i < slot.count; i++) {
      this.#piece = i * Piece.WORDS;
      const from = this.#out;
      this.#set(Piece.outputAt, from);
      this.#set(Piece.firstExtent, this.#extent);
      this.#set(Piece.tailSize, 0);
      if (this.#get(Piece.flags) & PieceFlag.STORE) this.#set(Piece.result, PieceResult.STORED);
      else this.#compress();
      this.#set(Piece.outputSize, this.#out - from);
      this.#set(Piece.extents, this.#extent - this.#get(Piece.firstExtent));
      this.#set(Piece.sum, this.#settings.sums ? this.#sum(from) : 0);
    }
  }

  /** @param from where the output of the piece begins. */
  #sum(from: number): number {
    if (this.#get(Piece.result) === PieceResult.STORED) {
      const at = this.#slot.inputAddress + this.#get(Piece.inputAt);
      return crc32At(0, at, this.#get(Piece.length)) | 0;
    }
    return crc32At(0, this.#slot.outputAddress + from, this.#out - from) | 0;
  }

  #get(field: number): number {
    return this.#slot.pieces[this.#piece + field] as number;
  }

  #set(field: number, value: number): void {
    this.#slot.pieces[this.#piece + field] = value;
  }

  #compressor(): Compressor {
    const number = this.#get(Piece.coder);
    let compressor = this.#compressors[number];
    if (compressor === undefined) {
      const coder = this.#settings.coders[number];
      if (coder === undefined) throw new RangeError(`no coder ${number}`);
      compressor = makeCompressor(coder.method, {
        level: coder.level,
        window: coder.window,
        capacity: this.#settings.maxPcluster,
      });
      this.#compressors[number] = compressor;
    }
    return compressor;
  }

  #compress(): void {
    const compressor = this.#compressor();
    compressor.begin();
    const start = this.#get(Piece.inputAt);
    const length = this.#get(Piece.length);
    const flags = this.#get(Piece.flags);
    const isLast = (flags & PieceFlag.LAST) !== 0;
    const mayFragment = isLast && (flags & PieceFlag.FRAGMENT) !== 0;
    const mayInline = isLast && !mayFragment && (flags & PieceFlag.TAIL_PACKING) !== 0;
    const how = { compressor, pcluster: this.#get(Piece.pclusterSize), mayFragment, mayInline };
    const first = this.#out;
    this.#inline = 0;
    this.#set(Piece.result, PieceResult.COMPRESSED);
    for (let done = 0; done < length; ) done += this.#next(start + done, length - done, how);
    const isWholeFile = isLast && (flags & PieceFlag.FIRST) !== 0;
    if (isWholeFile && this.#isWorthless(first, length)) this.#makeFlat(first);
    // Only now: a flat file needs its input.
    else if (this.#inline > 0) {
      const at = this.#slot.inputAddress + this.#get(Piece.tailAt);
      copyNative(at, this.#scratch, this.#inline);
      this.#set(Piece.tailSize, this.#inline);
    }
  }

  /** The next extent, from byte `at` of the input on, or several uncompressed ones. @returns the bytes in them. */
  #next(at: number, left: number, how: How): number {
    const { compressor, pcluster, mayFragment, mayInline } = how;
    if (mayFragment && left <= pcluster) return this.#tail(at, left, EXTENT_FRAGMENT);
    if (!mayInline && left <= BLOCK) return this.#raw(at, left, BLOCK);
    const source = this.#slot.inputAddress + at;
    let written = compressor.compress(source, left, this.#scratch, pcluster);
    let taken = written > 0 ? compressor.taken : Math.min(left, pcluster);
    const isWhole = taken === left;
    if (mayInline && isWhole && written > 0 && written <= MAX_INLINE && written < left) {
      this.#inline = written;
      return this.#tail(at, left, EXTENT_INLINE);
    }
    if (written === 0 || blocksUp(written) >= taken) {
      return mayInline && left <= MAX_INLINE
        ? this.#tail(at, left, EXTENT_INLINE | EXTENT_RAW)
        : this.#raw(at, left, Math.min(taken, pcluster));
    }
    if (mayFragment && isWhole && written < pcluster) return this.#tail(at, left, EXTENT_FRAGMENT);
    if (mayInline && isWhole && written % BLOCK !== 0) {
      const shorter = this.#shorten(source, left, written, compressor);
      if (shorter > 0) {
        written = shorter;
        taken = compressor.taken;
      }
    }
    this.#pcluster(written, taken);
    return taken;
  }

  /**
   * Leaves away the last block of a pcluster that ends the file, when what then does not fit is small enough to lie with
   * the inode. @returns bytes of the shorter one, which is in the scratch; 0: it is not better.
   */
  #shorten(source: number, left: number, written: number, compressor: Compressor): number {
    const room = Math.floor(written / BLOCK) * BLOCK;
    if (room === 0) return 0;
    const shorter = compressor.compress(source, left, this.#second, room);
    if (shorter === 0 || shorter + (left - compressor.taken) >= blocksUp(written)) return 0;
    if (blocksUp(shorter) >= compressor.taken) return 0;
    copyNative(this.#scratch, this.#second, shorter);
    return shorter;
  }

  /** A pcluster of what is in the scratch: data at its end, zeros before it. */
  #pcluster(written: number, taken: number): void {
    const { output, outputAddress } = this.#slot;
    const size = blocksUp(written);
    const padding = size - written;
    output.fill(0, this.#out, this.#out + padding);
    copyNative(outputAddress + this.#out + padding, this.#scratch, written);
    this.#push(taken, size / BLOCK);
    this.#out += size;
  }

  /** An extent at the end of the output. @param word the first word of it. */
  #push(word: number, blocks: number): void {
    const at = this.#extent * EXTENT_WORDS;
    const { extents } = this.#slot;
    extents[at] = word;
    extents[at + 1] = blocks;
    extents[at + 2] = (this.#out - this.#get(Piece.outputAt)) / BLOCK;
    this.#extent++;
  }

  /** Uncompressed blocks for about `size` bytes. @returns bytes taken of the `left` ones. */
  #raw(from: number, left: number, size: number): number {
    const { input, output } = this.#slot;
    const blocks = Math.max(1, Math.floor(size / BLOCK));
    let done = 0;
    for (let i = 0; i < blocks && done < left; i++) {
      const length = Math.min(BLOCK, left - done);
      output.set(input.subarray(from + done, from + done + length), this.#out);
      output.fill(0, this.#out + length, this.#out + BLOCK);
      this.#push(length | EXTENT_RAW, 1);
      this.#out += BLOCK;
      done += length;
    }
    return done;
  }

  /** The last extent, whose bytes go elsewhere. @returns `length` */
  #tail(from: number, length: number, kind: number): number {
    this.#push(length | kind, kind & EXTENT_INLINE ? 1 : 0);
    this.#set(Piece.tailAt, from);
    this.#set(Piece.tailSize, length);
    return length;
  }

  #isWorthless(first: number, length: number): boolean {
    const last = (this.#extent - 1) * EXTENT_WORDS;
    const word = this.#slot.extents[last] as number;
    if (word & EXTENT_FRAGMENT) return false;
    const tail = this.#inline > 0 ? this.#inline : this.#get(Piece.tailSize);
    const index = Math.ceil(length / BLOCK) * INDEX_COST + 2 * INDEX_COST;
    return this.#out - first + tail + index >= length;
  }

  /** Stores the file as it is instead. */
  #makeFlat(first: number): void {
    const { input, output } = this.#slot;
    const start = this.#get(Piece.inputAt);
    const length = this.#get(Piece.length);
    const tail = length % BLOCK;
    const isInline = tail > 0 && tail <= this.#get(Piece.room);
    const stored = isInline ? length - tail : length;
    output.set(input.subarray(start, start + stored), first);
    this.#out = first + blocksUp(stored);
    output.fill(0, first + stored, this.#out);
    this.#extent = this.#get(Piece.firstExtent);
    this.#set(Piece.result, PieceResult.FLAT);
    this.#set(Piece.tailAt, start + stored);
    this.#set(Piece.tailSize, length - stored);
  }
}
