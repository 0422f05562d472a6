// The further names of hard-linked objects of lowers, as paths of the union.
// Called by changes.ts and delta.ts when link counts say that there are some to be found: then, and only then, whole lowers are read.
// A name is a path of a layer first; the way to the path that it has now leads over renamed directories.

import type { Change } from './change.js';
import type { Place, Union } from './union.js';

/** An object whose names are to be found. */
export interface Wanted {
  /** What the caller calls it. */
  readonly id: string;
  /** One of its names without the upper. */
  readonly lower: Pick<Place, 'seen' | 'spots'>;
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
  const found: FurtherName[] = [];
  const moved = changes.filter(({ status }) => status === 'R');
  const byLayer = new Map<number, Map<string, string>>();
  for (const { id, lower } of wanted) {
    const { layer } = lower.spots[0];
    const ids = byLayer.get(layer) ?? new Map<string, string>();
    byLayer.set(layer, ids.set(lower.seen.id, id));
  }
  for (const [layer, ids] of byLayer) {
    const names =
      before.layers[layer]?.namesOf?.(new Set(ids.keys())) ?? new Map<string, string[]>();
    for (const [lowerId, paths] of names) {
      for (const path of paths) {
        const was = before.at(path);
        // Where a layer above has moved or hidden it, the union has it under another name, or not at all.
        if (was === undefined || was.seen.id !== lowerId || was.spots[0].layer !== layer) continue;
        found.push({ id: ids.get(lowerId) as string, was, path: pathNow(path, moved) });
      }
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
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
