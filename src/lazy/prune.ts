// Layers that no image of the store and no layer store names, and nobody uses, are removed, and what killed processes have left.
// Called by commands that remove images.
// A layer in use is held (hold-layer.ts), has its lock taken by the loader, its metadata image locked (shared) by who serves it without
// looking at its map, or is open: the kernel mounts it. It goes from its name by one rename first.

import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isOpenElsewhere } from '../linux/files.js';
import { mountTable } from '../linux/mountinfo.js';
import { lockFile } from '../linux/peer.js';
import { syncPath } from '../linux/sync-path.js';
import { isAt } from './hold-layer.js';
import { listImages } from './image-record.js';
import type { LayerFolder } from './layer-folder.js';
import { layersOf } from './local-chunks.js';
import { readNotes } from './podman/records.js';
import { bytesOf, goneName, sweepStaged } from './staging.js';

/** What was removed. */
export interface Pruned {
  readonly layers: number;
  /** Bytes on disk. */
  readonly bytes: number;
  /** Layers that nobody names and that stay, because they are in use. */
  readonly inUse: readonly string[];
}

export interface PruneOptions {
  /** Layers that must stay, by id. */
  readonly keep?: ReadonlySet<string>;
  /** Milliseconds since 1970. */
  readonly now?: number;
}

/** @throws ImageRecordError: what is no record may have named any layer. */
export function pruneLayers(store: string, options: PruneOptions = {}): Pruned {
  const named = new Set([...(options.keep ?? []), ...namesIn(store)]);
  const folder = join(store, 'layers');
  const inUse: string[] = [];
  let layers = 0;
  let bytes = sweepStaged(folder, options.now ?? Date.now());
  for (const layer of layersOf(store)) {
    try {
      const { id } = layer.read();
      if (named.has(id)) continue;
      // Somebody may have pulled it meanwhile, and let go of it when the image had its record.
      const freed = removeLayer(layer, () => !namesIn(store).has(id));
      if (freed === undefined) inUse.push(id);
      else {
        layers++;
        bytes += freed;
      }
    } catch (error) {
      // Another one who prunes was faster.
      if (layer.exists) throw error;
    }
  }
  return { layers, bytes, inUse };
}

/** Ids of the layers that images and layer stores name. */
function namesIn(store: string): Set<string> {
  const named = new Set<string>();
  for (const image of listImages(store)) for (const id of image.layers) named.add(id);
  for (const { layer } of readNotes(store)) named.add(layer);
  return named;
}

/**
 * Removes a layer that nobody uses. @param isFree asked when nobody can take hold of it any more.
 * @returns bytes that it took, undefined when somebody uses it.
 */
export function removeLayer(
  layer: LayerFolder,
  isFree: () => boolean = () => true,
): number | undefined {
  const folder = dirname(layer.path);
  const locks: number[] = [];
  const isLocked = (path: string, flags: string): boolean => {
    const fd = openSync(path, flags, 0o600);
    locks.push(fd);
    return lockFile(fd) >= 0 && isAt(fd, path);
  };
  try {
    const { path, blob, lock, meta } = layer;
    // Who loads it holds its blob first: the lock is not even tried then.
    if (!isLocked(blob, 'a') || !isLocked(lock, 'a')) return undefined;
    // A damaged one may have none.
    if (existsSync(meta) && !isLocked(meta, 'r')) return undefined;
    // The kernel has it open where its mount lies below an overlay, or in another namespace.
    const [opened] = locks as [number];
    if (isMounted(layer) || isOpenElsewhere(opened, false) || !isFree()) return undefined;
    // The folder's own: nobody takes it for what a killed process has left.
    if (!isLocked(path, 'r')) return undefined;
    const gone = goneName(folder);
    renameSync(layer.path, gone);
    syncPath(folder);
    const bytes = bytesOf(gone);
    rmSync(gone, { recursive: true, force: true });
    return bytes;
  } finally {
    for (const fd of locks) closeSync(fd);
  }
}

/** Whether a mount of the kernel that can be seen reads it. */
function isMounted({ meta }: LayerFolder): boolean {
  return mountTable().some(({ type, source }) => type === 'erofs' && source === meta);
}
