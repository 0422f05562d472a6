// A tar layer that lies in a file, compressed or not, becomes the files of a complete layer, in one pass.
// Called by index.ts behind the download; checkpoints are made on the way, so that its content can be let go and had again.
// Follows: OCI image-spec v1.1, layer.md; the archive itself is read by tree/tar-read.

import { closeSync, fsyncSync, openSync, readSync, rmSync } from 'node:fs';
import { type StreamFormat, streamFormat } from '../../linux/stream-codecs.js';
import type { Descriptor } from '../../oci/manifest.js';
import { TreeError } from '../../tree/errors.js';
import { PiecesContent, RangeContent } from '../../tree/stored.js';
import { readTarMembers } from '../../tree/tar-read.js';
import { remove, type TreeNode } from '../../tree/tree.js';
import { FileWindow } from '../../tree/window.js';
import { Codec } from '../chunk-table.js';
import { LayerFolder, type Source } from '../layer-folder.js';
import { ResidencyMap } from '../residency.js';
import { writeDurable } from '../write-durable.js';
import { BlobStore } from './blob-store.js';
import { type Compression, type IndexWindow, indexWindow } from './index-window.js';
import { writeLayer } from './places.js';
import { inheritRoot } from './root.js';
import { hasToc, OWN_FILES } from './toc-layer.js';
import { applyWhiteouts, isWhiteout } from './whiteouts.js';

export interface TarBuildOptions {
  readonly descriptor: Descriptor;
  readonly diffId?: string;
  readonly source: Source;
  /** As TarLayerOptions has them. */
  readonly store: string;
  readonly below?: string;
  /** One word: not 0 when the work is to end. Read by this thread, written by another. */
  readonly stop?: Int32Array;
}

/** @param staged folder of the layer. @param path the blob of the registry. @throws TreeError, ArchiveError, RangeError, StoppedError. */
export async function buildTarLayer(
  options: TarBuildOptions,
  staged: string,
  path: string,
): Promise<void> {
  const { descriptor, diffId, source, store: images, below } = options;
  const folder = new LayerFolder(staged);
  const compressed = openSync(path, 'r');
  const blob = openSync(folder.blob, 'wx+', 0o600);
  try {
    const compression = compressionOf(compressed);
    const store = new BlobStore(blob, compression === 'none' ? Codec.RAW : Codec.CHECKPOINT);
    const { tree, digests, checkpoints } = read(compressed, compression, store, options);
    if (diffId !== undefined && !digests.includes(diffId)) {
      throw new TreeError(`its archive is ${digests[0]}, the image says ${diffId}`);
    }
    store.finish();
    fsyncSync(blob);
    // Where a table of contents is used they are no files of the layer, so they are none here.
    if (hasToc(descriptor)) for (const name of OWN_FILES) remove(tree, name);
    inheritRoot(tree, below === undefined ? undefined : LayerFolder.of(images, below));
    applyWhiteouts(tree);
    const { digest: id, size, mediaType } = descriptor;
    const canReturn = compression === 'none' || checkpoints !== undefined;
    const records = await writeLayer(staged, {
      tree,
      places: store.places,
      keyOf,
      isWhole: !canReturn,
      record: {
        id,
        origins: [{ digest: id, size, mediaType }],
        sources: [source],
        form: compression === 'none' ? 'tar' : `tar+${compression}`,
      },
    });
    if (checkpoints !== undefined) writeDurable(folder.checkpoints, checkpoints);
    markAll(folder, records.length);
    rmSync(path);
    writeDurable(folder.complete, '');
  } finally {
    closeSync(compressed);
    closeSync(blob);
  }
}

interface Archive {
  readonly tree: TreeNode;
  /** `sha256:HEX` that the archive may be known by. */
  readonly digests: readonly string[];
  readonly checkpoints: Uint8Array | undefined;
}

function read(
  fd: number,
  compression: Compression,
  store: BlobStore,
  { descriptor, stop }: TarBuildOptions,
): Archive {
  const input = new FileWindow(fd, 'layer');
  let window: IndexWindow | undefined;
  try {
    window = indexWindow(compression, input);
    window.stop = stop;
    const name = 'layer';
    const tree = readTarMembers({
      name,
      input,
      window,
      store,
      onProgress: () => {},
      isMark: isWhiteout,
    });
    const digests = window.digests();
    return { tree, digests, checkpoints: window.checkpoints(descriptor.size) };
  } finally {
    window?.close();
    input.close();
  }
}

/** By the first bytes: media types are wrong often enough. @throws TreeError for what layers are not compressed by. */
function compressionOf(fd: number): Compression {
  const head = Buffer.alloc(8);
  readSync(fd, head, 0, head.length, 0);
  const format: StreamFormat | 'bzip2' | 'lzo' | undefined = streamFormat(head);
  if (format === undefined) return 'none';
  if (format === 'gzip' || format === 'zstd') return format;
  throw new TreeError(`it is compressed by ${format}, as no layer should be`);
}

/** What a file is known by in the places: where its data begins in the archive. */
function keyOf({ content }: TreeNode): number | undefined {
  return content instanceof RangeContent || content instanceof PiecesContent
    ? content.range.offset
    : undefined;
}

/** All chunks are here and on disk. */
function markAll(folder: LayerFolder, count: number): void {
  const map = ResidencyMap.open(folder.map, count, true);
  for (let i = 0; i < count; i++) {
    map.mark(i);
    map.markDurable(i);
  }
  map.setComplete();
  map.close();
  const fd = openSync(folder.map, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
