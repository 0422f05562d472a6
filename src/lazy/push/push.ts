// An image in our own form goes to a registry: what the repository lacks of it, and no more.
// Called by the commands that push; layers were built by build/, or pulled. Their folders learn where their chunks now lie.
// Format: docs/lazy-format.md. The tag is moved last, so that nobody ever pulls half an image.

import { readFileSync } from 'node:fs';
import { ZstdFrames } from '../../linux/zstd-frame.js';
import { type Descriptor, hostPlatform, MEDIA_TYPES, type Platform } from '../../oci/manifest.js';
import type { Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import type { RunConfig } from '../image-record.js';
import type { LayerFolder, Source } from '../layer-folder.js';
import { layersOf } from '../local-chunks.js';
import { LazyType } from '../media-types.js';
import { encodeConfig, platformText } from '../oci-config.js';
import { encodeOwnManifest, type OwnLayer } from '../own-manifest.js';
import { renewLayer } from '../renew-layer.js';
import { Learned } from './learn.js';
import { packNew } from './pack-new.js';
import { Pushed } from './pushed.js';
import { Uploads } from './uploads.js';

export interface PushOptions {
  readonly config?: RunConfig;
  /** This machine's unless it is said. */
  readonly platform?: Platform;
  /** Other images of the same registry, whose chunks need not be uploaded again. */
  readonly like?: readonly Reference[];
  /** Image store: of its layers, the chunks of those that lie in the same repository are known, too. */
  readonly store?: string;
  /** Of zstd, 1 to 22; LEVEL. */
  readonly level?: number;
  /** The registry is asked without TLS: said to whoever loads from it later. */
  readonly plainHttp?: boolean;
  /** Bytes of a pack, about; for tests. */
  readonly packSize?: number;
  readonly onProgress?: (progress: PushProgress) => void;
}

export interface PushProgress {
  /** Bytes of content of all layers, and those that were packed or need not be. */
  readonly bytes: number;
  readonly bytesDone: number;
  /** Bytes that went to the registry. */
  readonly uploaded: number;
}

export interface PushReport {
  /** `sha256:HEX` of the manifest. */
  readonly digest: string;
  /** `os/architecture[/variant]` */
  readonly platform: string;
  /** Ids of the layers on this machine. */
  readonly layers: readonly string[];
  readonly chunks: number;
  /** Of them, those that the registry had. */
  readonly knownChunks: number;
  /** Bytes of content, and those that were uploaded: packs, tables and metadata, compressed. */
  readonly bytes: number;
  readonly uploaded: number;
  /** Of the manifest, and those of them that are new. */
  readonly packs: number;
  readonly newPacks: number;
}

/** Level 9 takes twice the time for 1 % less, level 3 a sixth less time for 6 % more (1.1 GB of a Debian system). */
const LEVEL = 6;
/** Of tables and metadata, which everybody reads first. */
const META_LEVEL = 12;
/** A pack of which less than this is used is not kept for it. */
const LIVE_SHARE = 1 / 3;

/**
 * @param layers from the bottom. Chunks that the registry lacks must be in their blobs.
 * @throws RegistryError, RangeError for a level, Error for a layer that is not complete.
 */
export async function pushLayers(
  registry: Registry,
  ref: Reference,
  layers: readonly LayerFolder[],
  options: PushOptions = {},
): Promise<PushReport> {
  const learned = new Learned(registry, ref);
  await learned.present();
  for (const other of options.like ?? []) await learned.like(other);
  for (const folder of layers) learned.layer(folder);
  for (const folder of options.store === undefined ? [] : layersOf(options.store)) {
    learned.layer(folder, true);
  }
  const push = new Push(registry, ref, layers, options);
  try {
    await push.reuse(learned);
    await push.pack();
    return await push.publish();
  } finally {
    await push.settle();
  }
}

class Push {
  readonly #registry: Registry;
  readonly #ref: Reference;
  readonly #options: PushOptions;
  readonly #layers: readonly Pushed[];
  readonly #uploads: Uploads;
  /** Those that the registry has and that are used, then new ones. */
  readonly #packs: Descriptor[] = [];
  readonly #bytes: number;
  #bytesDone = 0;
  #knownChunks = 0;
  #newPacks = 0;

  constructor(
    registry: Registry,
    ref: Reference,
    folders: readonly LayerFolder[],
    options: PushOptions,
  ) {
    this.#registry = registry;
    this.#ref = ref;
    this.#options = options;
    this.#layers = folders.map((folder) => new Pushed(folder));
    this.#uploads = new Uploads(registry, ref);
    this.#bytes = this.#layers.reduce((sum, { table }) => sum + table.bytes, 0);
  }

  /** Chunks that the registry has take their places, unless a pack would be kept for too little. */
  async reuse(learned: Learned): Promise<void> {
    const { chunks } = learned;
    /** Pack -> its units that are used: where they begin, and their bytes. */
    const live = new Map<string, Map<number, number>>();
    for (const { table } of this.#layers) {
      for (let i = 0; i < table.count; i++) {
        const place = chunks.find(table.digest(i), table.length(i));
        if (place === undefined) continue;
        let units = live.get(place.pack);
        if (units === undefined) live.set(place.pack, (units = new Map()));
        units.set(place.from, place.stored);
      }
    }
    const numbers = new Map<string, number>();
    for (const { digest, size } of chunks.packs) {
      let bytes = 0;
      for (const stored of live.get(digest)?.values() ?? []) bytes += stored;
      if (bytes < size * LIVE_SHARE || !(await learned.has(digest))) continue;
      numbers.set(digest, this.#packs.push({ mediaType: LazyType.PACK, digest, size }) - 1);
    }
    for (const { table, places } of this.#layers) {
      for (let i = 0; i < table.count; i++) {
        const place = chunks.find(table.digest(i), table.length(i));
        const pack = place === undefined ? undefined : numbers.get(place.pack);
        if (place === undefined || pack === undefined) continue;
        places[i] = { ...place, pack };
        this.#knownChunks++;
        this.#bytesDone += table.length(i);
      }
    }
    this.#tell();
  }

  /** The others go into new packs. */
  async pack(): Promise<void> {
    await packNew(this.#layers, {
      first: this.#packs.length,
      level: this.#options.level ?? LEVEL,
      packSize: this.#options.packSize,
      finished: async (file) => {
        this.#newPacks++;
        this.#packs.push(await this.#uploads.pack(file));
      },
      packed: (bytes) => {
        this.#bytesDone += bytes;
        this.#tell();
      },
    });
    await this.#uploads.end();
  }

  async publish(): Promise<PushReport> {
    const zstd = new ZstdFrames(META_LEVEL);
    const tables = this.#layers.map((layer) => layer.encode(this.#packs.length));
    const layers: OwnLayer[] = [];
    try {
      for (const [i, layer] of this.#layers.entries()) {
        const meta = zstd.compress(readFileSync(layer.folder.meta));
        const ownLayer = { meta: await this.#uploads.bytes(LazyType.META, meta) };
        const chunks = zstd.compress(tables[i] as Uint8Array);
        layers.push({
          ...ownLayer,
          chunks: await this.#uploads.bytes(LazyType.CHUNKS, chunks),
          ...(await this.#order(layer)),
        });
        this.#tell();
      }
    } finally {
      zstd.close();
    }
    const ids = this.#layers.map(({ id }) => id);
    const { config = {}, platform = hostPlatform() } = this.#options;
    const manifest = encodeOwnManifest({
      config: await this.#uploads.bytes(MEDIA_TYPES.ociConfig, encodeConfig(config, platform, ids)),
      layers,
      packs: this.#packs,
    });
    const digest = await this.#registry.pushManifest(this.#ref, manifest, MEDIA_TYPES.ociManifest);
    for (const [i, { folder, isOwnForm }] of this.#layers.entries()) {
      if (isOwnForm) renewLayer(folder, tables[i] as Uint8Array, this.#packs, this.#source());
    }
    return {
      digest,
      platform: platformText(platform),
      layers: this.#layers.map(({ localId }) => localId),
      chunks: this.#layers.reduce((sum, { table }) => sum + table.count, 0),
      knownChunks: this.#knownChunks,
      bytes: this.#bytes,
      uploaded: this.#uploads.uploaded,
      packs: this.#packs.length,
      newPacks: this.#newPacks,
    };
  }

  /** Waits until nothing is under way. */
  settle(): Promise<void> {
    return this.#uploads.settle();
  }

  async #order(layer: Pushed): Promise<{ order?: Descriptor }> {
    const chunks = layer.order();
    if (chunks.length === 0) return {};
    const bytes = Buffer.from(Uint32Array.from(chunks).buffer);
    return { order: await this.#uploads.bytes(LazyType.ORDER, bytes) };
  }

  #source(): Source {
    const { registry, repository } = this.#ref;
    const { plainHttp } = this.#options;
    return { registry, repository, ...(plainHttp === true ? { plainHttp } : {}) };
  }

  #tell(): void {
    this.#options.onProgress?.({
      bytes: this.#bytes,
      bytesDone: this.#bytesDone,
      uploaded: this.#uploads.uploaded,
    });
  }
}
