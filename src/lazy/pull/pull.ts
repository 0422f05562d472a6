// An image comes from a registry into the image store: its layers, lazily where their form allows it, then its record.
// Called by every command that takes a reference. Which form a layer has is told by media types.
// The record is written last: an image that the store has is an image whose layers it has.

import { RegistryError } from '../../oci/errors.js';
import { type Descriptor, hostPlatform, type Platform } from '../../oci/manifest.js';
import { formatReference, type Reference, withDigest } from '../../oci/reference.js';
import type { FetchedImage, Registry } from '../../oci/registry.js';
import { type ImageRecord, writeImage } from '../image-record.js';
import { LayerFolder, type Source } from '../layer-folder.js';
import { registryRanges } from '../load/registry-ranges.js';
import { LocalChunks } from '../local-chunks.js';
import { decodeConfig, type ImageConfig, platformText } from '../oci-config.js';
import { isOwnManifest, readOwnManifest } from '../own-manifest.js';
import { isSameSource } from '../renew-layer.js';
import { layerCheckpoints } from '../tar/checkpoint-reader.js';
import { pullTarLayer } from '../tar/index.js';
import { findIndex } from '../tar/layer-index.js';
import { fetchWhole, LIMITS, wrong } from '../untrusted.js';
import { fillLayer } from './fill.js';
import { pullOwnLayer } from './own-layer.js';

/** How far a pull is. */
export interface PullProgress {
  /** `layer 2 of 5` */
  readonly what: string;
  /** Bytes done, and in all where that is known. */
  readonly done: number;
  readonly total?: number;
}

export interface PullOptions {
  /** Metadata is enough where the form of a layer allows it; else all content is fetched. */
  readonly lazy: boolean;
  /** An index that lies beside a tar image is believed: the image's digest does not cover it. */
  readonly trustIndex?: boolean;
  /** `os/architecture[/variant]`; this machine's. */
  readonly platform?: string;
  /** The registry is asked without TLS: said to whoever loads content later. */
  readonly plainHttp?: boolean;
  readonly onProgress?: (progress: PullProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * @param ref by tag or digest. @returns the record, which the store has now.
 * @throws RegistryError; LoadError when another process loads a layer that is to be complete.
 */
export async function pullImage(
  registry: Registry,
  ref: Reference,
  store: string,
  options: PullOptions,
): Promise<ImageRecord> {
  const image = await registry.image(ref, platformOf(options.platform));
  const { manifest, descriptor } = image;
  const pinned = withDigest(ref, descriptor.digest);
  const config = await fetchConfig(registry, pinned, manifest.config);
  const source: Source = {
    registry: ref.registry,
    repository: ref.repository,
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
  };
  const pull = { registry, ref: pinned, store, source, options };
  const layers = isOwnManifest(manifest)
    ? await ownLayers(pull, image, config)
    : await tarLayers(pull, image, config);
  const record: ImageRecord = {
    version: 1,
    name: formatReference(ref),
    digest: descriptor.digest,
    platform: platformText(config.platform ?? hostPlatform()),
    config: config.run,
    layers,
  };
  writeImage(store, record);
  return record;
}

/** What all layers of a pull share. */
interface Pull {
  readonly registry: Registry;
  /** By digest: what was decided on is what is taken. */
  readonly ref: Reference;
  readonly store: string;
  readonly source: Source;
  readonly options: PullOptions;
}

async function ownLayers(
  pull: Pull,
  { manifest }: FetchedImage,
  config: ImageConfig,
): Promise<string[]> {
  const { registry, ref, store, source, options } = pull;
  const { layers, packs } = readOwnManifest(manifest, formatReference(ref));
  const { diffIds } = config;
  if (diffIds.length !== layers.length) {
    const what = `the configuration names ${diffIds.length} layers, there are ${layers.length}`;
    throw wrong(ref, manifest.config, what);
  }
  const ids: string[] = [];
  for (const [k, layer] of layers.entries()) {
    const what = `layer ${k + 1} of ${layers.length}`;
    options.onProgress?.({ what, done: 0 });
    const id = await pullOwnLayer({ registry, ref, layer, packs, id: diffIds[k], store, source });
    if (!options.lazy) await fill(pull, id, what);
    ids.push(id);
  }
  return ids;
}

/** All content of a layer. */
async function fill(
  { registry, source, store, options }: Pull,
  id: string,
  what: string,
): Promise<void> {
  const local = new LocalChunks(store);
  const elsewhere = registryRanges({});
  try {
    await fillLayer(LayerFolder.of(store, id), {
      read: (from, origin, at, length, signal) =>
        isSameSource(from, source)
          ? registry.range(from, origin, at, length, signal)
          : elsewhere.read(from, origin, at, length, signal),
      local,
      checkpoints: layerCheckpoints(LayerFolder.of(store, id)),
      signal: options.signal,
      onProgress: (done, total) => options.onProgress?.({ what, done, total }),
    });
  } finally {
    local.close();
  }
}

async function fetchConfig(
  registry: Registry,
  ref: Reference,
  descriptor: Descriptor,
): Promise<ImageConfig> {
  const bytes = await fetchWhole(registry, ref, descriptor, LIMITS.config);
  try {
    return decodeConfig(bytes);
  } catch (error) {
    throw wrong(ref, descriptor, `the configuration: ${(error as Error).message}`);
  }
}

function platformOf(text: string | undefined): Platform {
  if (text === undefined) return hostPlatform();
  const [os, architecture, variant, more] = text.split('/');
  if (!os || !architecture || variant === '' || more !== undefined) {
    throw new RegistryError('refused', `platform ${text}: write os/architecture, as linux/amd64`);
  }
  return { os, architecture, ...(variant !== undefined ? { variant } : {}) };
}

async function tarLayers(
  pull: Pull,
  { manifest, descriptor, signed }: FetchedImage,
  { diffIds }: ImageConfig,
): Promise<string[]> {
  const { registry, ref, store, source, options } = pull;
  if (diffIds.length !== manifest.layers.length) {
    const what = `the configuration names ${diffIds.length} layers, there are ${manifest.layers.length}`;
    throw wrong(ref, manifest.config, what);
  }
  // Where policy.json demands a signature, nothing counts that the signed manifest does not name.
  const trustsIndex = options.trustIndex === true && !signed;
  const indexes =
    options.lazy && trustsIndex ? await findIndex(registry, ref, descriptor.digest) : undefined;
  const ids: string[] = [];
  for (const [k, layer] of manifest.layers.entries()) {
    const what = `layer ${k + 1} of ${manifest.layers.length}`;
    const id = await pullTarLayer({
      registry,
      ref,
      descriptor: layer,
      diffId: diffIds[k],
      store,
      source,
      lazy: options.lazy,
      index: indexes?.get(layer.digest),
      trustsIndex,
      signal: options.signal,
      onProgress: (done, total) => options.onProgress?.({ what, done, total }),
    });
    if (!options.lazy) await fill(pull, id, what);
    ids.push(id);
  }
  return ids;
}
