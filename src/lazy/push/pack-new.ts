// The chunks that a registry lacks go into packs, each content once.
// Called by push.ts; packs are uploaded while the next one is made.
// What is read is compared with its digest: damage on this disk goes nowhere else.

import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { FileSource } from '../../linux/file-source.js';
import { keyOf } from '../chunk-table.js';
import { type PackFile, PackWriter } from './pack-writer.js';
import type { Pushed } from './pushed.js';

export interface PackNewOptions {
  /** Packs that come before the first new one. */
  readonly first: number;
  /** Of zstd. */
  readonly level: number;
  readonly packSize?: number;
  readonly finished: (pack: PackFile) => Promise<void>;
  /** Told the bytes of content of each chunk that is packed. */
  readonly packed: (bytes: number) => void;
}

/** A chunk of a layer. */
interface One {
  readonly layer: Pushed;
  readonly chunk: number;
}

/** Chunks that are packed before others get their turn. */
const AT_ONCE = 8;

/** Gives every chunk without a place its place. @throws Error for a layer that is not complete, or is damaged. */
export async function packNew(layers: readonly Pushed[], options: PackNewOptions): Promise<void> {
  const known = new Map<string, One>();
  const repeated: { readonly one: One; readonly like: One }[] = [];
  const added: One[] = [];
  const writer = new PackWriter({
    folder: dirname(layers[0]?.folder.path ?? '.'),
    level: options.level,
    packSize: options.packSize,
    placed: (key, place) => {
      const { layer, chunk } = added[key] as One;
      layer.places[chunk] = { ...place, pack: options.first + place.pack };
    },
    finished: options.finished,
  });
  const add = async (layer: Pushed, chunks: readonly number[], content: FileSource) => {
    for (const chunk of chunks) {
      const one = { layer, chunk };
      const key = keyOf(layer.table.digest(chunk));
      const like = known.get(key);
      if (like !== undefined) {
        repeated.push({ one, like });
        continue;
      }
      known.set(key, one);
      const bytes = readChunk(layer, content, chunk);
      await writer.add(added.push(one) - 1, bytes);
      options.packed(bytes.length);
      if (added.length % AT_ONCE === 0) await new Promise(setImmediate);
    }
    // What was recorded shares no unit with what was not.
    await writer.flush();
  };
  try {
    for (const layer of layers) {
      const { recorded, others } = layer.missing();
      if (recorded.length + others.length === 0) continue;
      const content = openContent(layer);
      try {
        await add(layer, recorded, content);
        await add(layer, others, content);
      } finally {
        content.close();
      }
    }
    await writer.end();
  } finally {
    writer.close();
  }
  for (const { one, like } of repeated) {
    one.layer.places[one.chunk] = like.layer.places[like.chunk];
  }
}

function openContent({ folder, localId }: Pushed): FileSource {
  if (!folder.isComplete) {
    throw new Error(
      `layer ${localId} is not complete here and the registry lacks a part of it: pull the image without --lazy first`,
    );
  }
  return FileSource.open(folder.blob);
}

function readChunk({ folder, table }: Pushed, content: FileSource, chunk: number): Uint8Array {
  const bytes = new Uint8Array(table.length(chunk));
  content.read(table.at(chunk), bytes);
  if (createHash('sha256').update(bytes).digest().equals(table.digest(chunk))) return bytes;
  throw new Error(
    `${folder.blob}: damaged at byte ${table.at(chunk)}; remove the layer and pull or build it again`,
  );
}
