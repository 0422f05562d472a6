// The three versions of a stack that a rebase looks at, and how objects of two of them are held against each other.
// Opened by rebase.ts, asked by plan.ts: OLD is the base, OLD with the upper is ours, NEW is theirs.
// What is not compared: times, inode numbers, and which files are hard links.

import { S } from '../../linux/constants.js';
import { nameOf } from '../../tree/path.js';
import { isDirectory } from '../../tree/tree.js';
import { compareNodes, hasSameXattrs } from '../../union/compare.js';
import type { Place, Spot, Union } from '../../union/union.js';
import type { LayerView } from '../../union/view.js';
import type { Side } from './three-way.js';

/** A union, and what each of its layers is called: the same name is the same layer. */
export interface Version {
  readonly union: Union;
  /** By position in the union, data-only layers behind the others. */
  readonly names: readonly string[];
}

export interface Versions {
  readonly base: Version;
  readonly ours: Version;
  readonly theirs: Version;
  readonly upper: LayerView;
  /** `.wh.` files are whiteouts, too. */
  readonly aufs: boolean;
}

function spotName({ names }: Version, { layer, at }: Spot): string {
  return `${names[layer]}\0${at}`;
}

/** An object as one side of a merge. */
export function sideOf(version: Version, place: Place): Side {
  const { union } = version;
  const spot = union.bytesOf(place);
  const node = union.node(place);
  return spot === undefined ? { node } : { node, bytes: spotName(version, spot) };
}

/** Of hard links the same, over all versions. */
export function identityOf({ names }: Version, place: Place | undefined): string {
  return place === undefined ? '' : `${names[place.spots[0].layer]}\0${place.seen.id}`;
}

/** Whether two versions have the same at two places: of directories all that is in them. @throws as the unions. */
export function isSameTree(a: Version, b: Version, from: Place, other: Place): boolean {
  const pending: [Place, Place][] = [[from, other]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [one, two] = next;
    if (hasSameSpots(a, b, one, two)) continue;
    if (!isSameObject(a, b, one, two)) return false;
    if (!isDirectory(one.seen.node)) continue;
    const left = a.union.children(one);
    const right = b.union.children(two);
    if (left.length !== right.length) return false;
    for (const [i, child] of left.entries()) {
      const twin = right[i] as Place;
      if (nameOf(child.path) !== nameOf(twin.path)) return false;
      pending.push([child, twin]);
    }
  }
  return true;
}

/** Whether two places are made of the same parts of the same layers: then all below them is the same. */
function hasSameSpots(a: Version, b: Version, one: Place, two: Place): boolean {
  if (one.spots.length !== two.spots.length || one.data?.at !== two.data?.at) return false;
  if (one.data !== undefined && two.data !== undefined) {
    if (spotName(a, one.data) !== spotName(b, two.data)) return false;
  }
  return one.spots.every((spot, i) => spotName(a, spot) === spotName(b, two.spots[i] as Spot));
}

/** The same for the objects alone, without what is in a directory. */
export function isSameObject(a: Version, b: Version, one: Place, two: Place): boolean {
  const left = sideOf(a, one);
  const right = sideOf(b, two);
  if ((left.node.mode & S.IFMT) !== (right.node.mode & S.IFMT)) return false;
  const { mode, uid, gid, xattrs } = left.node;
  if (mode !== right.node.mode || uid !== right.node.uid || gid !== right.node.gid) return false;
  if (!hasSameXattrs(xattrs, right.node.xattrs)) return false;
  const sameBytes = left.bytes !== undefined && left.bytes === right.bytes;
  return !compareNodes(left.node, right.node, sameBytes).content;
}
