// When a directory gets an index of its names (dir-index.ts), and where it is kept.
// Asked by lookup.ts before it asks the layers; listings, which see every name anyway, give theirs.

import type { Layer } from '../layer/layer.js';
import { F, get } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { type DirIndex, DirIndexBuilder } from './dir-index.js';
import { layerFor, stackAt } from './stacks.js';

/** Lookups in one directory, times its layers, that justify listing it. */
const INDEX_AFTER = 32;

/** The directory's index; built when enough lookups have asked for it; undefined when there is none. */
export function indexFor(o: Overlay, parent: number, lowers: number): DirIndex | undefined {
  const index = o.indexes.get(parent);
  if (index !== undefined) return index;
  if (lowers === 1 && get(parent, F.upper) === 0 && !o.config.aufsWhiteouts) return undefined;
  const misses = (o.misses.get(parent) ?? 0) + Math.max(lowers, 1);
  if (misses < INDEX_AFTER) {
    o.misses.set(parent, misses);
    return undefined;
  }
  const built = buildIndex(o, parent, lowers);
  setIndex(o, parent, built);
  return built;
}

/** Lists the directory in every layer. @returns undefined when one cannot be listed, or there are too many names. */
function buildIndex(o: Overlay, parent: number, lowers: number): DirIndex | undefined {
  const builder = new DirIndexBuilder();
  const upperDir = get(parent, F.upper);
  if (upperDir !== 0) {
    const r = (o.upper as Layer).list(upperDir, (name, length) => builder.add(-1, name, length));
    if (r < 0) return undefined;
  }
  for (let i = 0; i < lowers; i++) {
    const dir = stackAt(parent, i);
    const r = layerFor(o, dir).list(dir, (name, length) => builder.add(i, name, length));
    if (r < 0) return undefined;
  }
  return builder.finish();
}

/** Keeps a directory's index; without one it is not tried again. */
export function setIndex(o: Overlay, parent: number, index: DirIndex | undefined): void {
  if (index === undefined) {
    o.misses.set(parent, Number.NEGATIVE_INFINITY);
    return;
  }
  o.misses.delete(parent);
  o.indexes.set(parent, index);
}
