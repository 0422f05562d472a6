// Two deltas as one: what the lower layer changes, and then the upper one.
// Used where layers become one layer; putting the result over a registry gives what both in turn give.
// Also a full registry as a delta, for a prefix that is stacked over another one.

import {
  creates,
  type HiveDelta,
  isBelowOneOf,
  type KeyDelta,
  NOTHING,
  optionsOf,
  type RegistryDelta,
  tombstonesOf,
} from './delta.js';
import { type Hive, parentOf, type Registry, type RegistryValue } from './hive.js';

/** Applying the result is applying `lower`, then `upper`. */
export function compose(lower: RegistryDelta, upper: RegistryDelta): RegistryDelta {
  return {
    system: composeHives(lower.system, upper.system),
    user: composeHives(lower.user, upper.user),
    userdef: composeHives(lower.userdef, upper.userdef),
  };
}

/** A whole registry as a layer: it sets everything that it has, and deletes nothing. */
export function deltaOfFull(full: Registry): RegistryDelta {
  return {
    system: deltaOfHive(full.system),
    user: deltaOfHive(full.user),
    userdef: deltaOfHive(full.userdef),
  };
}

function composeHives(lower: HiveDelta, upper: HiveDelta): HiveDelta {
  if (lower.size === 0) return upper;
  if (upper.size === 0) return lower;
  const dead = tombstonesOf(upper);
  const all = new Map<string, KeyDelta>();
  const parents = new Map<string, KeyDelta>();
  for (const [folded, entry] of lower) {
    const top = topmostOf(folded, dead);
    if (top === undefined) all.set(folded, entry);
    else if (creates(entry)) keepParent(top, entry.path, parents);
  }
  for (const [folded, entry] of upper) {
    const before = all.get(folded);
    all.set(folded, before === undefined ? entry : together(before, entry));
  }
  for (const [folded, entry] of parents) {
    const there = all.get(folded);
    all.set(folded, there === undefined ? entry : { ...there, present: true });
  }
  return withoutIdle(all);
}

/** The highest tombstone at or above a path. */
function topmostOf(folded: string, dead: ReadonlySet<string>): string | undefined {
  if (dead.size === 0) return undefined;
  let top: string | undefined;
  for (let at: string | undefined = folded; at !== undefined; at = parentOf(at)) {
    if (dead.has(at)) top = at;
  }
  return top;
}

/** What the lower layer made below a key, and the upper one deletes, leaves the key above it. */
function keepParent(top: string, path: string, parents: Map<string, KeyDelta>): void {
  const parent = parentOf(top);
  if (parent === undefined || parent === '') return;
  const present = true;
  parents.set(parent, {
    path: path.slice(0, parent.length),
    present,
    set: NOTHING,
    removed: NOTHING,
  });
}

/** Both entries of one key, which the upper layer does not delete. */
function together(lower: KeyDelta, upper: KeyDelta): KeyDelta {
  const set = new Map<string, RegistryValue>(lower.set);
  for (const folded of upper.removed.keys()) set.delete(folded);
  for (const [folded, value] of upper.set) set.set(folded, value);
  const removed = new Map<string, string>();
  for (const [folded, name] of [...lower.removed, ...upper.removed]) {
    if (!set.has(folded)) removed.set(folded, name);
  }
  const options = upper.options ?? lower.options;
  const stamp = upper.stamp ?? lower.stamp;
  return {
    path: upper.path,
    ...(lower.deleted && { deleted: true }),
    ...((lower.present || upper.present || creates(lower)) && { present: true }),
    ...(stamp && { stamp }),
    ...(options && { options }),
    set,
    removed,
  };
}

/** Without what changes nothing: tombstones below others, values removed from a key that stands anew. */
function withoutIdle(delta: Map<string, KeyDelta>): HiveDelta {
  const dead = tombstonesOf(delta);
  if (dead.size === 0) return delta;
  for (const [folded, entry] of delta) {
    const isAnew = isBelowOneOf(folded, dead);
    if (!isAnew && !entry.deleted) continue;
    if (!creates(entry)) {
      if (isAnew) delta.delete(folded);
      else if (entry.removed.size > 0) delta.set(folded, { ...entry, removed: NOTHING });
      continue;
    }
    const { deleted, ...rest } = entry;
    if (isAnew) delta.set(folded, { ...rest, removed: NOTHING });
    else delta.set(folded, { ...entry, removed: NOTHING });
  }
  return delta;
}

function deltaOfHive(hive: Hive): HiveDelta {
  const delta = new Map<string, KeyDelta>();
  for (const [folded, key] of hive.keys) {
    const options = optionsOf(key.options);
    delta.set(folded, {
      path: key.path,
      present: true,
      ...(key.stamp && { stamp: key.stamp }),
      ...(options.length > 0 && { options }),
      set: key.values,
      removed: NOTHING,
    });
  }
  return delta;
}
