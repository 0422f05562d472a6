// A tree becomes a layer of our own form: metadata image, blob, chunk table and record in a folder of an image store.
// Called by push (which then says where the chunks are stored) and by whoever wants a layer of a tree.
// The same tree and options give the same files and the same id; the folder appears complete, or not at all.

import { dirname } from 'node:path';
import { sha256Of } from '../../bytes/digest.js';
import { buildImage } from '../../erofs/write.js';
import type { BuildProgress } from '../../erofs/write-options.js';
import { FileSource } from '../../linux/file-source.js';
import { syncPath } from '../../linux/sync-path.js';
import type { TreeNode } from '../../tree/tree.js';
import { ChunkTable } from '../chunk-table.js';
import { LayerFolder, type LayerRecord } from '../layer-folder.js';
import { LoadedLayer } from '../load/layer.js';
import { discardStaged, publishLayer, stageLayer } from '../staging.js';
import { writeDurable } from '../write-durable.js';
import { type CutOptions, cutChunks } from './cut.js';

export interface BuildLayerOptions extends Omit<CutOptions, 'onProgress'> {
  readonly onProgress?: (progress: BuildProgress) => void;
}

/** A chunk of the image writer that no file fills: each file is one run of the blob. */
const WHOLE_FILE = 2 ** 43;

/**
 * @returns the layer, which is complete. One that the store has already stays.
 * @throws BuildOptionError, RangeError for what EROFS cannot store, what the tree's content throws, and LoadError when the store
 * has the layer without its content and somebody loads it.
 */
export async function buildLayer(
  tree: TreeNode,
  store: string,
  options: BuildLayerOptions = {},
): Promise<LayerFolder> {
  const staged = stageLayer(store);
  try {
    const id = await buildInto(tree, staged, options);
    await giveContent(new LayerFolder(staged), LayerFolder.of(store, id));
    const folder = publishLayer(store, staged, id);
    syncPath(dirname(folder.path));
    return folder;
  } catch (error) {
    discardStaged(staged);
    throw error;
  }
}

/** A layer that was pulled without its content gets it from one that has it. @throws LoadError while others load it. */
async function giveContent(whole: LayerFolder, folder: LayerFolder): Promise<void> {
  if (!folder.exists || folder.isComplete) return;
  const layer = LoadedLayer.open(folder);
  const content = FileSource.open(whole.blob);
  try {
    for (let i = layer.map.nextAbsent(0); i < layer.table.count; i = layer.map.nextAbsent(i + 1)) {
      const bytes = new Uint8Array(layer.table.length(i));
      content.read(layer.table.at(i), bytes);
      if (!(await layer.put(i, bytes))) throw new Error(`${whole.blob}: has changed meanwhile`);
    }
    await layer.complete();
  } finally {
    content.close();
    layer.close();
  }
}

/** As buildLayer(), in a folder of the caller's; that folder is not synced. @returns the id. */
export async function buildInto(
  tree: TreeNode,
  path: string,
  options: BuildLayerOptions = {},
): Promise<string> {
  const folder = new LayerFolder(path);
  await buildImage(
    tree,
    {
      chunkSize: WHOLE_FILE,
      keepHoles: true,
      blob: folder.blob,
      ...(options.onProgress !== undefined ? { onProgress: options.onProgress } : {}),
    },
    folder.meta,
  );
  const meta = FileSource.open(folder.meta);
  const blob = FileSource.open(folder.blob);
  try {
    const { chunkSize } = options;
    const cut = await cutChunks(
      meta,
      sha256Of(meta, meta.size),
      blob,
      chunkSize === undefined ? {} : { chunkSize },
    );
    const id = new ChunkTable(cut.table).layerId();
    const record: LayerRecord = {
      version: 1,
      id,
      origins: [],
      sources: [],
      form: 'varve',
      inodes: cut.inodes,
      bytes: cut.bytes,
    };
    writeDurable(folder.table, cut.table);
    writeDurable(folder.record, `${JSON.stringify(record)}\n`);
    writeDurable(folder.complete, '');
    syncPath(path);
    return id;
  } finally {
    meta.close();
    blob.close();
  }
}
