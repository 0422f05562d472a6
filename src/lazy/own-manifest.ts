// The manifest of an image in our own form: which of its layers is what.
// Read by pull/ and by push/ (of the image that a tag has now); written by push/.
// Format: docs/lazy-format.md. Tables number the packs of the whole manifest, in its order.

import { RegistryError } from '../oci/errors.js';
import { type Descriptor, type Manifest, MEDIA_TYPES } from '../oci/manifest.js';
import { ARTIFACT_TYPE, isOwnForm, LazyType } from './media-types.js';

/** One layer, as the manifest has it. */
export interface OwnLayer {
  readonly meta: Descriptor;
  readonly chunks: Descriptor;
  readonly order?: Descriptor;
}

export interface OwnManifest {
  readonly config: Descriptor;
  /** From the bottom. */
  readonly layers: readonly OwnLayer[];
  /** By number of the origin. */
  readonly packs: readonly Descriptor[];
}

/** Whether a manifest is that of an image in our own form. */
export function isOwnManifest(manifest: Manifest): boolean {
  return manifest.layers.some(({ mediaType }) => isOwnForm(mediaType));
}

/** @param what name for messages. @throws RegistryError `wrong`. */
export function readOwnManifest(manifest: Manifest, what: string): OwnManifest {
  const wrong = (why: string): never => {
    throw new RegistryError('wrong', `manifest ${what}: ${why}`);
  };
  const layers: { meta: Descriptor; chunks?: Descriptor; order?: Descriptor }[] = [];
  const packs: Descriptor[] = [];
  for (const descriptor of manifest.layers) {
    const last = layers.at(-1);
    const { mediaType, digest } = descriptor;
    if (!/^sha256:[0-9a-f]{64}$/.test(digest)) wrong(`${digest} is no sha256 digest`);
    if (mediaType === LazyType.META) layers.push({ meta: descriptor });
    else if (mediaType === LazyType.PACK) packs.push(descriptor);
    else if (mediaType === LazyType.CHUNKS && last?.chunks === undefined && last !== undefined) {
      last.chunks = descriptor;
    } else if (mediaType === LazyType.ORDER && last?.order === undefined && last !== undefined) {
      last.order = descriptor;
    } else wrong(`${mediaType} has no place there`);
  }
  if (layers.length === 0) wrong('it has no layer');
  const whole = layers.map(({ meta, chunks, order }) => {
    if (chunks === undefined) return wrong(`the layer ${meta.digest} has no chunk table`);
    return { meta, chunks, ...(order !== undefined ? { order } : {}) };
  });
  return { config: manifest.config, layers: whole, packs };
}

/** @returns the manifest as bytes: the same for the same. */
export function encodeOwnManifest({ config, layers, packs }: OwnManifest): Uint8Array {
  const parts = layers.flatMap(({ meta, chunks, order }) =>
    order === undefined ? [meta, chunks] : [meta, chunks, order],
  );
  const plain = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest, size });
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      artifactType: ARTIFACT_TYPE,
      config: { ...plain(config), mediaType: MEDIA_TYPES.ociConfig },
      layers: [...parts, ...packs].map(plain),
    }),
  );
}
