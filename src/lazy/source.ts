// The blob of a lazy layer as a byte source: what is here is read, what is not is waited for.
// Opened by stack/lazy-open.ts for every layer of an image store; read by erofs/, in servers on the thread that answers requests.
// A read is good when the map says that all of it is here, and nothing was taken back meanwhile (residency.ts).

import { type LateSource, requireRange, throwNotHere } from '../bytes/source.js';
import type { FileSource } from '../linux/file-source.js';
import type { ChunkTable } from './chunk-table.js';
import type { LateLayer } from './client.js';
import type { ResidencyMap } from './residency.js';

/** A read of chunks that nobody here can wait for. */
export class ContentMissingError extends Error {}

/** What is known of a blob. */
export interface LazyBlob {
  /** `blob`, which has the size that the table says. */
  readonly file: FileSource;
  readonly table: ChunkTable;
  /** What is here; undefined as long as no loader has said so. */
  readonly map: ResidencyMap | undefined;
}

export class LazySource implements LateSource {
  readonly size: number;
  readonly #blob: LazyBlob;
  readonly #layer: LateLayer | undefined;
  /** Chunk of the last read: the next is often the same, or the one behind it. */
  #last = 0;

  /** @param layer who waits for what is not here; absent: reading it fails. Its map is this source's. */
  constructor(blob: LazyBlob, layer: LateLayer | undefined) {
    this.#blob = blob;
    this.#layer = layer;
    this.size = blob.file.size;
  }

  /** @throws NotHereError for what can be waited for, ContentMissingError where nobody can. */
  read(at: number, out: Uint8Array): void {
    const { file } = this.#blob;
    requireRange(at, out.length, this.size);
    for (;;) {
      const map = this.#layer === undefined ? this.#blob.map : this.#layer.map;
      const generation = map?.generation;
      if (map?.isComplete !== true || this.#layer?.records === true) {
        this.#requireHere(map, at, at + out.length);
      }
      file.read(at, out);
      if (map?.generation === generation) return;
    }
  }

  #requireHere(map: ResidencyMap | undefined, at: number, end: number): void {
    const first = this.#find(at);
    const { table } = this.#blob;
    let missing = -1;
    let behind = first;
    for (let i = first; i < table.count && table.at(i) < end; i++) {
      if (map?.isHere(i) === true) {
        behind = i + 1;
        continue;
      }
      if (missing < 0) missing = i;
      behind = i + 1;
    }
    if (missing < 0) {
      if (behind > first) this.#layer?.used(first, behind);
      return;
    }
    if (this.#layer === undefined) {
      throw new ContentMissingError(
        'its content is not all here: mount it, or have it filled (varve pull)',
      );
    }
    throwNotHere(this, missing, behind);
  }

  /** As ChunkTable.find(), with a look at the last one first. */
  #find(at: number): number {
    const { table } = this.#blob;
    for (let i = this.#last; i < this.#last + 2 && i < table.count; i++) {
      const begins = i === 0 || table.at(i - 1) + table.length(i - 1) <= at;
      if (begins && table.at(i) + table.length(i) > at) {
        this.#last = i;
        return i;
      }
    }
    this.#last = table.find(at);
    return this.#last;
  }

  isHere(at: number, length: number): boolean {
    const map = this.#layer === undefined ? this.#blob.map : this.#layer.map;
    if (map === undefined || map.isComplete) return map !== undefined;
    const { table } = this.#blob;
    for (let i = table.find(at); i < table.count && table.at(i) < at + length; i++) {
      if (!map.isHere(i)) return false;
    }
    return true;
  }

  whenHere(first: number, last: number, done: (result: number) => void): () => void {
    if (this.#layer === undefined) throw new ContentMissingError('nobody loads it');
    return this.#layer.whenHere(first, last, done);
  }

  wantSoon(at: number, length: number): void {
    if (this.#layer === undefined || this.#layer.map?.isComplete === true) return;
    const { table } = this.#blob;
    const first = table.find(at);
    let last = first;
    while (last < table.count && table.at(last) < at + length) last++;
    this.#layer.wantSoon(first, last);
  }
}
