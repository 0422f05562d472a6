// What has changed between two registries, as a delta: what below says, what the prefix says now.
// Read after each session of Wine; apply.ts is the way back.
// Values are compared as type and bytes; times of keys, the case of names and implied keys are no change.

import { type HiveDelta, type KeyDelta, NOTHING, optionsOf, type RegistryDelta } from './delta.js';
import {
  type Hive,
  impliedKeys,
  parentOf,
  type Registry,
  type RegistryKey,
  type RegistryValue,
} from './hive.js';
import { sameText } from './parse.js';
import { isSameData } from './value.js';

export function diffRegistry(below: Registry, now: Registry): RegistryDelta {
  return {
    system: diffHives(below.system, now.system),
    user: diffHives(below.user, now.user),
    userdef: diffHives(below.userdef, now.userdef),
  };
}

export function diffHives(below: Hive, now: Hive): HiveDelta {
  const delta = new Map<string, KeyDelta>();
  if (below.keys === now.keys) return delta;
  for (const [folded, key] of now.keys) {
    const lower = below.keys.get(folded);
    if (lower !== undefined && sameText(lower, key)) continue;
    const isNew = lower === undefined && !impliedKeys(below.keys).has(folded);
    const hasLostChildren = lower === undefined && !impliedKeys(now.keys).has(folded);
    const entry = changeOf(lower, key, isNew || hasLostChildren);
    if (entry !== undefined) delta.set(folded, entry);
  }
  for (const [folded, key] of below.keys) {
    if (now.keys.has(folded)) continue;
    if (impliedKeys(now.keys).has(folded)) {
      const entry = changeOf(key, undefined, false);
      if (entry !== undefined) delta.set(folded, entry);
    } else {
      const top = topmostMissing(folded, now, impliedKeys(now.keys));
      if (!delta.has(top)) delta.set(top, tombstone(key.path.slice(0, top.length)));
    }
  }
  return delta;
}

/** @param isPresent the key is there now, and would not be by what lies below */
function changeOf(
  lower: RegistryKey | undefined,
  upper: RegistryKey | undefined,
  isPresent: boolean,
): KeyDelta | undefined {
  const before: ReadonlyMap<string, RegistryValue> = lower?.values ?? NOTHING;
  const after: ReadonlyMap<string, RegistryValue> = upper?.values ?? NOTHING;
  const set = new Map<string, RegistryValue>();
  const removed = new Map<string, string>();
  for (const [folded, value] of after) {
    const old = before.get(folded);
    if (old === undefined || !isSameData(old.data, value.data)) set.set(folded, value);
  }
  for (const [folded, value] of before) if (!after.has(folded)) removed.set(folded, value.name);
  const options = changedOptions(lower?.options ?? [], upper?.options ?? []);
  if (!isPresent && set.size === 0 && removed.size === 0 && options === undefined) return undefined;
  return {
    path: (upper ?? lower)!.path,
    ...(isPresent && { present: true }),
    ...(upper?.stamp && { stamp: upper.stamp }),
    ...(options && { options }),
    set,
    removed,
  };
}

function changedOptions(
  before: readonly string[],
  after: readonly string[],
): readonly string[] | undefined {
  const options = optionsOf(after);
  return optionsOf(before).join('\n') === options.join('\n') ? undefined : options;
}

const tombstone = (path: string): KeyDelta => ({
  path,
  deleted: true,
  set: NOTHING,
  removed: NOTHING,
});

/** The highest key on the way to one that is gone, which is gone as well. */
function topmostMissing(folded: string, now: Hive, implied: ReadonlySet<string>): string {
  for (;;) {
    const parent = parentOf(folded);
    if (parent === undefined || now.keys.has(parent) || implied.has(parent)) return folded;
    folded = parent;
  }
}
