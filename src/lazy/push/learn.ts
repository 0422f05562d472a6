// What a repository has already: from the image that the tag names now, from another image, from layers on this machine.
// Called by push.ts before anything is packed.
// Packs of another repository of the same registry count as well: they are mounted from there, not uploaded.

import { readFileSync } from 'node:fs';
import { RegistryError } from '../../oci/errors.js';
import { isIndex, type Manifest } from '../../oci/manifest.js';
import { formatReference, type Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { ChunkTable } from '../chunk-table.js';
import type { LayerFolder } from '../layer-folder.js';
import { isOwnManifest, readOwnManifest } from '../own-manifest.js';
import { fetchFrame, LIMITS } from '../untrusted.js';
import { KnownChunks } from './known-chunks.js';

export class Learned {
  readonly chunks = new KnownChunks();
  readonly #registry: Registry;
  readonly #ref: Reference;
  /** Pack -> another repository that has it. */
  readonly #elsewhere = new Map<string, string>();

  constructor(registry: Registry, ref: Reference) {
    this.#registry = registry;
    this.#ref = ref;
  }

  /** The image that the reference names now, where it names one. */
  async present(): Promise<void> {
    let manifest: Manifest | undefined;
    try {
      manifest = await this.#manifest(this.#ref);
    } catch (error) {
      if (error instanceof RegistryError && error.kind === 'absent') return;
      throw error;
    }
    await this.#image(this.#ref, manifest);
  }

  /** @throws RegistryError when there is no such image, or when it lies in another registry. */
  async like(ref: Reference): Promise<void> {
    if (ref.registry !== this.#ref.registry) {
      const what = `${formatReference(ref)} is not in ${this.#ref.registry}`;
      throw new RegistryError('refused', `${what}: chunks are shared within one registry only`);
    }
    await this.#image(ref, await this.#manifest(ref));
  }

  /**
   * A layer on this machine, where it lies in the same registry.
   * @param same only when it lies in the same repository, too.
   */
  layer(folder: LayerFolder, same = false): void {
    const { sources, origins, form } = folder.read();
    if (form !== 'varve') return;
    const here = sources.filter(({ registry }) => registry === this.#ref.registry);
    const isSame = here.some(({ repository }) => repository === this.#ref.repository);
    const [source] = here;
    if (source === undefined || (same && !isSame)) return;
    this.chunks.add(new ChunkTable(readFileSync(folder.table)), origins);
    if (isSame) return;
    for (const { digest } of origins) this.#elsewhere.set(digest, source.repository);
  }

  /** Whether the repository has a pack, or gets it from another one without an upload. */
  async has(digest: string): Promise<boolean> {
    if (await this.#registry.hasBlob(this.#ref, digest)) return true;
    const from = this.#elsewhere.get(digest);
    return from !== undefined && (await this.#registry.mountBlob(this.#ref, digest, from));
  }

  /** @returns undefined for what is not in our own form. */
  async #manifest(ref: Reference): Promise<Manifest | undefined> {
    const { manifest } = await this.#registry.manifest(ref);
    return isIndex(manifest) || !isOwnManifest(manifest) ? undefined : manifest;
  }

  async #image(ref: Reference, manifest: Manifest | undefined): Promise<void> {
    if (manifest === undefined) return;
    const { layers, packs } = readOwnManifest(manifest, formatReference(ref));
    for (const { chunks } of layers) {
      const bytes = await fetchFrame(this.#registry, ref, chunks, LIMITS.chunks);
      this.chunks.add(new ChunkTable(bytes), packs);
    }
    if (ref.repository === this.#ref.repository) return;
    for (const { digest } of packs) this.#elsewhere.set(digest, ref.repository);
  }
}
