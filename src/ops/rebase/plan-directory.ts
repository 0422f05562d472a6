// What becomes of one directory of the upper: merged with that of NEW, alone, or a copy of all that was seen in it.
// Asked by plan.ts, which looks at the entries.
// The table of decisions: docs/rebase.md. Marks: Documentation/filesystems/overlayfs.rst.

import { isDirectory, type TreeNode } from '../../tree/tree.js';
import { compareNodes } from '../../union/compare.js';
import { fill } from '../../union/flat.js';
import type { Place } from '../../union/union.js';
import type { Work } from '../../union/work.js';
import {
  bare,
  existence,
  type Folder,
  type Item,
  nothing,
  type PlanState,
  replacement,
  type Three,
} from './plan-state.js';
import { mergeObjects } from './three-way.js';
import { isSameObject, sideOf } from './versions.js';

/** Puts what is to be there into a new directory. @returns how it goes together with NEW. */
export type FillIn = (folder: Folder, into: TreeNode) => Work<Filled>;

export interface Filled {
  /** It hides what NEW has there. */
  readonly opaque: boolean;
  readonly isEmpty: boolean;
}

export function* planDirectory(state: PlanState, three: Three, fillIn: FillIn): Work<Item> {
  const { place, base, theirs, moved, folder, name } = three;
  const { base: old, ours, theirs: now } = state.versions;
  if (moved && state.coversNew(three) === 'theirs') return nothing(true);
  const wasDir = base !== undefined && isDirectory(base.seen.node);
  const isDir = theirs !== undefined && isDirectory(theirs.seen.node);
  if (isDir) return yield* inNew(state, three, theirs, fillIn);
  if (moved) {
    const clash = existence('renamed', theirs === undefined ? 'deleted' : 'replaced');
    if (state.clash(folder, name, [clash], theirs) === 'theirs') return nothing(false);
    return whole(state, place);
  }
  if (base === undefined && theirs === undefined) return yield* alone(state, three, fillIn);
  if (!wasDir) {
    if (base !== undefined && theirs !== undefined && isSameObject(old, now, base, theirs)) {
      return yield* alone(state, three, fillIn);
    }
    const clash = replacement(place, theirs);
    if (state.clash(folder, name, [clash], theirs) === 'theirs')
      return nothing(theirs !== undefined);
    return yield* alone(state, three, fillIn);
  }
  // NEW has the directory no more. What was not changed here goes with it; what was is not lost.
  const conflicts = state.conflicts;
  const kept = yield* alone(state, three, fillIn);
  const node = kept.kind === 'node' ? kept.node : undefined;
  const { mode, owner, xattr } = compareNodes(old.union.node(base), ours.union.node(place));
  const isChanged = mode || owner || xattr || (node?.entries?.size ?? 0) > 0;
  if (!isChanged) {
    state.decide(place.path, 'dropped');
    return nothing(theirs !== undefined);
  }
  if (state.conflicts === conflicts || theirs !== undefined) {
    const clash =
      theirs === undefined ? existence('changed', 'deleted') : replacement(place, theirs);
    if (state.clash(folder, name, [clash], theirs) === 'theirs')
      return nothing(theirs !== undefined);
  }
  return kept;
}

/** Both have a directory there: attributes are merged, entries looked at one by one. */
function* inNew(state: PlanState, three: Three, theirs: Place, fillIn: FillIn): Work<Item> {
  const { place, base, moved, source } = three;
  const isDir = base !== undefined && isDirectory(base.seen.node);
  const below = isDir ? base : undefined;
  const folder: Folder = {
    place,
    source,
    base: below,
    theirs,
    shows: place.spots.length > 1,
    beside: new Map(),
  };
  const node = attributesOf(state, { ...three, base: below });
  const { opaque, isEmpty } = (yield fillIn(folder, node)) as Filled;
  const isTheirs = isSameAttributes(node, state.versions.theirs.union.node(theirs));
  if (isEmpty && isTheirs && !opaque && !moved) {
    state.decide(place.path, 'dropped');
    return nothing(true);
  }
  const redirect = opaque ? undefined : place.marks.redirect;
  state.marker.mark(node, place, { opaque, redirect, origin: theirs });
  return { kind: 'node', node, seesNew: !opaque && !moved };
}

/** A directory with nothing of NEW in it. */
function* alone(state: PlanState, three: Three, fillIn: FillIn): Work<Item> {
  const { place, base, source } = three;
  const node = bare(state.versions.ours.union.node(place));
  const folder: Folder = {
    place,
    source,
    base: base !== undefined && isDirectory(base.seen.node) ? base : undefined,
    theirs: undefined,
    shows: place.spots.length > 1,
    beside: new Map(),
  };
  const { opaque } = (yield fillIn(folder, node)) as Filled;
  state.marker.mark(node, place, { opaque });
  if (base === undefined) state.decide(place.path, 'kept');
  return { kind: 'node', node, seesNew: false };
}

/** All that is seen of a directory, from wherever it comes. */
function whole(state: PlanState, place: Place): Item {
  const { ours } = state.versions;
  const node = fill(ours.union, place, state.linked);
  state.marker.markAll(node);
  state.marker.makeOpaque(node);
  return { kind: 'node', node, seesNew: false };
}

/** The attributes of a directory that both have; the result has no entries. */
export function attributesOf(
  state: PlanState,
  { place, base, theirs, folder, name }: Three,
): TreeNode {
  const { base: old, ours, theirs: now } = state.versions;
  const merged = mergeObjects(
    base && sideOf(old, base),
    sideOf(ours, place),
    sideOf(now, theirs as Place),
    { favour: state.favour, lines: false },
  );
  if (merged.clashes.length > 0) state.clash(folder, name, merged.clashes, undefined);
  else if (base !== undefined) {
    const { mode, owner, xattr } = compareNodes(old.union.node(base), ours.union.node(place));
    if (mode || owner || xattr) state.decide(place.path, merged.hasTheirs ? 'merged' : 'kept');
  }
  return bare(merged.node);
}

function isSameAttributes(a: TreeNode, b: TreeNode): boolean {
  const { mode, owner, xattr } = compareNodes(a, b, true);
  return !mode && !owner && !xattr;
}
