// A layer of our own form comes from a registry: table and metadata, checked, in a folder of the image store. No content.
// Called by pull.ts for each layer of an image; the loader (load/) or fill.ts fetches what the table says.
// Killed at any point it leaves a folder that nobody looks at (prune.ts), or a layer.

import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { ErofsError } from '../../erofs/errors.js';
import { FileSource } from '../../linux/file-source.js';
import { syncPath } from '../../linux/sync-path.js';
import type { Descriptor } from '../../oci/manifest.js';
import type { Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { ChunkTable, ChunkTableError } from '../chunk-table.js';
import type { LayerHolds } from '../hold-layer.js';
import { type ImageRuns, LayerImageError } from '../image-runs.js';
import { LayerFolder, type LayerRecord, type Source } from '../layer-folder.js';
import type { OwnLayer } from '../own-manifest.js';
import { ProgramCollector } from '../programs.js';
import { renewLayer } from '../renew-layer.js';
import { discardStaged, publishLayer, stageLayer } from '../staging.js';
import { fetchFrame, fetchFrameTo, fetchWhole, LIMITS, wrong } from '../untrusted.js';
import { writeDurable } from '../write-durable.js';
import { checkMeta, checkTable, LayerCheckError } from './check-layer.js';

export interface OwnLayerOptions {
  readonly registry: Registry;
  readonly ref: Reference;
  readonly layer: OwnLayer;
  /** By number of the origin. */
  readonly packs: readonly Descriptor[];
  /** What the configuration says the layer's id is; undefined: it says nothing. */
  readonly id: Promise<string | undefined>;
  readonly store: string;
  readonly source: Source;
  /** Has the layer when this is done. */
  readonly holds: LayerHolds;
  /** The folder has all that a loader needs: content may come while metadata does. */
  readonly onStaged?: (folder: string) => void;
}

/**
 * @returns the layer's id; the layer is in the store, and knows this registry.
 * @throws RegistryError `wrong` or `limit` when it is not what it must be, or what the registry fails with.
 */
export async function pullOwnLayer(options: OwnLayerOptions): Promise<string> {
  const { registry, ref, layer, packs, store, source, holds } = options;
  const [bytes, order, expected] = await Promise.all([
    fetchFrame(registry, ref, layer.chunks, LIMITS.chunks),
    layer.order && fetchWhole(registry, ref, layer.order, LIMITS.order),
    options.id,
  ]);
  try {
    const table = new ChunkTable(bytes);
    checkTable(table, packs);
    if (order !== undefined) checkOrder(order, table);
    const id = table.layerId();
    if (expected !== undefined && expected !== id) {
      throw new LayerCheckError(`it is layer ${id}, the configuration says ${expected}`);
    }
    if (await holds.hold(id)) {
      const known = LayerFolder.of(store, id);
      renewLayer(known, bytes, packs, source);
      // What others recorded is better than nothing.
      if (order !== undefined && !existsSync(known.order)) writeDurable(known.order, order);
    } else {
      // Somebody may remove it as soon as it has its name.
      do await fetchLayer(options, table, bytes, order);
      while (!(await holds.hold(id)));
    }
    return id;
  } catch (error) {
    const isTheirs =
      error instanceof ChunkTableError ||
      error instanceof LayerCheckError ||
      error instanceof LayerImageError ||
      error instanceof ErofsError;
    throw isTheirs ? wrong(ref, layer.chunks, error.message) : error;
  }
}

async function fetchLayer(
  { registry, ref, layer, packs, store, source, onStaged }: OwnLayerOptions,
  table: ChunkTable,
  bytes: Uint8Array,
  order: Uint8Array | undefined,
): Promise<void> {
  const staged = stageLayer(store);
  try {
    const folder = new LayerFolder(staged);
    const record = (found: ImageRuns): LayerRecord => ({
      version: 1,
      id: table.layerId(),
      origins: packs.map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
      sources: [source],
      form: 'varve',
      ...found,
    });
    const write = (found: ImageRuns): void =>
      writeDurable(folder.record, `${JSON.stringify(record(found))}\n`);
    makeHole(folder.blob, table.blobSize);
    writeDurable(folder.table, bytes);
    if (order !== undefined) writeDurable(folder.order, order);
    // As much as a loader needs.
    write({ inodes: 0, bytes: 0 });
    onStaged?.(staged);
    const digest = await fetchFrameTo(registry, ref, layer.meta, LIMITS.meta, folder.meta);
    if (!Buffer.from(digest).equals(table.metaDigest)) {
      throw new LayerCheckError('the chunk table is that of another metadata image');
    }
    write(checkFile(folder, table));
    syncPath(staged);
    const { path } = publishLayer(store, staged, table.layerId());
    syncPath(dirname(path));
  } catch (error) {
    discardStaged(staged);
    throw error;
  }
}

function checkFile(folder: LayerFolder, table: ChunkTable): ImageRuns {
  const meta = FileSource.open(folder.meta);
  try {
    const programs = new ProgramCollector();
    const found = checkMeta(meta, table, programs);
    programs.write(folder);
    return found;
  } finally {
    meta.close();
  }
}

function checkOrder(order: Uint8Array, table: ChunkTable): void {
  if (order.length % 4 !== 0) throw new LayerCheckError('the order of first use is cut off');
  const view = new DataView(order.buffer, order.byteOffset, order.length);
  for (let at = 0; at < order.length; at += 4) {
    const chunk = view.getUint32(at, true);
    if (chunk >= table.count) throw new LayerCheckError(`the order names chunk ${chunk}`);
  }
}

/** A blob without content. */
function makeHole(path: string, size: number): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    ftruncateSync(fd, size);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
