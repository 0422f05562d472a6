// Which changes are names of one object: what is decided for a hard link is decided for all of its names.
// Used by plan.ts; made of what union/changes.ts says.
// Follows: "Inode properties" of Documentation/filesystems/overlayfs.rst (hard links and index=on).

import type { Change } from '../../union/change.js';
import type { Place, Union } from '../../union/union.js';
import type { Handle } from '../../union/view.js';

/** The names of an object that has several. */
export interface Group {
  readonly members: readonly Change[];
  /** Where the lowers have the object, as far as one of its names tells. */
  readonly source: string | undefined;
  /** Where they have it although a name tells otherwise: one that was linked over another file; as `copiedFrom` has it. */
  copied?: { readonly from: string | undefined };
  /** Whether all of its names may go from the upper; undefined: nobody has asked. */
  mayDrop?: boolean;
}

/** By the path of each of its names. */
export function groupsOf(changes: readonly Change[]): ReadonlyMap<string, Group> {
  const byFirst = new Map<string, Change[]>();
  const byPath = new Map<string, Change>();
  for (const change of changes) {
    if (change.after === undefined || change.after.entries !== undefined) continue;
    byPath.set(change.path, change);
    if (change.link === undefined) continue;
    const members = byFirst.get(change.link);
    if (members !== undefined) members.push(change);
    else byFirst.set(change.link, [change]);
  }
  const groups = new Map<string, Group>();
  for (const [first, others] of byFirst) {
    const leader = byPath.get(first);
    const members = leader === undefined ? others : [leader, ...others];
    const known = members.find(({ before }) => before !== undefined);
    const source = known && (known.from ?? known.path);
    const group: Group = { members, source };
    for (const { path } of members) groups.set(path, group);
  }
  return groups;
}

/**
 * Which of several objects of the lowers, each under a name that is one object's now, this was copied from; the others
 * were covered. undefined: they are one there, too, or nothing tells.
 * @param place one of the names. @param base the lowers.
 */
export function copiedFrom(group: Group, place: Place, base: Union): string | undefined {
  group.copied ??= { from: findSource(group.members, place.marks.origin, base) };
  return group.copied.from;
}

function findSource(
  members: readonly Change[],
  origin: Handle | undefined,
  base: Union,
): string | undefined {
  const places = new Map<string, Place>();
  for (const { before, from, path } of members) {
    const place = before === undefined ? undefined : base.at(from ?? path);
    if (place === undefined) continue;
    const id = base.identity(place);
    if (!places.has(id)) places.set(id, place);
  }
  if (places.size < 2) return undefined;
  for (const { path, spots } of places.values()) {
    const [spot] = spots;
    const handle = origin && base.layers[spot.layer]?.handle(spot.at);
    if (handle !== undefined && isEqual(handle, origin as Handle)) return path;
  }
  return members.find(({ status }) => status === 'R')?.from;
}

const isEqual = (a: Handle, b: Handle): boolean =>
  a.type === b.type && Buffer.from(a.bytes).equals(b.bytes);
