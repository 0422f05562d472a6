// A layer of our own form comes from a registry: table and metadata, checked, in a folder of the image store. No content.
// Called by pull.ts for each layer of an image; the loader (load/) or fill.ts fetches what the table says.
// Killed at any point it leaves a folder that nobody looks at (prune.ts), or a layer.

import { closeSync, fsyncSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { ErofsError } from '../../erofs/errors.js';
import { FileSource } from '../../linux/file-source.js';
import { syncPath } from '../../linux/sync-path.js';
import type { Descriptor } from '../../oci/manifest.js';
import type { Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { ChunkTable, ChunkTableError } from '../chunk-table.js';
import { type ImageRuns, LayerImageError } from '../image-runs.js';
import {
  LayerFolder,
  type LayerRecord,
  publishLayer,
  type Source,
  stageLayer,
} from '../layer-folder.js';
import type { OwnLayer } from '../own-manifest.js';
import { renewLayer } from '../renew-layer.js';
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
  readonly id: string | undefined;
  readonly store: string;
  readonly source: Source;
}

/**
 * @returns the layer's id; the layer is in the store, and knows this registry.
 * @throws RegistryError `wrong` or `limit` when it is not what it must be, or what the registry fails with.
 */
export async function pullOwnLayer(options: OwnLayerOptions): Promise<string> {
  const { registry, ref, layer, packs, store, source } = options;
  const bytes = await fetchFrame(registry, ref, layer.chunks, LIMITS.chunks);
  try {
    const table = new ChunkTable(bytes);
    checkTable(table, packs);
    const id = table.layerId();
    if (options.id !== undefined && options.id !== id) {
      throw new LayerCheckError(`it is layer ${id}, the configuration says ${options.id}`);
    }
    const known = LayerFolder.of(store, id);
    if (known.exists) renewLayer(known, bytes, packs, source);
    else await fetchLayer(options, table, bytes);
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
  { registry, ref, layer, packs, store, source }: OwnLayerOptions,
  table: ChunkTable,
  bytes: Uint8Array,
): Promise<void> {
  const staged = stageLayer(store);
  try {
    const folder = new LayerFolder(staged);
    const digest = await fetchFrameTo(registry, ref, layer.meta, LIMITS.meta, folder.meta);
    if (!Buffer.from(digest).equals(table.metaDigest)) {
      throw new LayerCheckError('the chunk table is that of another metadata image');
    }
    const { inodes, bytes: size } = checkFile(folder.meta, table);
    const record: LayerRecord = {
      version: 1,
      id: table.layerId(),
      origins: packs.map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
      sources: [source],
      form: 'varve',
      inodes,
      bytes: size,
    };
    if (layer.order !== undefined) {
      const order = await fetchWhole(registry, ref, layer.order, LIMITS.order);
      checkOrder(order, table);
      writeDurable(folder.order, order);
    }
    makeHole(folder.blob, table.blobSize);
    writeDurable(folder.table, bytes);
    writeDurable(folder.record, `${JSON.stringify(record)}\n`);
    syncPath(staged);
    const { path } = publishLayer(store, staged, record.id);
    syncPath(`${path}/..`);
  } catch (error) {
    rmSync(staged, { recursive: true, force: true });
    throw error;
  }
}

function checkFile(path: string, table: ChunkTable): ImageRuns {
  const meta = FileSource.open(path);
  try {
    return checkMeta(meta, table);
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
