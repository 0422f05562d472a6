// What the compression threads made of a slot goes into the image: pclusters, blocks, tails, fragments.
// Called by write-data.ts with the slots in their order, so block numbers come out the same whatever finished first.
// Leaves in each InodePlan how its data is stored; the indexes themselves are made by write-meta.ts.

import { createHash } from 'node:crypto';
import { Piece, PieceFlag, PieceResult, type Slot } from './compress-job.js';
import { DedupeTable } from './dedupe.js';
import { Algorithm, Layout } from './format.js';
import type { PackedFile } from './fragments.js';
import {
  EXTENT_FRAGMENT,
  EXTENT_INLINE,
  EXTENT_LENGTH_MASK,
  EXTENT_RAW,
  EXTENT_WORDS,
  isContiguous,
} from './index-encode.js';
import { flatBlocks, type InodePlan } from './plan.js';
import type { ChunkTarget } from './write-chunks.js';
import { CompressedData, type ExtentStore, PackedData } from './write-extents.js';
import { BLOCK, type Settings } from './write-options.js';
import type { ImageFile, Spool } from './write-sink.js';

/** Bytes of index for a block and for a file: what compression must gain at least. */
const INDEX_COST = 8;
/** Bytes read at a time when a file is stored uncompressed after all. */
const PART = 1024 * 1024;

const ALGORITHMS = {
  lz4: Algorithm.LZ4,
  lz4hc: Algorithm.LZ4,
  lzma: Algorithm.LZMA,
  deflate: Algorithm.DEFLATE,
  zstd: Algorithm.ZSTD,
} as const;

/** Number of a method's format, as in h_algorithmtype. */
export const algorithmOf = (method: keyof typeof ALGORITHMS): number => ALGORITHMS[method];

/** A file some of whose pieces are written. */
export interface FileState {
  readonly plan: InodePlan;
  readonly coder: number;
  readonly pclusterSize: number;
  /** All of it goes to the packed file. */
  readonly packWhole: boolean;
  readonly pieces: number;
  firstBlock: number;
  firstExtent: number;
  /** Blocks of compressed data. */
  blocks: number;
  /** Where the packed file has its first piece. */
  packedAt: number;
}

export interface SlotWriterOptions {
  readonly settings: Settings;
  readonly image: ImageFile;
  /** For tails that lie with their inodes. */
  readonly tails: Spool;
  readonly packed: PackedFile | undefined;
  readonly extents: ExtentStore;
  /** First block of data in the image. */
  readonly firstBlock: number;
}

export class SlotWriter {
  /** Where the image goes on; chunks are written there as well. */
  readonly target: ChunkTarget;
  /** Of the checksums of all pieces. */
  readonly hash = createHash('sha256');
  readonly #options: SlotWriterOptions;
  readonly #dedupe: DedupeTable | undefined;
  /** Bytes of the slot's output that are to be written at the end of the image, but are not yet. */
  #runFrom = 0;
  #runTo = 0;
  #slot!: Slot;

  constructor(options: SlotWriterOptions) {
    this.#options = options;
    this.target = { file: options.image, device: 0, block: options.firstBlock };
    this.#dedupe = options.settings.dedupe ? new DedupeTable() : undefined;
  }

  begin(
    plan: InodePlan,
    how: Pick<FileState, 'coder' | 'pclusterSize' | 'packWhole' | 'pieces'>,
  ): FileState {
    return { plan, ...how, firstBlock: 0, firstExtent: 0, blocks: 0, packedAt: 0 };
  }

  /** Writes a slot whose results are there. @param files of its pieces. */
  write(slot: Slot, files: readonly FileState[]): void {
    this.#slot = slot;
    this.#runFrom = this.#runTo = 0;
    const sums = new Int32Array(slot.count);
    for (let i = 0; i < slot.count; i++) {
      this.#piece(i * Piece.WORDS, files[i] as FileState);
      sums[i] = slot.pieces[i * Piece.WORDS + Piece.sum] as number;
    }
    this.#flush();
    this.hash.update(sums);
  }

  #piece(k: number, file: FileState): void {
    const { pieces } = this.#slot;
    const flags = pieces[k + Piece.flags] as number;
    if (flags & PieceFlag.FIRST) {
      file.firstBlock = this.target.block;
      file.firstExtent = this.#options.extents.count;
      this.#dedupe?.keep();
    }
    const isLast = (flags & PieceFlag.LAST) !== 0;
    switch (pieces[k + Piece.result]) {
      case PieceResult.FLAT:
        this.#flat(k, file);
        break;
      case PieceResult.STORED:
        if (file.packWhole) this.#pack(k, file, isLast);
        else this.#store(k, file, isLast);
        break;
      default:
        this.#pclusters(k, file);
        if (isLast) this.#finish(k, file);
    }
  }

  /** The next bytes of the slot's output follow the image. */
  #emit(from: number, size: number): void {
    if (size === 0) return;
    if (from !== this.#runTo) {
      this.#flush();
      this.#runFrom = from;
    }
    this.#runTo = from + size;
    this.target.block += size / BLOCK;
  }

  #flush(): void {
    const size = this.#runTo - this.#runFrom;
    if (size > 0) {
      const bytes = this.#slot.output.subarray(this.#runFrom, this.#runTo);
      this.#options.image.write(this.target.block * BLOCK - size, bytes);
    }
    this.#runFrom = this.#runTo;
  }

  #tail(k: number): Uint8Array {
    const at = this.#slot.pieces[k + Piece.tailAt] as number;
    return this.#slot.input.subarray(at, at + (this.#slot.pieces[k + Piece.tailSize] as number));
  }

  /** A whole file that is not worth compressing. */
  #flat(k: number, file: FileState): void {
    const { plan } = file;
    const from = this.#slot.pieces[k + Piece.outputAt] as number;
    const size = this.#slot.pieces[k + Piece.outputSize] as number;
    const block = this.#place(
      size === 0 ? undefined : this.#slot.output.subarray(from, from + size),
    );
    if (block === this.target.block) this.#emit(from, size);
    plan.setFlat(plan.size, block);
    if (plan.tailSize > 0) plan.tailAt = this.#options.tails.append(this.#tail(k));
  }

  /** Where uncompressed blocks go: at the end, or where equal ones are. */
  #place(bytes: Uint8Array | undefined): number {
    const end = this.target.block;
    if (this.#dedupe === undefined || bytes === undefined) return end;
    const key = DedupeTable.key(bytes, `flat${bytes.length}`);
    const known = this.#dedupe.find(key);
    if (known === undefined) this.#dedupe.add(key, end);
    return known ?? end;
  }

  /** A piece of a file that is stored as it is. */
  #store(k: number, file: FileState, isLast: boolean): void {
    const { plan } = file;
    const at = this.#slot.pieces[k + Piece.inputAt] as number;
    const length = this.#slot.pieces[k + Piece.length] as number;
    let size = length;
    if (isLast) {
      plan.setFlat(plan.size, file.firstBlock);
      size = Math.ceil((length - plan.tailSize) / BLOCK) * BLOCK;
    }
    if (size > 0) {
      const bytes = this.#slot.input.subarray(at, at + size);
      const block = file.pieces === 1 ? this.#place(bytes) : this.target.block;
      if (block === this.target.block) {
        this.#flush();
        this.#options.image.write(block * BLOCK, bytes);
        this.target.block += size / BLOCK;
      } else {
        plan.setFlat(plan.size, block);
      }
    }
    if (plan.tailSize > 0 && isLast) {
      const tail = this.#slot.input.subarray(at + size, at + length);
      plan.tailAt = this.#options.tails.append(tail);
    }
  }

  /** A piece of a file that goes to the packed file. */
  #pack(k: number, file: FileState, isLast: boolean): void {
    const at = this.#slot.pieces[k + Piece.inputAt] as number;
    const length = this.#slot.pieces[k + Piece.length] as number;
    const bytes = this.#slot.input.subarray(at, at + length);
    const packed = this.#options.packed as PackedFile;
    if (file.pieces === 1) file.packedAt = packed.add(bytes);
    else {
      const place = packed.append(bytes);
      if ((this.#slot.pieces[k + Piece.flags] as number) & PieceFlag.FIRST) file.packedAt = place;
    }
    if (isLast) setPacked(file.plan, file.packedAt);
  }

  #pclusters(k: number, file: FileState): void {
    const { extents } = this.#slot;
    const from = this.#slot.pieces[k + Piece.outputAt] as number;
    const first = this.#slot.pieces[k + Piece.firstExtent] as number;
    const count = this.#slot.pieces[k + Piece.extents] as number;
    const store = this.#options.extents;
    const start = this.target.block;
    for (let i = first * EXTENT_WORDS; i < (first + count) * EXTENT_WORDS; i += EXTENT_WORDS) {
      const word = extents[i] as number;
      const blocks = extents[i + 1] as number;
      const relative = extents[i + 2] as number;
      if (this.#dedupe === undefined) {
        store.push(word, blocks, start + relative);
      } else if (word & (EXTENT_FRAGMENT | EXTENT_INLINE)) {
        store.push(word, blocks, this.target.block);
      } else {
        const at = from + relative * BLOCK;
        store.push(word, blocks, this.#pcluster(word, at, blocks * BLOCK, file.coder));
      }
    }
    if (this.#dedupe === undefined) {
      this.#emit(from, this.#slot.pieces[k + Piece.outputSize] as number);
    }
    file.blocks += (this.#slot.pieces[k + Piece.outputSize] as number) / BLOCK;
  }

  /** @returns the block where a pcluster of the slot's output is, or is written now. */
  #pcluster(word: number, at: number, size: number, coder: number): number {
    const bytes = this.#slot.output.subarray(at, at + size);
    const kind = `${word & EXTENT_RAW ? 'raw' : coder}:${word & EXTENT_LENGTH_MASK}`;
    const key = DedupeTable.key(bytes, kind);
    const table = this.#dedupe as DedupeTable;
    const known = table.find(key);
    if (known !== undefined) return known;
    const block = this.target.block;
    table.add(key, block);
    this.#emit(at, size);
    return block;
  }

  /** The last piece of a compressed file is there. */
  #finish(k: number, file: FileState): void {
    const { plan } = file;
    const { settings, extents, tails, packed } = this.#options;
    const extentCount = extents.count - file.firstExtent;
    const words = extents.words(file.firstExtent, extentCount);
    const lastWord = words[words.length - EXTENT_WORDS] as number;
    const hasFragment = (lastWord & EXTENT_FRAGMENT) !== 0;
    const tail = this.#tail(k);
    const index = Math.ceil(plan.size / BLOCK) * INDEX_COST + 2 * INDEX_COST;
    if (file.pieces > 1 && !hasFragment && file.blocks * BLOCK + tail.length + index >= plan.size) {
      this.#storeAfterAll(file);
      return;
    }
    const fragmentAt = hasFragment ? (packed as PackedFile).add(tail) : undefined;
    if (fragmentAt !== undefined && extentCount === 1) {
      extents.truncate(file.firstExtent);
      setPacked(plan, fragmentAt);
      return;
    }
    const coder = settings.coders[file.coder];
    if (coder === undefined) throw new RangeError(`no coder ${file.coder}`);
    const data = new CompressedData({
      size: plan.size,
      algorithm: algorithmOf(coder.method),
      isBig: file.pclusterSize > BLOCK,
      inlineSize: lastWord & EXTENT_INLINE ? tail.length : 0,
      fragmentAt,
      isFull: (fragmentAt ?? 0) > 0xffff_ffff || !isContiguous(words),
      firstExtent: file.firstExtent,
      extentCount,
    });
    plan.layout = data.isFull ? Layout.COMPRESSED_FULL : Layout.COMPRESSED_COMPACT;
    plan.i_u = file.blocks;
    plan.stored = data;
    plan.indexSize = data.indexSize(plan);
    plan.tailSize = data.inlineSize;
    if (data.inlineSize > 0) plan.tailAt = tails.append(tail);
  }

  /** A file of several pieces turns out not to be worth compressing: its source is read once more. */
  #storeAfterAll(file: FileState): void {
    const { plan } = file;
    this.#flush();
    this.#dedupe?.withdraw();
    this.#options.extents.truncate(file.firstExtent);
    this.target.block = file.firstBlock;
    plan.setFlat(plan.size, file.firstBlock);
    const source = plan.node?.content?.open() ?? this.#options.packed;
    if (source === undefined) throw new Error('a file without content was compressed');
    const stored = plan.size - plan.tailSize;
    const part = Buffer.alloc(PART);
    for (let at = 0; at < stored; at += PART) {
      const length = Math.min(PART, stored - at);
      const whole = Math.ceil(length / BLOCK) * BLOCK;
      source.read(at, part.subarray(0, length));
      part.fill(0, length, whole);
      this.#options.image.write(file.firstBlock * BLOCK + at, part.subarray(0, whole));
    }
    this.target.block += flatBlocks(plan);
    if (plan.tailSize > 0) {
      const tail = Buffer.alloc(plan.tailSize);
      source.read(stored, tail);
      plan.tailAt = this.#options.tails.append(tail);
    }
    if ('close' in source) (source as { close(): void }).close();
  }
}

/** The whole file lies in the packed file. */
function setPacked(plan: InodePlan, at: number): void {
  const data = new PackedData(at);
  plan.layout = Layout.COMPRESSED_FULL;
  plan.i_u = 0;
  plan.stored = data;
  plan.indexSize = data.indexSize(plan);
}
