// Gives space back: content that has not been used lately becomes hole again, and is fetched when somebody wants it.
// Used by loader.ts for layers that it loads, and by commands for others (evictIdle); the layer's lock is held.
// Order: the map says that it is gone, on disk, and only then it goes. Readers look at the map's generation (residency.ts).

import { closeSync, openSync } from 'node:fs';
import { check } from '../../linux/errno.js';
import { duplicate, fallocate, isOpenElsewhere } from '../../linux/files.js';
import { lockFile } from '../../linux/peer.js';
import { NOWHERE } from '../chunk-table.js';
import type { LayerFolder } from '../layer-folder.js';
import { LoadError, LoadedLayer, lockLayer, markComplete, unmarkComplete } from './layer.js';
import { readOrder } from './queue.js';

/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
const PUNCH_HOLE = 3;
/** Pages are what readers map, and at least what filesystems give back. */
const BLOCK = 4096;

/** Which chunks go, so that at most `keep` bytes stay: those used last stay. */
export function chooseVictims(
  layer: LoadedLayer,
  keep: number,
  lastUse: (i: number) => number,
  isFixed: (i: number) => boolean,
): number[] {
  const { table, map } = layer;
  const candidates: number[] = [];
  for (let i = 0; i < table.count; i++) {
    // What no registry has would be gone.
    if (map.isHere(i) && !isFixed(i) && table.origin(i) !== NOWHERE) candidates.push(i);
  }
  // Equally old ones go from the end of the blob.
  candidates.sort((a, b) => lastUse(a) - lastUse(b) || b - a);
  const victims: number[] = [];
  let excess = layer.residentBytes - keep;
  for (const i of candidates) {
    if (excess <= 0) break;
    victims.push(i);
    excess -= table.length(i);
  }
  return victims;
}

/**
 * Takes these chunks back and their space with them. Blocks that they share with one that stays are left.
 * @param isComing the content of a chunk may be in the blob by now, although the map does not say so yet.
 * @returns bytes of content.
 */
export function evict(
  layer: LoadedLayer,
  victims: readonly number[],
  isComing: (i: number) => boolean = () => false,
): number {
  if (victims.length === 0) return 0;
  const { table, map, blob } = layer;
  layer.clear(victims);
  const stays = (i: number): boolean => map.isHere(i) || isComing(i);
  let bytes = 0;
  const sorted = [...victims].sort((a, b) => a - b);
  for (let k = 0; k < sorted.length; ) {
    let n = 1;
    while (sorted[k + n] === (sorted[k] as number) + n) n++;
    const first = sorted[k] as number;
    const last = first + n - 1;
    for (let i = first; i <= last; i++) bytes += table.length(i);
    // Up to the neighbours there is nothing but zeros; a neighbour that is not here has nothing to lose.
    const before =
      first > 0 && stays(first - 1) ? table.at(first - 1) + table.length(first - 1) : 0;
    const behind = last + 1 < table.count && stays(last + 1) ? table.at(last + 1) : table.blobSize;
    const from = Math.max(up(before), down(table.at(first)));
    const to = Math.min(down(behind), up(table.at(last) + table.length(last)));
    if (to > from)
      check(fallocate(blob, PUNCH_HOLE, from, to - from), 'fallocate', layer.folder.blob);
    k += n;
  }
  return bytes;
}

const down = (at: number): number => Math.floor(at / BLOCK) * BLOCK;
const up = (at: number): number => Math.ceil(at / BLOCK) * BLOCK;

/**
 * Empties a layer that is not being loaded, down to `keep` bytes. Servers that look at its map may be reading it; nobody else may:
 * the kernel's page cache, and who has the blob open for it, would have zeros where content was.
 * @param isRead whether anybody has the blob open but those servers. Absent: there are none.
 * @returns bytes given back. @throws LoadError when somebody relies on its content.
 */
export async function evictIdle(
  folder: LayerFolder,
  keep: number,
  isRead: () => boolean | Promise<boolean> = () => isBlobOpen(folder),
): Promise<number> {
  const lock = lockLayer(folder);
  const hold = openSync(folder.meta, 'r');
  const wasComplete = folder.isComplete;
  let taken = false;
  try {
    // Whoever reads the blob without looking at the map has a shared lock.
    if (lockFile(hold) < 0) throw inUse(folder);
    if (wasComplete) {
      // Of a layer that was built here there may be no map yet, and this word is all that says what is in its blob.
      openLocked(folder, lock).close();
      // Whoever is about to have the kernel mount it opens the blob and looks for the word behind that: either of us sees the other.
      unmarkComplete(folder);
    }
    if (await isRead()) throw inUse(folder);
    const layer = openLocked(folder, lock);
    try {
      const victims = chooseVictims(layer, keep, recordedUse(layer), () => false);
      taken = victims.length > 0;
      return evict(layer, victims);
    } finally {
      layer.close();
    }
  } finally {
    if (wasComplete && !taken) markComplete(folder);
    closeSync(hold);
    closeSync(lock);
  }
}

/** Nobody has noted when its chunks were used: what was recorded as used first is what the next start will want. */
function recordedUse({ folder, table }: LoadedLayer): (i: number) => number {
  const use = new Uint32Array(table.count);
  const order = readOrder(folder.order, table.count);
  for (const [k, i] of order.entries()) use[i] = Math.max(use[i] as number, order.length - k);
  return (i) => use[i] as number;
}

const openLocked = (folder: LayerFolder, lock: number): LoadedLayer =>
  LoadedLayer.open(folder, undefined, check(duplicate(lock), 'dup', folder.lock));

function isBlobOpen(folder: LayerFolder): boolean {
  const blob = openSync(folder.blob, 'r+');
  try {
    return isOpenElsewhere(blob);
  } finally {
    closeSync(blob);
  }
}

const inUse = (folder: LayerFolder): LoadError =>
  new LoadError(
    `${folder.path}: is in use by somebody who would not notice: a mount of the kernel or of another user, or a command: unmount it first`,
  );
