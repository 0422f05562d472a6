// What the objects of NEW are called in origin marks: file handle and filesystem, and the inode number where these do not tell it.
// Opened by rebase.ts for marker.ts; says what a copy-up over NEW would write.
// Follows: overlay/origin.ts (struct ovl_fb) and overlay/own-number.ts.

import type { Layer } from '../../layer/layer.js';
import { emptyPath } from '../../linux/files.js';
import { putBytes, u8 } from '../../linux/memory.js';
import type { OverlayConfig } from '../../overlay/config.js';
import { shown } from '../../overlay/numbers.js';
import { numberFromStat } from '../../overlay/objects.js';
import { encodeOrigin, tellsEverywhere } from '../../overlay/origin.js';
import { announcementBytes, ownNumberBytes } from '../../overlay/own-number.js';
import { LISTED_NAME, ORIGIN } from '../../overlay/work.js';
import { isDirectory } from '../../tree/tree.js';
import type { Place } from '../../union/union.js';
import type { Origin } from './marker.js';

/** @param config of the stack over NEW; its lowers stand in the order of the union that places are of. */
export function originOf(config: OverlayConfig, theirs: Place): Origin | undefined {
  const [{ layer: position, at }] = theirs.spots;
  const layer = config.lowers[position];
  if (layer === undefined) return undefined;
  const names = at === '' ? [] : at.split('/');
  const last = isDirectory(theirs.seen.node) ? undefined : names.pop();
  const dir = enter(layer, names);
  if (dir === 0) return undefined;
  try {
    return tell(config, layer, dir, last);
  } finally {
    if (dir !== layer.root) layer.release(dir);
  }
}

function tell(
  config: OverlayConfig,
  layer: Layer,
  dir: number,
  last: string | undefined,
): Origin | undefined {
  const name = (): number => {
    if (last === undefined) return emptyPath();
    putBytes(LISTED_NAME, last);
    return LISTED_NAME;
  };
  const mode = last === undefined ? layer.statDir(dir) : layer.stat(dir, name());
  if (mode < 0) return undefined;
  numberFromStat(layer);
  const { lo, hi } = shown;
  const length = Math.max(0, encodeOrigin(layer, dir, name()));
  const mark = u8.slice(ORIGIN, ORIGIN + length);
  if (tellsEverywhere(config.lowers, length, lo, hi)) return { mark };
  shown.lo = lo;
  shown.hi = hi;
  return { mark, number: ownNumberBytes(), announced: announcementBytes() };
}

/** The record of a directory, with one reference for the caller unless it is the root; 0: there are too many. */
function enter(layer: Layer, names: readonly string[]): number {
  let dir = layer.root;
  for (const name of names) {
    const length = putBytes(LISTED_NAME, name);
    const next = layer.enter(dir, LISTED_NAME, length);
    if (dir !== layer.root) layer.release(dir);
    if (next === 0) return 0;
    dir = next;
  }
  return dir;
}
