// Content that this machine has already: chunks of the layers of an image store, by digest.
// Used by pull/ and by the loader before they ask a registry. What is found is not verified: whoever takes it in does that.
// The index is made when it is first asked for, of the chunks that are here then.

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { ChunkTable, keyOf } from './chunk-table.js';
import { LayerFolder, STAGING } from './layer-folder.js';
import { ResidencyMap } from './residency.js';

/** Chunks that are indexed, about: beyond it, looking is not worth its memory. */
const MOST_CHUNKS = 4_000_000;

interface Layer {
  readonly table: ChunkTable;
  /** Its blob is opened for each read: as long as somebody has it open, a mount of the kernel counts as in use. */
  readonly folder: LayerFolder;
}

export class LocalChunks {
  readonly #store: string;
  #layers: Layer[] | undefined;
  /** keyOf(digest) -> layer and chunk. */
  readonly #places = new Map<string, readonly [Layer, number]>();

  constructor(store: string) {
    this.#store = store;
  }

  /** @returns content of this length, not verified; undefined when none was here. */
  find(digest: Uint8Array, length: number): Uint8Array | undefined {
    this.#layers ??= this.#index();
    const found = this.#places.get(keyOf(digest));
    if (found === undefined) return undefined;
    const [layer, i] = found;
    const { table } = layer;
    // What was taken back since, in a layer that the kernel has now, would be waited for by the one who is to fetch it.
    if (table.length(i) !== length || !isHereNow(layer, i)) return undefined;
    const content = new Uint8Array(length);
    const blob = openSync(layer.folder.blob, 'r');
    try {
      for (let done = 0; done < length; ) {
        const n = readSync(blob, content, done, length - done, table.at(i) + done);
        if (n === 0) return undefined;
        done += n;
      }
    } finally {
      closeSync(blob);
    }
    return content;
  }

  /** Forgets the index; the next find() makes another. */
  close(): void {
    this.#layers = undefined;
    this.#places.clear();
  }

  #index(): Layer[] {
    const layers: Layer[] = [];
    for (const folder of layersOf(this.#store)) {
      if (this.#places.size > MOST_CHUNKS) break;
      try {
        const layer = this.#add(folder);
        if (layer !== undefined) layers.push(layer);
      } catch {
        // A layer that is damaged or goes away has nothing for others.
      }
    }
    return layers;
  }

  #add(folder: LayerFolder): Layer | undefined {
    const table = new ChunkTable(readFileSync(folder.table));
    const map = folder.isComplete ? undefined : openMap(folder, table.count);
    if (map === undefined && !folder.isComplete) return undefined;
    const layer = { table, folder };
    try {
      for (let i = 0; i < table.count; i++) {
        if (map?.isHere(i) === false) continue;
        this.#places.set(keyOf(table.digest(i)), [layer, i]);
      }
    } finally {
      map?.close();
    }
    return layer;
  }
}

/** The layers of an image store. */
export function layersOf(store: string): LayerFolder[] {
  let names: string[];
  try {
    names = readdirSync(join(store, 'layers'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .filter((name) => !name.startsWith(STAGING))
    .map((name) => new LayerFolder(join(store, 'layers', name)))
    .filter(({ exists }) => exists);
}

function isHereNow({ folder, table }: Layer, i: number): boolean {
  if (folder.isComplete) return true;
  const map = openMap(folder, table.count);
  try {
    return map?.isHere(i) === true;
  } finally {
    map?.close();
  }
}

function openMap(folder: LayerFolder, count: number): ResidencyMap | undefined {
  try {
    return ResidencyMap.open(folder.map, count, false);
  } catch {
    // Nobody has loaded anything of it yet.
    return undefined;
  }
}
