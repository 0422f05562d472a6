// Finds the layer that a container engine asks for by an image's name and the layer's digest, and gets its metadata.
// Run in the loader, for the server of a layer store (command `layer` of protocol.ts), which must not wait for a registry.
// Follows: OCI image specification 1.1; the digests of tables of contents as eStargz and zstd:chunked annotate them.

import { RegistryError } from '../../oci/errors.js';
import { type Descriptor, type Index, isIndex, type Manifest } from '../../oci/manifest.js';
import { parseReference, type Reference, withDigest } from '../../oci/reference.js';
import type { FetchedManifest, Registry } from '../../oci/registry.js';
import { LayerHolds } from '../hold-layer.js';
import { LayerFolder } from '../layer-folder.js';
import { decodeConfig } from '../oci-config.js';
import { pullTarLayer } from '../tar/index.js';
import { findIndex } from '../tar/layer-index.js';
import { fetchWhole, LIMITS, wrong } from '../untrusted.js';
import { type LayerNote, policyDigest, writeNote } from './records.js';

export interface FindOptions {
  readonly registry: Registry;
  readonly store: string;
  readonly plainHttp: boolean;
  /** An index beside the image may be used, unless a policy demands signatures. */
  readonly trustIndex: boolean;
  /** The registry's policy.json, where one was named. */
  readonly policyFile?: string;
  readonly clock?: () => number;
}

/** Annotations of a layer that name its table of contents: newer engines ask for a layer by that. */
const TOC_DIGESTS = [
  'containerd.io/snapshot/stargz/toc.digest',
  'io.github.containers.zstd-chunked.manifest-checksum',
  'io.containers.zstd-chunked.manifest-checksum',
] as const;

/** Annotation of an eStargz layer: bytes of its tar archive. */
const TAR_SIZE = 'io.containers.estargz.uncompressed-size';

/** Milliseconds for which an image is known without asking again: its layers are asked for one by one. */
const KNOWN_FOR = 30_000;
/** Images of an index that are looked through. */
const MOST_IMAGES = 16;

/** A layer as its image names it; `ref` has the digest of the image's manifest. */
interface FoundLayer {
  readonly ref: Reference;
  readonly descriptor: Descriptor;
  readonly diffId: string;
  /** Digest of the layer below. */
  readonly below: string | undefined;
  /** Nothing may be used that the manifest does not vouch for. */
  readonly signed: boolean;
  /** policyDigest() of the file that accepted the image. */
  readonly policy: string | undefined;
}

type ImageLayer = Omit<FoundLayer, 'policy'>;

interface KnownImage {
  readonly until: number;
  readonly layers: Promise<readonly FoundLayer[]>;
}

export class LayerFinder {
  readonly #options: FindOptions;
  readonly #clock: () => number;
  readonly #images = new Map<string, KnownImage>();
  /** Layers that are being pulled. */
  readonly #pulls = new Map<string, Promise<string>>();

  constructor(options: FindOptions) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
  }

  /**
   * @param digest of the layer's blob, or of the table of contents in it.
   * @returns the record of the layer, which the store has now; undefined: the image has no such layer.
   * @throws RegistryError.
   */
  async find(reference: string, digest: string): Promise<LayerNote | undefined> {
    const isMeant = ({ descriptor }: FoundLayer) => namesOf(descriptor).includes(digest);
    // The engine may have been told another platform than this machine's.
    const found =
      (await this.#layersOf(reference, false)).find(isMeant) ??
      (await this.#layersOf(reference, true)).find(isMeant);
    if (found === undefined) return undefined;
    const { store } = this.#options;
    const holds = new LayerHolds(store);
    try {
      await holds.holdAs(found.descriptor.digest, () => this.#pull(found));
      return this.#note(reference, digest, found);
    } finally {
      holds.release();
    }
  }

  #note(reference: string, digest: string, found: FoundLayer): LayerNote {
    const { descriptor, diffId, policy } = found;
    const { store, plainHttp } = this.#options;
    const layer = descriptor.digest;
    const { digest: blob, size, mediaType, annotations } = descriptor;
    const told = Number(annotations?.[TAR_SIZE]);
    const { bytes } = LayerFolder.of(store, layer).read();
    return writeNote(store, {
      reference,
      digest,
      blob: { digest: blob, size, mediaType },
      diffId,
      layer,
      bytes: Number.isSafeInteger(told) && told > 0 ? told : bytes,
      plainHttp,
      ...(policy === undefined ? {} : { policy }),
    });
  }

  /** Once, however many ask. */
  #pull(found: FoundLayer): Promise<string> {
    const { digest } = found.descriptor;
    const known = this.#pulls.get(digest);
    if (known !== undefined) return known;
    const pulled = this.#pullNow(found).finally(() => this.#pulls.delete(digest));
    this.#pulls.set(digest, pulled);
    return pulled;
  }

  async #pullNow({ ref, descriptor, diffId, below, signed }: FoundLayer): Promise<string> {
    const { registry, store, plainHttp } = this.#options;
    const trustIndex = this.#options.trustIndex && !signed;
    const { registry: host, repository, digest = '' } = ref;
    const source = { registry: host, repository, ...(plainHttp ? { plainHttp } : {}) };
    const indexes = trustIndex ? await findIndex(registry, ref, digest) : undefined;
    const index = indexes?.get(descriptor.digest);
    return pullTarLayer({
      registry,
      ref,
      descriptor,
      diffId,
      below,
      store,
      source,
      lazy: true,
      index,
      trustsIndex: trustIndex,
    });
  }

  /** @param everyPlatform of all images of an index. */
  #layersOf(reference: string, everyPlatform: boolean): Promise<readonly FoundLayer[]> {
    const policy = policyDigest(this.#options.policyFile);
    const key = `${reference} ${everyPlatform} ${policy}`;
    const known = this.#images.get(key);
    if (known !== undefined && this.#clock() < known.until) return known.layers;
    for (const [name, { until }] of this.#images) {
      if (this.#clock() >= until) this.#images.delete(name);
    }
    const ref = parseReference(reference);
    const found = everyPlatform ? this.#allLayers(ref) : this.#ownLayers(ref);
    const layers = found.then((all) => all.map((layer) => ({ ...layer, policy })));
    this.#images.set(key, { until: this.#clock() + KNOWN_FOR, layers });
    // A failure is asked again.
    layers.catch(() => this.#images.delete(key));
    return layers;
  }

  async #ownLayers(ref: Reference): Promise<ImageLayer[]> {
    const image = await this.#options.registry.image(ref);
    return this.#layersIn(ref, image, image.manifest, image.signed);
  }

  async #allLayers(ref: Reference): Promise<ImageLayer[]> {
    const { registry } = this.#options;
    const { manifest, descriptor } = await registry.manifest(ref);
    if (!isIndex(manifest)) return [];
    const layers: ImageLayer[] = [];
    let refused: RegistryError | undefined;
    for (const { digest } of imagesOf(manifest)) {
      const inner = await registry.manifest(withDigest(ref, digest));
      if (isIndex(inner.manifest)) continue;
      try {
        const signed = await registry.accept(ref, inner.descriptor, descriptor);
        layers.push(...(await this.#layersIn(ref, inner, inner.manifest, signed)));
      } catch (error) {
        // Of those that may not be used none is looked at; others may be.
        if (!(error instanceof RegistryError) || error.kind !== 'policy') throw error;
        refused = error;
      }
    }
    if (refused !== undefined && layers.length === 0) throw refused;
    return layers;
  }

  async #layersIn(
    ref: Reference,
    { descriptor }: FetchedManifest,
    { config, layers }: Manifest,
    signed: boolean,
  ): Promise<ImageLayer[]> {
    const pinned = withDigest(ref, descriptor.digest);
    const bytes = await fetchWhole(this.#options.registry, pinned, config, LIMITS.config);
    let diffIds: readonly string[];
    try {
      ({ diffIds } = decodeConfig(bytes));
    } catch (error) {
      throw wrong(pinned, config, `the configuration: ${(error as Error).message}`);
    }
    if (diffIds.length !== layers.length) {
      throw wrong(pinned, config, `names ${diffIds.length} layers, the manifest ${layers.length}`);
    }
    return layers.map((layer, i) => ({
      ref: pinned,
      descriptor: layer,
      diffId: diffIds[i] as string,
      below: layers[i - 1]?.digest,
      signed,
    }));
  }
}

function namesOf({ digest, annotations }: Descriptor): string[] {
  const tables = TOC_DIGESTS.map((name) => annotations?.[name]);
  return [digest, ...tables.filter((name) => name !== undefined)];
}

function imagesOf({ manifests }: Index): Descriptor[] {
  const isImage = ({ platform }: Descriptor) => platform?.os !== 'unknown';
  return manifests.filter(isImage).slice(0, MOST_IMAGES);
}
