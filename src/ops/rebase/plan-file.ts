// What becomes of one file, symlink or other object that is no directory.
// Asked by plan.ts for each name of the upper; three-way.ts merges, plan-state.ts keeps conflicts.
// The table of decisions: docs/rebase.md.

import { makeNode, type TreeNode } from '../../tree/tree.js';
import type { Place } from '../../union/union.js';
import type { Group } from './links.js';
import {
  bare,
  existence,
  type Item,
  nothing,
  type PlanState,
  replacement,
  type Three,
  typeOf,
} from './plan-state.js';
import { mergeObjects } from './three-way.js';
import { identityOf, isSameObject, isSameTree, sideOf } from './versions.js';

export function planFile(state: PlanState, three: Three): Item {
  const { place, base, theirs, moved, folder, name } = three;
  const { base: old, theirs: now } = state.versions;
  if (moved && state.coversNew(three) === 'theirs') return nothing(true);
  const type = typeOf(place);
  const hadType = base === undefined ? undefined : typeOf(base);
  const hasType = theirs === undefined ? undefined : typeOf(theirs);
  if (theirs === undefined) {
    if (base === undefined) return keep(state, three);
    if (!moved && hadType === type && !state.isNews(place)) {
      state.decide(place.path, 'dropped');
      return nothing(false);
    }
    const clash = existence(moved ? 'renamed' : 'changed', 'deleted');
    if (state.clash(folder, name, [clash], undefined) === 'theirs') return nothing(false);
    return keep(state, three, true);
  }
  if (hasType === type && (hadType === type || base === undefined))
    return merge(state, three, theirs);
  if (hadType === type && !moved && !state.isNews(place)) {
    state.decide(place.path, 'dropped');
    return nothing(true);
  }
  if (base !== undefined && hadType !== type && isSameTree(old, now, base, theirs)) {
    return keep(state, three);
  }
  if (hasType === type && isSameObject(state.versions.ours, now, place, theirs)) {
    state.decide(place.path, 'dropped');
    return nothing(true);
  }
  if (state.clash(folder, name, [replacement(place, theirs)], theirs) === 'theirs') {
    return nothing(true);
  }
  return keep(state, three, true);
}

/** All three, or both, are objects of one type. */
function merge(state: PlanState, three: Three, theirs: Place): Item {
  const { place, base, moved, folder, name } = three;
  const { base: old, ours, theirs: now } = state.versions;
  const merged = mergeObjects(base && sideOf(old, base), sideOf(ours, place), sideOf(now, theirs), {
    favour: state.favour,
    lines: state.options.lines,
  });
  if (merged.clashes.length > 0) {
    const other = merged.clashes.some(({ aspect }) => aspect === 'content') ? theirs : undefined;
    state.clash(folder, name, merged.clashes, other);
  }
  if (merged.isTheirs && !moved && mayDrop(state, place)) {
    if (merged.clashes.length === 0) state.decide(place.path, 'dropped');
    return nothing(true);
  }
  if (merged.clashes.length === 0) {
    state.decide(
      place.path,
      merged.hasTheirs ? 'merged' : 'kept',
      moved ? three.source : undefined,
    );
  }
  return shared(state, three, () => {
    const isMetacopy =
      place.marks.metacopy && merged.content === 'theirs' && theirs.seen.node.size > 0;
    const node = makeNode(merged.node.mode, merged.node);
    if (isMetacopy && state.marker.mayStayMetacopy(place)) {
      node.content = undefined;
      const { redirect } = place.marks;
      state.marker.mark(node, place, { metacopy: true, redirect, origin: theirs, base });
    } else {
      if (merged.content === 'ours') node.content = ownContent(state, place);
      state.marker.mark(node, place, { origin: theirs, base });
    }
    return node;
  });
}

/** @param isDecided it was said already what becomes of it. */
function keep(state: PlanState, three: Three, isDecided = false): Item {
  const { place, base, theirs } = three;
  if (!isDecided) state.decide(place.path, 'kept');
  return shared(state, three, () => {
    const node = bare(state.versions.ours.union.node(place));
    node.content = ownContent(state, place);
    const origin = theirs !== undefined && typeOf(theirs) === typeOf(place) ? theirs : undefined;
    state.marker.mark(node, place, { origin, base });
    return node;
  });
}

/** The bytes of a file of the upper: its own, or those below that it stands for. */
function ownContent(state: PlanState, place: Place): TreeNode['content'] {
  return place.marks.metacopy
    ? state.versions.ours.union.node(place).content
    : place.seen.node.content;
}

/** One node for all names of an object that are decided alike. */
function shared(
  state: PlanState,
  { place, base, theirs, moved }: Three,
  make: () => TreeNode,
): Item {
  const { versions } = state;
  const seesNew = place.marks.metacopy && theirs !== undefined && !moved;
  if (place.seen.links < 2) return { kind: 'node', node: make(), seesNew };
  const key = [
    place.seen.id,
    identityOf(versions.base, base),
    identityOf(versions.theirs, theirs),
  ].join('\0\0');
  const known = state.linked.get(key);
  if (known !== undefined) return { kind: 'node', node: known, seesNew };
  const node = make();
  state.linked.set(key, node);
  state.ownObject(place);
  return { kind: 'node', node, seesNew };
}

/** Whether a copy that NEW makes superfluous may go: of an object with several names only when all of them may. */
function mayDrop(state: PlanState, place: Place): boolean {
  const group = state.groups.get(place.path);
  if (group === undefined) return true;
  group.mayDrop ??= mayDropAll(state, group);
  return group.mayDrop;
}

function mayDropAll(state: PlanState, { members }: Group): boolean {
  const { base: old, ours, theirs: now } = state.versions;
  const targets = new Set<string>();
  for (const { path, from, before } of members) {
    const place = ours.union.at(path);
    const base = before && old.union.at(from ?? path);
    const theirs = now.union.at(from ?? path);
    if (place === undefined || base === undefined || theirs === undefined) return false;
    if (typeOf(place) !== typeOf(theirs) || typeOf(place) !== typeOf(base)) return false;
    const options = { favour: state.favour, lines: false };
    const sides = [sideOf(old, base), sideOf(ours, place), sideOf(now, theirs)] as const;
    if (!mergeObjects(...sides, options).isTheirs) return false;
    targets.add(identityOf(now, theirs));
  }
  return targets.size === 1;
}
