// What it takes to have a layer of an existing image, shared by the files that do it in their different ways.
// Made by pull/ and podman/ for index.ts.
// Follows: OCI image-spec v1.1, descriptor.md and config.md.

import type { Descriptor } from '../../oci/manifest.js';
import type { Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import type { Source } from '../layer-folder.js';

/** The parts of one layer's index (layer-index.ts), and where they lie. */
export interface LayerIndex {
  readonly meta: Descriptor;
  readonly chunks: Descriptor;
  /** Of a compressed layer. */
  readonly checkpoints?: Descriptor;
}

export interface TarLayerOptions {
  readonly registry: Registry;
  readonly ref: Reference;
  /** Of the layer, as the manifest has it, annotations included. */
  readonly descriptor: Descriptor;
  /** `sha256:HEX` of the tar archive, as the configuration has it. */
  readonly diffId?: string;
  readonly store: string;
  readonly source: Source;
  /** The layer below in the image that is pulled, where there is one. */
  readonly below?: string;
  /** Metadata is enough where it can be had by itself. */
  readonly lazy: boolean;
  /** An index that somebody has made of this layer, and whom the caller trusts (layer-index.ts). */
  readonly index?: LayerIndex;
  /** The caller trusts indexes: a layer that was made by one counts as the layer. */
  readonly trustsIndex?: boolean;
  readonly signal?: AbortSignal;
  /** Bytes of the blob that have come, and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}
