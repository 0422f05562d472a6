// All content of a layer comes at once, without a loader: what a pull that is not lazy does after the metadata.
// Called by pull.ts; what came before this was killed stays, by the layer's residency map.
// The parts are those of the loader (load/): requests, verification before anything is visible, and what complete means.

import type { LayerFolder } from '../layer-folder.js';
import { contents, type FetchFrom, fetchRun, type ReadRange } from '../load/fetch.js';
import { LayerBusyError, LoadedLayer, whenFree } from '../load/layer.js';
import { joinRuns, type Run, type Streams } from '../load/runs.js';
import type { LocalChunks } from '../local-chunks.js';
import { mapSome } from '../map-some.js';

/** Who waits for a layer to be filled. */
export interface Filling {
  readonly signal?: AbortSignal;
  /** Told bytes of content that are here, and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface FillOptions extends Filling {
  readonly read: ReadRange;
  /** Of a gzip layer. */
  readonly checkpoints?: Streams;
  /** What other layers of the store have is taken from there. */
  readonly local?: LocalChunks;
  /** Has whoever loads the layer load all of it. @returns false when that cannot be: it is waited for a moment. */
  readonly byOther?: () => Promise<boolean>;
}

/** Requests at a time; bytes of a request; bytes after which what came is put on disk. */
const CONNECTIONS = 4;
export const SPAN = 4 << 20;
const SYNC_EVERY = 64 << 20;

/**
 * @throws LoadError when another process loads the layer, RegistryError, Error when content is not what it must be.
 */
export async function fillLayer(folder: LayerFolder, options: FillOptions): Promise<void> {
  if (folder.isComplete) return;
  const layer = await whenFree(() => openUnlessLoaded(folder, options));
  if (layer === false) return;
  try {
    const tell = () => options.onProgress?.(layer.residentBytes, layer.totalBytes);
    tell();
    await takeLocal(layer, options);
    const missing: number[] = [];
    for (let i = layer.map.nextAbsent(0); i < layer.table.count; i = layer.map.nextAbsent(i + 1)) {
      missing.push(i);
    }
    const join = { streams: options.checkpoints, isFree: (i: number) => !layer.map.isHere(i) };
    await fetchRuns(layer, joinRuns(layer.table, missing, SPAN, join), options, tell);
    if (!(await layer.complete())) throw new Error(`${folder.path}: is still not complete`);
  } finally {
    layer.close();
  }
}

/** @returns false when another process has loaded all of it. @throws LoadError. */
async function openUnlessLoaded(
  folder: LayerFolder,
  { byOther }: FillOptions,
): Promise<LoadedLayer | false> {
  try {
    return LoadedLayer.open(folder);
  } catch (error) {
    if (error instanceof LayerBusyError && (await byOther?.()) === true) return false;
    throw error;
  }
}

async function takeLocal(layer: LoadedLayer, { local }: FillOptions): Promise<void> {
  if (local === undefined) return;
  for (let i = layer.map.nextAbsent(0); i < layer.table.count; i = layer.map.nextAbsent(i + 1)) {
    const content = local.find(layer.table.digest(i), layer.table.length(i));
    if (content !== undefined) await layer.put(i, content);
  }
}

/** Content of these runs, each chunk verified and written; what is here already is written over. */
export async function fetchRuns(
  layer: LoadedLayer,
  runs: readonly Run[],
  options: FillOptions,
  tell: () => void,
): Promise<void> {
  const from: FetchFrom = {
    table: layer.table,
    origins: layer.record.origins,
    sources: layer.record.sources,
    checkpoints: options.checkpoints,
  };
  const stop = new AbortController();
  const signal =
    options.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, options.signal]);
  await mapSome(runs, CONNECTIONS, async (run) => {
    try {
      await takeRun(layer, from, run, options.read, signal);
      if (layer.unsyncedBytes > SYNC_EVERY) await layer.sync();
    } catch (error) {
      // The others give up, too.
      stop.abort();
      throw error;
    }
    tell();
  });
}

/** Each source is asked until one has the right content, at each place where the layer has known it to lie. */
async function takeRun(
  layer: LoadedLayer,
  from: FetchFrom,
  run: Run,
  read: ReadRange,
  signal: AbortSignal,
): Promise<void> {
  const missing = new Set(run.chunks);
  let failure: unknown;
  for (const table of layer.places) {
    const isFirst = table === layer.table;
    const runs = isFirst ? [run] : joinRuns(table, [...missing], SPAN);
    try {
      const there = { ...from, table };
      for (const part of runs) await takeFrom(layer, there, part, read, signal, missing);
    } catch (error) {
      if (signal.aborted) throw error;
      if (isFirst) failure = error;
    }
    if (missing.size === 0) return;
  }
  if (failure !== undefined) throw failure;
  const { digest } = layer.record.origins[run.origin] ?? { digest: '' };
  throw new Error(
    `blob ${digest}: ${missing.size} chunks of it are not what the image says; nothing of them was kept`,
  );
}

/** @param missing loses what came and is right. */
async function takeFrom(
  layer: LoadedLayer,
  from: FetchFrom,
  run: Run,
  read: ReadRange,
  signal: AbortSignal,
  missing: Set<number>,
): Promise<void> {
  for (let first = 0; first < Math.max(2, from.sources.length); first++) {
    if (!run.chunks.some((i) => missing.has(i))) return;
    const fetched = await fetchRun(from, run, read, first % from.sources.length, signal);
    for (const unit of contents(from, run, fetched)) {
      for (const [i, content] of unit) {
        if (content !== undefined && (await layer.put(i, content))) missing.delete(i);
      }
    }
  }
}
