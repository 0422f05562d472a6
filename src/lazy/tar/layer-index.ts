// An index of an image's tar layers, made once by whoever has read them, beside the image in its registry: others mount lazily by it.
// Written by pushIndex() (an artifact whose subject is the image's manifest), found by findIndex(), used by index.ts.
// No digest of the image covers it: it is asked for only by whoever trusts those who may push to the repository.
// Format: docs/lazy-format.md. What comes is checked as metadata of our own form is.

import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { ErofsError } from '../../erofs/errors.js';
import { FileSource } from '../../linux/file-source.js';
import { readIfThere } from '../../linux/read-if-there.js';
import { ZstdFrames } from '../../linux/zstd-frame.js';
import { digestOf } from '../../oci/digest.js';
import { type Descriptor, isIndex, MEDIA_TYPES } from '../../oci/manifest.js';
import { type Reference, withDigest } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { ChunkTable, ChunkTableError, Codec, NOWHERE } from '../chunk-table.js';
import { LayerImageError } from '../image-runs.js';
import { LayerFolder, type LayerRecord } from '../layer-folder.js';
import { LazyType } from '../media-types.js';
import { ProgramCollector } from '../programs.js';
import { checkMeta, LayerCheckError } from '../pull/check-layer.js';
import { Uploads } from '../push/uploads.js';
import { fetchFrame, fetchFrameTo, fetchWhole, LIMITS, wrong } from '../untrusted.js';
import { writeDurable } from '../write-durable.js';
import { CheckpointError, Checkpoints, StreamKind } from './checkpoints.js';
import type { LayerIndex, TarLayerOptions } from './options.js';

const INDEX_TYPE = 'application/vnd.varve.index.v1';
const CHECKPOINTS = 'application/vnd.varve.layer.checkpoints.v1';
/** Annotation of each part: the digest of the layer that it is about. */
const OF_LAYER = 'dev.varve.layer';
/** Of zstd. */
const LEVEL = 9;
/** Bytes of the checkpoints of a layer. */
const MOST_CHECKPOINTS = 1 << 30;

/**
 * Pushes what the store knows of the layers of an image.
 * @param ref the image's repository. @param image its manifest. @param layers ids in the store; those that need no index are left out.
 * @returns the digest of the artifact; undefined when there is nothing to push.
 */
export async function pushIndex(
  registry: Registry,
  ref: Reference,
  image: Descriptor,
  layers: readonly string[],
  store: string,
): Promise<string | undefined> {
  const uploads = new Uploads(registry, ref);
  const parts: Descriptor[] = [];
  const push = async (mediaType: string, bytes: Uint8Array, layer?: string) => {
    const about = layer === undefined ? {} : { annotations: { [OF_LAYER]: layer } };
    return { ...(await uploads.bytes(mediaType, bytes)), ...about };
  };
  for (const id of layers) {
    const folder = LayerFolder.of(store, id);
    if (!/^tar/.test(folder.read().form) || !canReturn(folder)) continue;
    parts.push(await push(LazyType.META, zstdCompress(readFileSync(folder.meta)), id));
    parts.push(await push(LazyType.CHUNKS, zstdCompress(readFileSync(folder.table)), id));
    const checkpoints = readIfThere(folder.checkpoints);
    if (checkpoints !== undefined) parts.push(await push(CHECKPOINTS, checkpoints, id));
  }
  if (parts.length === 0) return undefined;
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    artifactType: INDEX_TYPE,
    config: await push(MEDIA_TYPES.ociEmpty, Buffer.from('{}')),
    layers: parts,
    subject: { mediaType: image.mediaType, digest: image.digest, size: image.size },
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const digest = digestOf(bytes);
  return registry.pushManifest(withDigest(ref, digest), bytes, MEDIA_TYPES.ociManifest);
}

function zstdCompress(bytes: Uint8Array): Uint8Array {
  const frames = new ZstdFrames(LEVEL);
  try {
    return frames.compress(bytes).slice();
  } finally {
    frames.close();
  }
}

/** Whether the content of a layer can be fetched by its table. */
function canReturn(folder: LayerFolder): boolean {
  const table = new ChunkTable(readFileSync(folder.table));
  for (let i = 0; i < table.count; i++) if (table.origin(i) === NOWHERE) return false;
  return true;
}

/** The indexes of an image's layers, by digest of the layer, where somebody has pushed some. */
export async function findIndex(
  registry: Registry,
  ref: Reference,
  image: string,
): Promise<Map<string, LayerIndex>> {
  const found = new Map<
    string,
    { meta?: Descriptor; chunks?: Descriptor; checkpoints?: Descriptor }
  >();
  for (const { digest } of await registry.referrers(ref, image, INDEX_TYPE)) {
    const { manifest } = await registry.manifest(withDigest(ref, digest));
    if (isIndex(manifest) || manifest.subject?.digest !== image) continue;
    for (const part of manifest.layers) {
      const layer = part.annotations?.[OF_LAYER];
      if (layer === undefined) continue;
      const index = found.get(layer) ?? {};
      found.set(layer, index);
      if (part.mediaType === LazyType.META) index.meta = part;
      else if (part.mediaType === LazyType.CHUNKS) index.chunks = part;
      else if (part.mediaType === CHECKPOINTS) index.checkpoints = part;
    }
    // The first that is one counts: parts of two do not belong together.
    if (found.size > 0) break;
  }
  const whole = [...found].flatMap(([layer, { meta, chunks, checkpoints }]) =>
    meta === undefined || chunks === undefined
      ? []
      : [[layer, { meta, chunks, ...(checkpoints ? { checkpoints } : {}) }] as const],
  );
  return new Map(whole);
}

/** Makes a lazy layer of an index. @throws RegistryError `wrong` or `limit` when it is none. */
export async function takeIndex(
  options: TarLayerOptions,
  index: LayerIndex,
  staged: string,
): Promise<void> {
  const { registry, ref, descriptor, source } = options;
  const folder = new LayerFolder(staged);
  try {
    const bytes = await fetchFrame(registry, ref, index.chunks, LIMITS.chunks);
    const table = new ChunkTable(bytes);
    const points =
      index.checkpoints === undefined
        ? undefined
        : await fetchWhole(registry, ref, index.checkpoints, MOST_CHECKPOINTS);
    checkSources(table, descriptor, points);
    const digest = await fetchFrameTo(registry, ref, index.meta, LIMITS.meta, folder.meta);
    if (!Buffer.from(digest).equals(table.metaDigest)) {
      throw new LayerCheckError('the chunk table is that of another metadata image');
    }
    const meta = FileSource.open(folder.meta);
    let runs: ReturnType<typeof checkMeta>;
    try {
      const programs = new ProgramCollector();
      runs = checkMeta(meta, table, programs);
      programs.write(folder);
    } finally {
      meta.close();
    }
    const { digest: id, size, mediaType } = descriptor;
    const record: LayerRecord = {
      version: 1,
      id,
      origins: [{ digest: id, size, mediaType }],
      sources: [source],
      form: formOf(points),
      byIndex: true,
      inodes: runs.inodes,
      bytes: runs.bytes,
    };
    if (points !== undefined) writeDurable(folder.checkpoints, points);
    writeDurable(folder.table, bytes);
    writeDurable(folder.record, `${JSON.stringify(record)}\n`);
    const blob = openSync(folder.blob, 'wx', 0o600);
    ftruncateSync(blob, table.blobSize);
    fsyncSync(blob);
    closeSync(blob);
  } catch (error) {
    const isTheirs =
      error instanceof ChunkTableError ||
      error instanceof CheckpointError ||
      error instanceof LayerCheckError ||
      error instanceof LayerImageError ||
      error instanceof ErofsError;
    throw isTheirs ? wrong(ref, index.chunks, `as an index: ${error.message}`) : error;
  }
}

function formOf(checkpoints: Uint8Array | undefined): string {
  if (checkpoints === undefined) return 'tar';
  return new Checkpoints(checkpoints).kind === StreamKind.GZIP ? 'tar+gzip' : 'tar+zstd';
}

/** @throws LayerCheckError when a chunk lies nowhere in the layer. */
function checkSources(
  table: ChunkTable,
  { size }: Descriptor,
  checkpoints: Uint8Array | undefined,
): void {
  const points = checkpoints === undefined ? undefined : new Checkpoints(checkpoints);
  if (points !== undefined && points.originSize !== size) {
    throw new LayerCheckError('the checkpoints are those of another layer');
  }
  if (table.origins !== 1) throw new LayerCheckError(`${table.origins} origins`);
  const end = points?.streamSize ?? size;
  const codec = points === undefined ? Codec.RAW : Codec.CHECKPOINT;
  for (let i = 0; i < table.count; i++) {
    const isIn = table.from(i) + table.length(i) <= end && table.skip(i) === 0;
    const isRaw = codec === Codec.RAW && table.stored(i) !== table.length(i);
    if (table.origin(i) !== 0 || table.codec(i) !== codec || !isIn || isRaw) {
      throw new LayerCheckError(`chunk ${i} lies nowhere in the layer`);
    }
  }
}
