// Makes a damaged layer good: chunks are fetched again and written where they belong; where that is not enough the layer is pulled anew.
// Called by `varve images --repair` with what verify.ts has found.
// A chunk is written over in place, verified: whoever uses the layer reads what was there or what is right, and is never kept waiting.

import { existsSync, fsyncSync } from 'node:fs';
import { formatReference, parseReference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { NOWHERE } from '../chunk-table.js';
import { type ImageRecord, readImage, removeImage, writeImage } from '../image-record.js';
import type { LayerFolder } from '../layer-folder.js';
import type { ReadRange } from '../load/fetch.js';
import { LoadedLayer, whenFree, whileLettingGo } from '../load/layer.js';
import { joinRuns } from '../load/runs.js';
import { LocalChunks } from '../local-chunks.js';
import { removeLayer } from '../prune.js';
import { layerCheckpoints } from '../tar/checkpoint-reader.js';
import { fetchRuns, SPAN } from './fill.js';
import { type PullOptions, pullImage } from './pull.js';

export interface RepairOptions {
  readonly read: ReadRange;
  readonly store: string;
  readonly onProgress?: () => void;
}

/**
 * @param chunks damaged ones. @returns those that lie in no registry and nowhere else in the store: they are as they were.
 * @throws LoadError when a loader has the layer, RegistryError, Error when what comes is damaged as well.
 */
export async function repairChunks(
  folder: LayerFolder,
  chunks: readonly number[],
  { read, store, onProgress }: RepairOptions,
): Promise<number[]> {
  const layer = await whenFree(() => LoadedLayer.open(folder));
  const local = new LocalChunks(store);
  try {
    const { table } = layer;
    const missing: number[] = [];
    for (const i of chunks) {
      const content = local.find(table.digest(i), table.length(i));
      if (content === undefined || !(await layer.put(i, content))) missing.push(i);
    }
    const wanted = new Set(missing.filter((i) => table.origin(i) !== NOWHERE));
    const streams = layerCheckpoints(folder);
    const join = { streams, isFree: (i: number) => wanted.has(i) };
    const runs = joinRuns(table, [...wanted], SPAN, join);
    await fetchRuns(layer, runs, { read, checkpoints: streams }, () => onProgress?.());
    await layer.sync();
    fsyncSync(layer.blob);
    return missing.filter((i) => !wanted.has(i));
  } finally {
    local.close();
    layer.close();
  }
}

/**
 * Removes a layer and pulls one image that has it again, as it was.
 * @returns false, and leaves everything as it is, when the layer is in use. @throws RegistryError.
 */
export async function replaceLayer(
  registry: Registry,
  store: string,
  folder: LayerFolder,
  image: ImageRecord,
  options: PullOptions,
): Promise<boolean> {
  const ref = { ...parseReference(image.name), digest: image.digest };
  // Nothing is removed that is not to be had any more.
  await registry.manifest(ref);
  const isGone = !existsSync(folder.path) || (await whileLettingGo(() => removeLayer(folder)));
  if (isGone === undefined) return false;
  const wasKnown = readImage(store, formatReference(ref)) !== undefined;
  const pulled = await pullImage(registry, ref, store, options);
  // It keeps the name that it had, whatever the registry calls so by now.
  if (!wasKnown) removeImage(store, pulled.name);
  writeImage(store, { ...pulled, name: image.name });
  return true;
}
