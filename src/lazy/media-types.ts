// The media types of our own form of an image in a registry.
// Written by push/, looked for by pull/. Form and limits: docs/lazy-format.md.

/** What an image in our own form says it is. */
export const ARTIFACT_TYPE = 'application/vnd.varve.image.v1';

export const LazyType = {
  /** meta.erofs as one zstd frame. It begins a layer. */
  META: 'application/vnd.varve.layer.meta.v1+zstd',
  /** The chunk table of the META before it, as one zstd frame. */
  CHUNKS: 'application/vnd.varve.layer.chunks.v1+zstd',
  /** Numbers of the chunks of that layer in the order of their first use, u32 each. */
  ORDER: 'application/vnd.varve.order.v1',
  /** Units of chunks, one behind the other. All of them are the origins of every table, in their order in the manifest. */
  PACK: 'application/vnd.varve.pack.v1',
} as const;

/** Whether a layer of this media type is part of our own form. */
export function isOwnForm(mediaType: string): boolean {
  return Object.values<string>(LazyType).includes(mediaType);
}
