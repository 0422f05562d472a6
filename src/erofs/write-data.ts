// Pass 2, the data: every regular file goes through the compression threads and into the image, in the order of the plan.
// Called by write.ts; leaves in each InodePlan where its data lies. Slots are written in the order they were filled in.
// Files that take chunks are written between slots (write-chunks.ts), results of slots by write-slot.ts.

import type { ByteSource } from '../bytes/source.js';
import { S } from '../linux/constants.js';
import { dataExtents, show } from '../tree/tree.js';
import { Piece, PieceFlag, type Slot } from './compress-job.js';
import { CompressPool } from './compress-pool.js';
import { PackedFile } from './fragments.js';
import { InodePlan } from './plan.js';
import { bestChunkBits, type ChunkTarget, ChunkWriter, placeChunks } from './write-chunks.js';
import { BLOCK, checkPcluster, type Settings } from './write-options.js';
import type { ProgressMeter } from './write-progress.js';
import type { Spool } from './write-sink.js';
import { type FileState, SlotWriter, type SlotWriterOptions } from './write-slot.js';

/** A compressed file with less data than this part of its size becomes chunks: reading its holes takes longer. */
const SPARSE = 1 / 16;

/** log2 of the smallest chunk that keeps holes of larger ones: each costs an address, and a request when it is fetched. */
const HOLE_BITS = 16;

/** A source that is given back. */
type Opened = ByteSource & { close?(): void };

export interface DataWriterOptions extends Omit<SlotWriterOptions, 'packed'> {
  readonly settings: Settings;
  /** Where chunks go that are not in the image. */
  readonly blob: ChunkTarget | undefined;
  /** For what goes to the packed file; undefined: there is none. */
  readonly packedSpool: Spool | undefined;
  /** What the packed file begins with. */
  readonly packedHead: Uint8Array;
  readonly progress: ProgressMeter;
  /** Time of the packed file. */
  readonly epoch: number;
  readonly epochNsec: number;
}

export class DataWriter {
  readonly #options: DataWriterOptions;
  readonly #pool: CompressPool;
  readonly #packed: PackedFile | undefined;
  readonly #writer: SlotWriter;
  readonly #chunks = new ChunkWriter();
  /** Posted, in order. */
  readonly #posted: { slot: Slot; files: FileState[] }[] = [];
  #slot: Slot | undefined;
  #files: FileState[] = [];
  /** Bytes of the slot's input that are taken. */
  #used = 0;

  constructor(options: DataWriterOptions) {
    const { settings } = options;
    this.#options = options;
    this.#packed =
      options.packedSpool === undefined
        ? undefined
        : new PackedFile(options.packedSpool, options.packedHead);
    this.#writer = new SlotWriter({ ...options, packed: this.#packed });
    const isChunked = settings.chunkSize !== undefined || settings.placed !== undefined;
    this.#pool = new CompressPool({
      coders: settings.coders,
      maxPcluster: settings.pclusterSize,
      workers: isChunked ? 0 : settings.workers,
      sums: settings.uuid === undefined,
    });
  }

  /**
   * Stores the data of all regular files.
   * @returns the inode of the packed file, when there is one.
   * @throws what a source throws, and Errors that name the file.
   */
  async run(inodes: readonly InodePlan[]): Promise<InodePlan | undefined> {
    const { progress } = this.#options;
    for (const plan of inodes) {
      if (plan.type !== S.IFREG) continue;
      if (plan.size > 0) await this.#file(plan);
      progress.fileDone();
    }
    await this.#drain();
    return this.#packed !== undefined && this.#packed.size > 0
      ? await this.#packedInode(this.#packed)
      : undefined;
  }

  /** First block behind all data. */
  get endBlock(): number {
    return this.#writer.target.block;
  }

  /** Digest of everything stored: equal content, equal digest. */
  digest(): Uint8Array {
    return this.#writer.hash.update(this.#chunks.hash.digest()).digest();
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  async #file(plan: InodePlan): Promise<void> {
    const { settings } = this.#options;
    const node = plan.node;
    const place = node === undefined ? undefined : settings.placed?.at(node);
    if (place !== undefined) {
      placeChunks(plan, 1, place.chunkBits, place.blocks);
      return;
    }
    if (node?.content === undefined) {
      if (node?.backing !== undefined || plan.size < 0) {
        throw new Error(`${show(plan.path)}: its content is an object elsewhere, not in the tree`);
      }
      // All of it is a hole.
      await this.#chunked(plan, [], settings.chunkSize);
      return;
    }
    const extents = dataExtents(node);
    if (settings.chunkSize !== undefined) {
      let size = settings.chunkSize;
      if (settings.keepHoles === true && node.content.extents !== undefined) {
        const { bits, cost } = bestChunkBits(extents, plan.size, HOLE_BITS);
        if (cost + BLOCK < plan.size) size = Math.min(size, 2 ** bits);
      }
      await this.#chunked(plan, extents, size);
      return;
    }
    const choice = settings.choose?.(plan.path, plan.size);
    const coder = choice?.compression ?? (settings.coders.length > 0 ? 0 : -1);
    if (coder >= settings.coders.length) {
      throw new RangeError(`${show(plan.path)}: there is no compression ${coder}`);
    }
    if (node.content.extents !== undefined && isSparse(plan.size, extents, coder >= 0)) {
      await this.#chunked(plan, extents, undefined);
      return;
    }
    const pclusterSize = choice?.pclusterSize ?? settings.pclusterSize;
    checkPcluster(pclusterSize);
    const source = node.content.open();
    try {
      await this.#pieces(plan, source, coder, Math.min(pclusterSize, settings.pclusterSize));
    } finally {
      source.close();
    }
  }

  /** @param size of a chunk in bytes; undefined: what takes the least room. */
  async #chunked(
    plan: InodePlan,
    extents: ReturnType<typeof dataExtents>,
    size: number | undefined,
  ): Promise<void> {
    await this.#drain();
    const bits =
      size === undefined || extents.length === 0
        ? bestChunkBits(extents, plan.size).bits
        : Math.log2(size);
    const source = plan.node?.content?.open();
    try {
      const target = this.#options.blob ?? this.#writer.target;
      const progress = this.#options.progress;
      this.#chunks.write(plan, source ?? NOTHING, extents, bits, target, (n) => progress.read(n));
    } finally {
      source?.close();
    }
  }

  /** Cuts a file into pieces and puts them into slots. */
  async #pieces(
    plan: InodePlan,
    source: Opened,
    coder: number,
    pclusterSize: number,
  ): Promise<void> {
    const { settings, progress } = this.#options;
    const isPacked = plan.node === undefined;
    const mayFragment = this.#packed !== undefined && !isPacked && coder >= 0;
    const mayInline = settings.tailPacking && !isPacked;
    // What fits into a block gains nothing by itself.
    const isSmall = plan.size <= BLOCK && !mayInline;
    const isWhole = mayFragment && (settings.fragments === 'all' || plan.size <= pclusterSize);
    let flags = 0;
    if (coder < 0 || isSmall || isWhole) flags |= PieceFlag.STORE;
    if (mayFragment) flags |= PieceFlag.FRAGMENT;
    else if (mayInline) flags |= PieceFlag.TAIL_PACKING;
    const room = Math.max(0, BLOCK - plan.headSize);
    const file: FileState = this.#writer.begin(plan, {
      coder,
      pclusterSize,
      packWhole: isWhole,
      pieces: Math.ceil(plan.size / this.#pool.segment),
    });
    for (let at = 0; at < plan.size; at += this.#pool.segment) {
      const length = Math.min(this.#pool.segment, plan.size - at);
      const isLast = at + length === plan.size;
      const slot = await this.#slotFor(length);
      const inputAt = this.#used;
      source.read(at, slot.input.subarray(inputAt, inputAt + length));
      progress.read(isPacked ? 0 : length);
      const k = slot.count * Piece.WORDS;
      slot.pieces[k + Piece.inputAt] = inputAt;
      slot.pieces[k + Piece.length] = length;
      slot.pieces[k + Piece.flags] =
        flags | (at === 0 ? PieceFlag.FIRST : 0) | (isLast ? PieceFlag.LAST : 0);
      slot.pieces[k + Piece.coder] = Math.max(0, coder);
      slot.pieces[k + Piece.pclusterSize] = pclusterSize;
      slot.pieces[k + Piece.room] = room;
      slot.count++;
      this.#files.push(file);
      // Stored pieces are written with what is behind them up to the block's end.
      const end = Math.ceil((inputAt + length) / BLOCK) * BLOCK;
      slot.input.fill(0, inputAt + length, end);
      this.#used = end;
    }
  }

  /** A slot with room for a piece of `length` bytes. */
  async #slotFor(length: number): Promise<Slot> {
    const needed = Math.ceil(length / BLOCK) * BLOCK;
    let slot = this.#slot;
    if (slot !== undefined) {
      const { pieces } = slot.shape;
      if (this.#used + needed <= this.#pool.segment && slot.count < pieces) return slot;
      this.#post();
    }
    slot = this.#pool.take();
    while (slot === undefined) {
      await this.#writeOldest();
      slot = this.#pool.take();
    }
    this.#slot = slot;
    this.#used = 0;
    this.#files = [];
    slot.count = 0;
    return slot;
  }

  #post(): void {
    if (this.#slot === undefined) return;
    this.#pool.post(this.#slot);
    this.#posted.push({ slot: this.#slot, files: this.#files });
    this.#slot = undefined;
  }

  async #writeOldest(): Promise<void> {
    const oldest = this.#posted.shift();
    if (oldest === undefined) throw new Error('no slot is being compressed');
    await this.#pool.done(oldest.slot);
    this.#writer.write(oldest.slot, oldest.files);
    this.#pool.give(oldest.slot);
    // The terminal and signals get their turn.
    await new Promise(setImmediate);
  }

  /** Everything that was begun is in the image. */
  async #drain(): Promise<void> {
    this.#post();
    while (this.#posted.length > 0) await this.#writeOldest();
  }

  async #packedInode(packed: PackedFile): Promise<InodePlan> {
    const { settings, epoch, epochNsec } = this.#options;
    const plan = new InodePlan(undefined, undefined, '', {
      mode: S.IFREG,
      uid: 0,
      gid: 0,
      mtime: epoch,
      mtimeNsec: epochNsec,
      links: 1,
      size: packed.size,
    });
    plan.inodeSize = packed.size > 0xffff_ffff ? 64 : 32;
    await this.#pieces(plan, packed, 0, settings.pclusterSize);
    await this.#drain();
    return plan;
  }
}

const NOTHING: ByteSource = {
  size: 0,
  read(at) {
    throw new RangeError(`nothing at ${at}`);
  },
};

function isSparse(
  size: number,
  extents: ReturnType<typeof dataExtents>,
  isCompressed: boolean,
): boolean {
  const { cost } = bestChunkBits(extents, size);
  return isCompressed ? cost < size * SPARSE : cost + BLOCK < size;
}
