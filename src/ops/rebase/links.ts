// Which changes are names of one object: what is decided for a hard link is decided for all of its names.
// Used by plan.ts; made of what union/changes.ts says.
// Follows: "Inode properties" of Documentation/filesystems/overlayfs.rst (hard links and index=on).

import type { Change } from '../../union/change.js';

/** The names of an object that has several. */
export interface Group {
  readonly members: readonly Change[];
  /** Where the lowers have the object, as far as one of its names tells. */
  readonly source: string | undefined;
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
