// A layer on its way to a registry: its table, and where each chunk will lie.
// Filled by push.ts (chunks that the registry has) and pack-new.ts (those that it lacks).

import { readFileSync } from 'node:fs';
import { readIfThere } from '../../linux/read-if-there.js';
import { type ChunkRecord, ChunkTable, encodeChunkTable } from '../chunk-table.js';
import type { LayerFolder } from '../layer-folder.js';

/** Where a chunk will lie. */
export interface Placed {
  /** Number of the pack in the manifest. */
  readonly pack: number;
  readonly stored: number;
  readonly from: number;
  readonly skip: number;
  readonly codec: number;
}

export class Pushed {
  readonly folder: LayerFolder;
  /** What it is called on this machine: a tar layer by its blob, one of our own form as everywhere. */
  readonly localId: string;
  readonly isOwnForm: boolean;
  /** What it is called in the registry. */
  readonly id: string;
  readonly table: ChunkTable;
  /** By number of the chunk. */
  readonly places: (Placed | undefined)[];

  constructor(folder: LayerFolder) {
    this.folder = folder;
    this.table = new ChunkTable(readFileSync(folder.table));
    this.id = this.table.layerId();
    const { id, form } = folder.read();
    this.localId = id;
    this.isOwnForm = form === 'varve';
    this.places = new Array<Placed | undefined>(this.table.count).fill(undefined);
  }

  /** Chunks without a place: those that were recorded as used first, in that order, and the others in the order of the blob. */
  missing(): { readonly recorded: readonly number[]; readonly others: readonly number[] } {
    const isMissing = (i: number): boolean => this.places[i] === undefined;
    const recorded = new Set(this.order().filter(isMissing));
    const others: number[] = [];
    for (let i = 0; i < this.places.length; i++) {
      if (isMissing(i) && !recorded.has(i)) others.push(i);
    }
    return { recorded: [...recorded], others };
  }

  /** The recorded order of first use; empty when there is none. */
  order(): number[] {
    const bytes = readIfThere(this.folder.order);
    if (bytes === undefined) return [];
    const chunks: number[] = [];
    for (let at = 0; at + 4 <= bytes.length; at += 4) {
      const i = bytes.readUInt32LE(at);
      if (i < this.table.count) chunks.push(i);
    }
    return chunks;
  }

  /** The table with where everything lies. */
  encode(packs: number): Uint8Array {
    const { table } = this;
    const records: ChunkRecord[] = [];
    for (let i = 0; i < table.count; i++) {
      const { pack, stored, from, skip, codec } = this.places[i] as Placed;
      const [at, length, digest] = [table.at(i), table.length(i), table.digest(i)];
      records.push({ at, length, stored, from, skip, origin: pack, codec, digest });
    }
    return encodeChunkTable(records, table.blobSize, packs, table.metaDigest);
  }
}
