// Chunks become packs: units of compressed bytes one behind the other, in files that have no name.
// Called by push.ts for the chunks that the repository does not have, in the order in which they are to lie.
// Format: docs/lazy-format.md. The same chunks in the same order, level and library give the same packs.

import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ZstdFrames } from '../../linux/zstd-frame.js';
import { Codec } from '../chunk-table.js';
import { STAGING } from '../layer-folder.js';

/** Bytes of content that small chunks share a unit up to; a chunk of as many has one of its own. */
const UNIT = 64 * 1024;
/** Bytes of a pack, about: what is uploaded, and begun again, as one. */
const PACK = 256 * 1024 * 1024;
/** What compression must leave of a unit for it to be worth the reader's time. */
const WORTH = 0.97;

/** A pack that is finished. */
export interface PackFile {
  readonly fd: number;
  readonly size: number;
  /** `sha256:HEX` */
  readonly digest: string;
}

/** Where a chunk was put. */
export interface PackedPlace {
  /** Number of the pack, from 0. */
  readonly pack: number;
  readonly stored: number;
  readonly from: number;
  readonly skip: number;
  readonly codec: number;
}

interface Waiting {
  readonly chunk: number;
  readonly length: number;
}

export interface PackWriterOptions {
  /** Folder that has room for a pack. */
  readonly folder: string;
  /** Of zstd. */
  readonly level: number;
  /** Told where chunk `chunk` (as add() was given it) lies. */
  readonly placed: (chunk: number, place: PackedPlace) => void;
  /** Takes a pack over, and closes its descriptor; the next one is begun when this returns. */
  readonly finished: (pack: PackFile) => Promise<void>;
  /** Bytes of a pack; PACK. */
  readonly packSize?: number;
}

export class PackWriter {
  readonly #options: PackWriterOptions;
  readonly #zstd: ZstdFrames;
  readonly #unit = new Uint8Array(UNIT);
  #waiting: Waiting[] = [];
  /** Bytes of #unit that are taken. */
  #used = 0;
  #fd = -1;
  #hash: Hash = createHash('sha256');
  #size = 0;
  #pack = 0;

  /** @throws Error when libzstd is missing, RangeError for a level that is none. */
  constructor(options: PackWriterOptions) {
    this.#options = options;
    this.#zstd = new ZstdFrames(options.level);
  }

  /** @param bytes borrowed. */
  async add(chunk: number, bytes: Uint8Array): Promise<void> {
    if (bytes.length >= UNIT) {
      await this.#write([{ chunk, length: bytes.length }], bytes);
      return;
    }
    if (this.#used + bytes.length > UNIT) await this.flush();
    this.#unit.set(bytes, this.#used);
    this.#used += bytes.length;
    this.#waiting.push({ chunk, length: bytes.length });
  }

  /** Ends the unit that small chunks share: what is added next goes into another. */
  async flush(): Promise<void> {
    if (this.#used === 0) return;
    await this.#write(this.#waiting, this.#unit.subarray(0, this.#used));
    this.#waiting = [];
    this.#used = 0;
  }

  /** Finishes the last pack. */
  async end(): Promise<void> {
    await this.flush();
    await this.#finish();
  }

  /** Gives back what is not finished. */
  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    this.#zstd.close();
  }

  async #write(chunks: readonly Waiting[], content: Uint8Array): Promise<void> {
    const frame = this.#zstd.compress(content);
    const isPacked = frame.length < content.length * WORTH;
    const bytes = isPacked ? frame : content;
    const limit = this.#options.packSize ?? PACK;
    if (this.#size > 0 && this.#size + bytes.length > limit) await this.#finish();
    const unit = this.#size;
    this.#append(bytes);
    let skip = 0;
    for (const { chunk, length } of chunks) {
      const place = isPacked
        ? { stored: bytes.length, from: unit, skip, codec: Codec.ZSTD }
        : { stored: length, from: unit + skip, skip: 0, codec: Codec.RAW };
      this.#options.placed(chunk, { pack: this.#pack, ...place });
      skip += length;
    }
  }

  #append(bytes: Uint8Array): void {
    if (this.#fd < 0) this.#fd = openNameless(this.#options.folder);
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, this.#size + done);
    }
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  async #finish(): Promise<void> {
    if (this.#size === 0) return;
    const pack = { fd: this.#fd, size: this.#size, digest: `sha256:${this.#hash.digest('hex')}` };
    this.#fd = -1;
    this.#size = 0;
    this.#hash = createHash('sha256');
    this.#pack++;
    await this.#options.finished(pack);
  }
}

/** Nothing is left of it when this process dies. */
function openNameless(folder: string): number {
  const path = join(folder, `${STAGING}pack-${randomBytes(6).toString('hex')}`);
  const fd = openSync(path, 'wx+', 0o600);
  rmSync(path);
  return fd;
}
