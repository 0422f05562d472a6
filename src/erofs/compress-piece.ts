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

/** Compresses the pieces of slots; one for each thread. */
export class PieceCompressor {
  readonly #settings: WorkerSettings;
  readonly #compressors: (Compressor | undefined)[] = [];
  /** Where a pcluster is made, before its length is known. */
  readonly #scratch: number;
  #slot!: Slot;
  /** Word of the current piece in the table. */
  #piece = 0;
  #extent = 0;
  /** End of what the output has, bytes. */
  #out = 0;

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
    this.#scratch = allocate(settings.maxPcluster + BLOCK);
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
      if (this.#get(Piece.flags) & PieceFlag.STORE) this.#store();
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

  #store(): void {
    this.#set(Piece.result, PieceResult.STORED);
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
    const { inputAddress, outputAddress, output } = this.#slot;
    const compressor = this.#compressor();
    compressor.begin();
    const start = this.#get(Piece.inputAt);
    const length = this.#get(Piece.length);
    const flags = this.#get(Piece.flags);
    const pcluster = this.#get(Piece.pclusterSize);
    const isLast = (flags & PieceFlag.LAST) !== 0;
    const mayFragment = isLast && (flags & PieceFlag.FRAGMENT) !== 0;
    const mayInline = isLast && !mayFragment && (flags & PieceFlag.TAIL_PACKING) !== 0;
    const first = this.#out;
    this.#set(Piece.result, PieceResult.COMPRESSED);

    /** Bytes of an inline pcluster that waits in the scratch. */
    let inline = 0;
    for (let done = 0; done < length; ) {
      const left = length - done;
      if (mayFragment && left <= pcluster) {
        this.#tail(start + done, left, EXTENT_FRAGMENT);
        break;
      }
      if (!mayInline && left <= BLOCK) {
        done += this.#raw(start + done, left, BLOCK);
        continue;
      }
      const source = inputAddress + start + done;
      let written = compressor.compress(source, left, this.#scratch, pcluster);
      let taken = written > 0 ? compressor.taken : Math.min(left, pcluster);
      const isWhole = taken === left;
      if (mayInline && isWhole && written > 0 && written <= MAX_INLINE && written < left) {
        inline = written;
        this.#tail(start + done, left, EXTENT_INLINE);
        break;
      }
      if (written === 0 || blocksUp(written) >= taken) {
        if (mayInline && left <= MAX_INLINE) {
          this.#tail(start + done, left, EXTENT_INLINE | EXTENT_RAW);
          break;
        }
        done += this.#raw(start + done, left, Math.min(taken, pcluster));
        continue;
      }
      if (mayFragment && isWhole && written < pcluster) {
        this.#tail(start + done, left, EXTENT_FRAGMENT);
        break;
      }
      if (mayInline && isWhole && written % BLOCK !== 0 && written > BLOCK) {
        // One block less, when what does not fit then is small enough to lie with the inode.
        const whole = Math.floor(written / BLOCK) * BLOCK;
        const again = compressor.compress(source, left, this.#scratch, whole);
        if (again > 0 && again + (left - compressor.taken) < blocksUp(written)) {
          written = again;
          taken = compressor.taken;
        } else {
          written = compressor.compress(source, left, this.#scratch, pcluster);
        }
      }
      const size = blocksUp(written);
      const padding = size - written;
      output.fill(0, this.#out, this.#out + padding);
      copyNative(outputAddress + this.#out + padding, this.#scratch, written);
      this.#push(taken, size / BLOCK);
      this.#out += size;
      done += taken;
    }
    const isWholeFile = isLast && (flags & PieceFlag.FIRST) !== 0;
    if (isWholeFile && this.#isWorthless(first, inline, length)) this.#makeFlat(first);
    // Only now: a flat file needs its input.
    else if (inline > 0) {
      copyNative(inputAddress + this.#get(Piece.tailAt), this.#scratch, inline);
      this.#set(Piece.tailSize, inline);
    }
  }

  /** An extent; `flags` are those of its first word. */
  #push(length: number, blocks: number): void {
    const at = this.#extent * EXTENT_WORDS;
    const { extents } = this.#slot;
    extents[at] = length;
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

  /** The last extent, whose bytes go elsewhere. */
  #tail(from: number, length: number, kind: number): void {
    this.#push(length | kind, kind & EXTENT_INLINE ? 1 : 0);
    this.#set(Piece.tailAt, from);
    this.#set(Piece.tailSize, length);
  }

  #isWorthless(first: number, inline: number, length: number): boolean {
    const last = (this.#extent - 1) * EXTENT_WORDS;
    const word = this.#slot.extents[last] as number;
    if (word & EXTENT_FRAGMENT) return false;
    const tail = inline > 0 ? inline : this.#get(Piece.tailSize);
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
