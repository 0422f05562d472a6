// The further names of hard-linked objects of lowers, as paths of the union.
// Called by changes.ts and delta.ts when link counts say that there are some to be found: then, and only then, whole lowers are read.
// A name is a path of a layer first; the way to the path that it has now leads over renamed directories.

import { isDirectory } from '../tree/tree.js';
import type { Change } from './change.js';
import type { Place, Union } from './union.js';

/** An object whose names are to be found. */
export interface Wanted {
  /** What the caller calls it. */
  readonly id: string;
  /** Position of its layer in the stack without the upper, and Seen.id there. */
  readonly layer: number;
  readonly lowerId: string;
}

export interface FurtherName {
  readonly id: string;
  /** The name without the upper. */
  readonly was: Place;
  /** Where it is now, if it was not removed or replaced. */
  readonly path: string;
}

/**
 * All names, also those that are known, in byte order.
 * @param before the stack without its upper. @param changes of the upper. @throws SysError, ErofsError.
 */
export function findNames(
  before: Union,
  wanted: readonly Wanted[],
  changes: readonly Change[],
): FurtherName[] {
  const moved = changes.filter(({ status }) => status === 'R');
  const found: FurtherName[] = [];
  const byLayer = new Map<number, Map<string, string>>();
  for (const { id, layer, lowerId } of wanted) {
    const ids = byLayer.get(layer) ?? new Map<string, string>();
    byLayer.set(layer, ids.set(lowerId, id));
  }
  for (const [layer, ids] of byLayer) {
    for (const was of namesIn(before, layer, ids)) {
      const id = ids.get(was.seen.id) as string;
      found.push({ id, was, path: pathNow(was.path, moved) });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Everything that the union shows of these objects of a layer. */
function namesIn(union: Union, layer: number, ids: ReadonlyMap<string, string>): Place[] {
  const isIt = (place: Place | undefined): place is Place =>
    place !== undefined && place.spots[0].layer === layer && ids.has(place.seen.id);
  const paths = [...(union.layers[layer]?.namesOf?.(new Set(ids.keys())).values() ?? [])].flat();
  const places = paths.map((path) => union.at(path));
  if (places.every(isIt)) return places.filter(isIt);
  // A layer above has hidden or renamed something: it may show under a path that no layer has.
  const found: Place[] = [];
  const pending = [union.root()];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    for (const place of union.children(dir)) {
      if (isDirectory(place.seen.node)) pending.push(place);
      else if (isIt(place)) found.push(place);
    }
  }
  return found;
}

/** The path that something below a renamed directory has now. */
function pathNow(path: string, moved: readonly Change[]): string {
  let best: Change | undefined;
  for (const change of moved) {
    const { from = '' } = change;
    if (path.startsWith(`${from}/`) && from.length > (best?.from?.length ?? -1)) best = change;
  }
  return best === undefined ? path : best.path + path.slice((best.from as string).length);
}
