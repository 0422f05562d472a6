// Which blocks of a layer's blob the files of a tar layer take, in the order of the archive, and how its image and table are made of that.
// Filled by blob-store.ts (a layer that is read whole) and toc-layer.ts (one whose table of contents says where everything is).
// Files begin at blocks of their own; equal files take them once.

import { createHash } from 'node:crypto';
import { sha256Of } from '../../bytes/digest.js';
import { buildImage } from '../../erofs/write.js';
import type { FilePlace, PlacedData } from '../../erofs/write-options.js';
import { FileSource } from '../../linux/file-source.js';
import type { TreeNode } from '../../tree/tree.js';
import { count } from '../../tree/tree.js';
import { type ChunkRecord, Codec, encodeChunkTable, NOWHERE } from '../chunk-table.js';
import { LayerFolder, type LayerRecord } from '../layer-folder.js';
import { writeDurable } from '../write-durable.js';

export const BLOCK = 4096;
/** Bytes of a chunk of a file that is read whole; as in layers of our own form. */
export const CHUNK = 128 * 1024;

/** The number of a block that is none: the others are smaller. */
export const NO_BLOCK = 0xffff_ffff;
/** log2 of the largest chunk of EROFS. */
const MOST_BITS = 43;

/** log2 of a chunk of an EROFS file that holds `size` bytes in one. @throws RangeError when there is none so large. */
export function wholeBits(size: number): number {
  if (size > 2 ** MOST_BITS) throw new RangeError(`a file of ${size} bytes`);
  let bits = 12;
  while (2 ** bits < size) bits++;
  return bits;
}

/** Files of a layer. */
export class Places {
  /** Blocks that are taken. */
  blocks = 0;
  readonly #places = new Map<unknown, FilePlace>();
  readonly #records = new Map<unknown, readonly ChunkRecord[]>();
  readonly #known = new Map<string, FilePlace>();

  /** Blocks for a file, behind the others. @returns the first. @throws RangeError where their numbers end, at 16 TiB. */
  claim(count: number): number {
    const first = this.blocks;
    if (first + count > NO_BLOCK) throw new RangeError(`content of ${first + count} blocks`);
    this.blocks += count;
    return first;
  }

  /** @param key what the file is known by. */
  has(key: unknown): FilePlace | undefined {
    return this.#places.get(key);
  }

  /** A file of `size` bytes whose content is that of one that has a place: it takes that one's. @param content its digest. */
  share(key: unknown, content: string): boolean {
    const known = this.#known.get(content);
    if (known === undefined) return false;
    this.#places.set(key, known);
    return true;
  }

  /** @param content a digest that another file may share the place by; undefined: none. */
  take(
    key: unknown,
    place: FilePlace,
    records: readonly ChunkRecord[],
    content: string | undefined,
  ): void {
    this.#places.set(key, place);
    this.#records.set(place, records);
    if (content !== undefined) this.#known.set(content, place);
  }

  /** Chunks of the files that `nodes` of the tree still are: a later member of an archive may have replaced one. */
  records(keys: Iterable<unknown>): ChunkRecord[] {
    const used = new Set<FilePlace>();
    for (const key of keys) {
      const place = this.#places.get(key);
      if (place !== undefined) used.add(place);
    }
    return [...used].flatMap((place) => this.#records.get(place) ?? []).sort((a, b) => a.at - b.at);
  }
}

export interface LayerParts {
  readonly tree: TreeNode;
  readonly places: Places;
  /** What a regular file is known by in `places`. */
  readonly keyOf: (node: TreeNode) => unknown;
  /** Its stream can only be had as a whole: no chunk can be fetched again. */
  readonly isWhole?: boolean;
  readonly record: Omit<LayerRecord, 'version' | 'inodes' | 'bytes'>;
}

/** Writes meta.erofs, the table and the record of a layer into its staged folder. @returns the records of the table. */
export async function writeLayer(path: string, parts: LayerParts): Promise<ChunkRecord[]> {
  const { tree, places, keyOf, record } = parts;
  const folder = new LayerFolder(path);
  const placed: PlacedData = { blocks: places.blocks, at: (node) => places.has(keyOf(node)) };
  const uuid = createHash('sha256').update(record.id).digest().subarray(0, 16);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  const { inodes } = await buildImage(tree, { placed, uuid }, folder.meta);
  const keys = new Set<unknown>();
  eachNode(tree, (node) => keys.add(keyOf(node)));
  const found = places.records(keys);
  const records = parts.isWhole === true ? found.map(nowhere) : found;
  const meta = FileSource.open(folder.meta);
  try {
    const digest = sha256Of(meta, meta.size);
    const size = places.blocks * BLOCK;
    writeDurable(folder.table, encodeChunkTable(records, size, record.origins.length, digest));
  } finally {
    meta.close();
  }
  const whole: LayerRecord = { version: 1, ...record, inodes, bytes: count(tree).bytes };
  writeDurable(folder.record, `${JSON.stringify(whole)}\n`);
  return records;
}

/** For a stream that can only be had as a whole: its chunks lie nowhere else once they are here. */
function nowhere(record: ChunkRecord): ChunkRecord {
  return { ...record, stored: 0, from: 0, origin: NOWHERE, codec: Codec.RAW };
}

function eachNode(root: TreeNode, visit: (node: TreeNode) => void): void {
  const pending = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    visit(node);
    if (node.entries !== undefined) pending.push(...node.entries.values());
  }
}
