// An image comes from a registry into the image store: its layers, lazily where their form allows it, then its record.
// Called by every command that takes a reference. Which form a layer has is told by media types.
// The record is written last: an image that the store has is an image whose layers it has.

import { RegistryError } from '../../oci/errors.js';
import { type Descriptor, hostPlatform, type Platform } from '../../oci/manifest.js';
import { formatReference, type Reference, withDigest } from '../../oci/reference.js';
import type { FetchedImage, Registry } from '../../oci/registry.js';
import { LayerHolds } from '../hold-layer.js';
import { type ImageRecord, writeImage } from '../image-record.js';
import { LayerFolder, type Source } from '../layer-folder.js';
import { registryRanges } from '../load/registry-ranges.js';
import { LocalChunks } from '../local-chunks.js';
import { mapSome } from '../map-some.js';
import { decodeConfig, type ImageConfig, platformText } from '../oci-config.js';
import { isOwnManifest, readOwnManifest } from '../own-manifest.js';
import { isSameSource } from '../renew-layer.js';
import { layerCheckpoints } from '../tar/checkpoint-reader.js';
import { pullTarLayer } from '../tar/index.js';
import { findIndex } from '../tar/layer-index.js';
import { fetchWhole, LIMITS, wrong } from '../untrusted.js';
import { type Filling, fillLayer } from './fill.js';
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
  /**
   * A folder of the store is about to become a layer of the image, and has all that a loader needs to fetch content. It is
   * renamed when its metadata was checked, or removed.
   */
  readonly onStaged?: (folder: string) => void;
  readonly signal?: AbortSignal;
  /** Has the loader of a mount, which has this layer, load all of it. @returns false when none has it. */
  readonly fillLoaded?: (folder: LayerFolder, how: Filling) => Promise<boolean>;
}

/**
 * @param ref by tag or digest. @returns the record, which the store has now.
 * @throws RegistryError; LoadError when another process loads a layer that is to be complete, and cannot be asked to load all of it.
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
  const source: Source = {
    registry: ref.registry,
    repository: ref.repository,
    ...(options.plainHttp === true ? { plainHttp: true } : {}),
  };
  // From each layer's own moment until the image names them all.
  const holds = new LayerHolds(store);
  try {
    const pull = { registry, ref: pinned, store, source, options, holds };
    const { config, layers } = isOwnManifest(manifest)
      ? await ownLayers(pull, image)
      : await tarLayers(pull, image);
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
  } finally {
    holds.release();
  }
}

/** Layers whose metadata is fetched at a time. */
const AT_ONCE = 4;

/** What all layers of a pull share. */
interface Pull {
  readonly registry: Registry;
  /** By digest: what was decided on is what is taken. */
  readonly ref: Reference;
  readonly store: string;
  readonly source: Source;
  readonly options: PullOptions;
  readonly holds: LayerHolds;
}

/** The configuration, and the ids of the layers. */
interface PulledLayers {
  readonly config: ImageConfig;
  readonly layers: string[];
}

/** Metadata of all layers at once, few at a time: a request costs a round trip, and there are three of them a layer. */
async function ownLayers(pull: Pull, { manifest }: FetchedImage): Promise<PulledLayers> {
  const { registry, ref, store, source, options, holds } = pull;
  const { layers, packs } = readOwnManifest(manifest, formatReference(ref));
  const diffIds = fetchConfig(registry, ref, manifest.config).then((config) => {
    if (config.diffIds.length === layers.length) return config;
    const what = `the configuration names ${config.diffIds.length} layers, there are ${layers.length}`;
    throw wrong(ref, manifest.config, what);
  });
  const { onStaged } = options;
  const whatOf = (k: number): string => `layer ${k + 1} of ${layers.length}`;
  let done = 0;
  const begun = (): void => {
    if (done < layers.length) options.onProgress?.({ what: whatOf(done), done: 0 });
  };
  begun();
  const [config, ids] = await Promise.all([
    diffIds,
    mapSome(layers, AT_ONCE, async (layer, k) => {
      const id = diffIds.then((config) => config.diffIds[k]);
      const pulled = await pullOwnLayer({
        registry,
        ref,
        layer,
        packs,
        id,
        store,
        source,
        holds,
        onStaged,
      });
      done++;
      begun();
      return pulled;
    }),
  ]);
  if (!options.lazy) for (const [k, id] of ids.entries()) await fill(pull, id, whatOf(k));
  return { config, layers: ids };
}

/** All content of a layer. */
async function fill(
  { registry, source, store, options }: Pull,
  id: string,
  what: string,
): Promise<void> {
  const local = new LocalChunks(store);
  const elsewhere = registryRanges({});
  const folder = LayerFolder.of(store, id);
  const how: Filling = {
    signal: options.signal,
    onProgress: (done, total) => options.onProgress?.({ what, done, total }),
  };
  try {
    await fillLayer(folder, {
      ...how,
      byOther: () => options.fillLoaded?.(folder, how) ?? Promise.resolve(false),
      read: (from, origin, at, length, signal) =>
        isSameSource(from, source)
          ? registry.range(from, origin, at, length, signal)
          : elsewhere.read(from, origin, at, length, signal),
      local,
      checkpoints: layerCheckpoints(folder),
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
): Promise<PulledLayers> {
  const { registry, ref, store, source, options, holds } = pull;
  const config = await fetchConfig(registry, ref, manifest.config);
  const { diffIds } = config;
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
    const id = layer.digest;
    const tar = {
      registry,
      ref,
      descriptor: layer,
      diffId: diffIds[k],
      below: ids.at(-1),
      store,
      source,
      lazy: options.lazy,
      index: indexes?.get(id),
      trustsIndex,
      signal: options.signal,
      onProgress: (done: number, total?: number) => options.onProgress?.({ what, done, total }),
    };
    await holds.holdAs(id, () => pullTarLayer(tar));
    if (!options.lazy) await fill(pull, id, what);
    ids.push(id);
  }
  return { config, layers: ids };
}
