// A layer of an existing image becomes a lazy layer: tar as it is, in gzip or zstd, eStargz, zstd:chunked.
// Called by pull/ for each layer of an image that is not in our own form. The layer's id is the digest of its blob.
// Whatever is not known to be right by a digest of the manifest is not taken: a layer whose form does not allow it is read whole.

import { closeSync, existsSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { syncPath } from '../../linux/sync-path.js';
import { RegistryError } from '../../oci/errors.js';
import { TreeError } from '../../tree/errors.js';
import { LayerFolder } from '../layer-folder.js';
import { writePrograms } from '../programs.js';
import { addSource } from '../renew-layer.js';
import { discardStaged, publishLayer, stageLayer } from '../staging.js';
import { wrong } from '../untrusted.js';
import { buildApart } from './build-apart.js';
import { takeIndex } from './layer-index.js';
import type { TarLayerOptions } from './options.js';
import { TocError } from './toc.js';
import { takeToc } from './toc-layer.js';

/**
 * @returns the layer's id; the layer is in the store: complete, or with its metadata alone.
 * @throws RegistryError, `wrong` for a layer that is no archive or not the one that the image says.
 */
export async function pullTarLayer(options: TarLayerOptions): Promise<string> {
  const { descriptor, store, lazy } = options;
  refuseForeign(options);
  const folder = LayerFolder.of(store, descriptor.digest);
  if (folder.exists) requireTrusted(options, folder);
  if (folder.exists && (lazy || folder.isComplete)) {
    addSource(folder, options.source);
    return descriptor.digest;
  }
  // A layer that is here without its content is filled by whoever asked for all of it (pull/fill.ts).
  if (folder.exists) return descriptor.digest;
  const staged = stageLayer(store);
  try {
    const isTaken =
      lazy && ((await fromToc(options, staged)) || (await fromIndex(options, staged)));
    if (!isTaken) await whole(options, staged);
    syncPath(staged);
    syncPath(join(publishLayer(store, staged, descriptor.digest).path, '..'));
    return descriptor.digest;
  } catch (error) {
    discardStaged(staged);
    throw error;
  }
}

/** Layers that lie on some web server are not asked for there. */
function refuseForeign({ ref, descriptor }: TarLayerOptions): void {
  const { mediaType, urls } = descriptor;
  if (!/foreign|nondistributable/.test(mediaType) && (urls?.length ?? 0) === 0) return;
  throw new RegistryError(
    'refused',
    `layer ${descriptor.digest} of ${ref.registry}/${ref.repository}: lies outside of the registry, from where nothing is taken`,
  );
}

/** Whoever trusts no index does not get what another pull has made by one. */
function requireTrusted(
  { ref, descriptor, trustsIndex }: TarLayerOptions,
  folder: LayerFolder,
): void {
  if (trustsIndex === true || folder.read().byIndex !== true) return;
  throw new RegistryError(
    'policy',
    `layer ${descriptor.digest} of ${ref.registry}/${ref.repository}: the image store has it by an index, which this pull does not trust: remove the image that brought it (varve images --rm), or take another --store or --trust-index`,
  );
}

/** By the layer's own table of contents. @returns false when it has none that can be used. */
async function fromToc(options: TarLayerOptions, staged: string): Promise<boolean> {
  try {
    if (!(await takeToc(options, staged))) return false;
    const folder = new LayerFolder(staged);
    writePrograms(folder, statSync(folder.blob).size);
    return true;
  } catch (error) {
    // The manifest vouches for it, but it says what is not understood: all of the layer says the same.
    if (error instanceof TocError || error instanceof TreeError || error instanceof RangeError) {
      sweep(staged);
      return false;
    }
    throw error;
  }
}

async function fromIndex(options: TarLayerOptions, staged: string): Promise<boolean> {
  if (options.index === undefined) return false;
  await takeIndex(options, options.index, staged);
  return true;
}

/** Forgets what was begun. */
function sweep(staged: string): void {
  const folder = new LayerFolder(staged);
  const { meta, table, record, order, blob, programs } = folder;
  for (const path of [meta, table, record, order, blob, programs]) {
    rmSync(path, { force: true });
  }
}

async function whole(options: TarLayerOptions, staged: string): Promise<void> {
  const path = join(staged, 'compressed');
  await download(options, path);
  try {
    const { descriptor, diffId, source, store, below, signal } = options;
    await buildApart({ descriptor, diffId, source, store, below }, staged, path, signal);
  } catch (error) {
    // The archive, or what cannot be stored of it.
    if (error instanceof TreeError || error instanceof RangeError) {
      throw wrong(options.ref, options.descriptor, error.message);
    }
    throw error;
  }
  if (existsSync(path)) rmSync(path);
}

/** The blob as it is, its digest verified. */
async function download(options: TarLayerOptions, path: string): Promise<void> {
  const { registry, ref, descriptor, signal, onProgress } = options;
  const fd = openSync(path, 'wx', 0o600);
  try {
    let done = 0;
    for await (const piece of await registry.blob(ref, descriptor, signal)) {
      for (let k = 0; k < piece.length; ) k += writeSync(fd, piece, k);
      done += piece.length;
      onProgress?.(done, descriptor.size);
    }
  } finally {
    closeSync(fd);
  }
}
