// Which chunks the packs of a repository have already, by digest.
// Filled from the tables of images that lie in the same repository; asked by pack-writer's caller for each chunk of a push.
// What a table says is taken as it is: every reader compares content with its digest before anybody sees it.

import { type ChunkTable, Codec, keyOf, MAX_CHUNKS, NOWHERE } from '../chunk-table.js';
import type { Origin } from '../layer-folder.js';

/** Where a chunk lies. */
export interface Place {
  /** `sha256:HEX` of the pack. */
  readonly pack: string;
  readonly stored: number;
  readonly from: number;
  readonly skip: number;
  readonly codec: number;
}

interface Known {
  readonly table: ChunkTable;
  /** By number of the origin; undefined: no pack of this repository. */
  readonly packs: readonly (Origin | undefined)[];
}

export class KnownChunks {
  readonly #tables: Known[] = [];
  /** keyOf(digest) -> number of its table times MAX_CHUNKS, and number of the chunk in that. */
  readonly #chunks = new Map<string, number>();
  readonly #packs = new Map<string, Origin>();

  /**
   * @param packs by number of the origin; undefined for an origin that is no pack of this repository.
   */
  add(table: ChunkTable, packs: readonly (Origin | undefined)[]): void {
    const number = this.#tables.push({ table, packs }) - 1;
    for (let i = 0; i < table.count; i++) {
      const origin = table.origin(i);
      const pack = origin === NOWHERE ? undefined : packs[origin];
      if (pack === undefined || table.codec(i) > Codec.ZSTD) continue;
      const key = keyOf(table.digest(i));
      if (this.#chunks.has(key)) continue;
      this.#chunks.set(key, number * MAX_CHUNKS + i);
      this.#packs.set(pack.digest, pack);
    }
  }

  /** @returns where a chunk of this digest and length lies, undefined when that is not known. */
  find(digest: Uint8Array, length: number): Place | undefined {
    const found = this.#chunks.get(keyOf(digest));
    if (found === undefined) return undefined;
    const i = found % MAX_CHUNKS;
    const { table, packs } = this.#tables[(found - i) / MAX_CHUNKS] as Known;
    if (table.length(i) !== length) return undefined;
    return {
      pack: (packs[table.origin(i)] as Origin).digest,
      stored: table.stored(i),
      from: table.from(i),
      skip: table.skip(i),
      codec: table.codec(i),
    };
  }

  /** All packs that chunks may lie in. */
  get packs(): readonly Origin[] {
    return [...this.#packs.values()];
  }
}
