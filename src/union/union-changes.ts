// What differs between two unions, in the form of what an upper has changed.
// For stacks that may share layers: what both have from the same layers is neither walked nor read.
// As tree-changes.ts does for trees in memory; both are walked together in byte order.

import { nameOf } from '../tree/path.js';
import { isDirectory } from '../tree/tree.js';
import type { Change } from './change.js';
import { SAME } from './compare.js';
import { compared } from './tree-changes.js';
import type { Place, Spot, Union } from './union.js';

/** A directory of both unions that is being walked. */
interface Level {
  readonly before: ReadonlyMap<string, Place>;
  readonly after: ReadonlyMap<string, Place>;
  readonly names: readonly string[];
  next: number;
}

/** All that differs, a directory before what is in it. @throws SysError, TreeError, ErofsError, or the error of a content. */
export function unionChanges(before: Union, after: Union): Change[] {
  const changes: Change[] = [];
  const levels: Level[] = [];
  const linked = new Map<string, Change>();
  const shares = sharing(before, after);

  const enter = (was: Place | undefined, now: Place): void => {
    if (was !== undefined && shares(was, now)) return;
    const id = now.seen.links > 1 && !isDirectory(now.seen.node) ? after.identity(now) : '';
    const first = id === '' ? undefined : linked.get(id);
    const old = was && before.node(was);
    const sameBytes =
      was !== undefined && sameSpot(before, before.bytesOf(was), after, after.bytesOf(now));
    const change = compared(now.path, old, first?.after ?? after.node(now), first, sameBytes);
    if (id !== '' && first === undefined) linked.set(id, change);
    if (change.status !== '=' || change.differs.time) changes.push(change);
    if (isDirectory(now.seen.node)) open(was, now);
  };
  const open = (was: Place | undefined, now: Place | undefined): void => {
    const old = byName(before, was);
    const own = byName(after, now);
    const names = [...new Set([...old.keys(), ...own.keys()])].sort();
    levels.push({ before: old, after: own, names, next: 0 });
  };

  enter(before.root(), after.root());
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.names[level.next++];
    if (name === undefined) {
      levels.pop();
      continue;
    }
    const was = level.before.get(name);
    const now = level.after.get(name);
    if (now !== undefined) enter(was, now);
    else if (was !== undefined) {
      const node = before.node(was);
      changes.push({ path: was.path, status: 'D', before: node, differs: SAME, stored: 0 });
      if (isDirectory(node)) open(was, undefined);
    }
    // What is a directory no longer loses what it had.
    const isGone = was !== undefined && now !== undefined && !isDirectory(now.seen.node);
    if (isGone && isDirectory(was.seen.node)) open(was, undefined);
  }
  return changes;
}

function byName(union: Union, place: Place | undefined): Map<string, Place> {
  if (place === undefined || !isDirectory(place.seen.node)) return new Map();
  return new Map(union.children(place).map((child) => [nameOf(child.path), child]));
}

/** Whether two objects are one and the same, with everything below them. */
function sharing(before: Union, after: Union): (was: Place, now: Place) => boolean {
  // Layers that both have at their ends: a redirect may lead into any that lies further below.
  let shared = 0;
  while (
    shared < Math.min(before.layers.length, after.layers.length) &&
    before.layers.at(-1 - shared)?.label === after.layers.at(-1 - shared)?.label
  ) {
    shared++;
  }
  const isDeep = (union: Union, { spots, data }: Place): boolean =>
    data === undefined && spots[0].layer >= union.layers.length - shared;
  return (was, now) =>
    isDeep(before, was) &&
    isDeep(after, now) &&
    was.spots.length === now.spots.length &&
    was.spots.every((spot, i) => sameSpot(before, spot, after, now.spots[i]));
}

function sameSpot(
  before: Union,
  was: Spot | undefined,
  after: Union,
  now: Spot | undefined,
): boolean {
  if (was === undefined || now === undefined || was.at !== now.at) return false;
  const label = before.layers[was.layer]?.label;
  return label !== undefined && label === after.layers[now.layer]?.label;
}
