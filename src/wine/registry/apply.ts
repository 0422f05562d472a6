// A registry with a delta put over it.
// This is how layers merge: from the base upwards, one after the other; diff.ts finds the delta again.
// Keys that the delta does not touch stay the same objects, so that they are written with their very text.

import {
  creates,
  type HiveDelta,
  isBelowOneOf,
  type KeyDelta,
  optionsOf,
  type RegistryDelta,
  tombstonesOf,
} from './delta.js';
import {
  type Hive,
  impliedKeys,
  parentOf,
  type Registry,
  type RegistryKey,
  type RegistryValue,
} from './hive.js';
import { throughLinks } from './links.js';

export function applyDelta(below: Registry, delta: RegistryDelta): Registry {
  return {
    system: applyToHive(below.system, throughLinks('system', below.system, delta.system)),
    user: applyToHive(below.user, throughLinks('user', below.user, delta.user)),
    userdef: applyToHive(below.userdef, throughLinks('userdef', below.userdef, delta.userdef)),
  };
}

function applyToHive(below: Hive, delta: HiveDelta): Hive {
  if (delta.size === 0) return below;
  const kept = withoutDeleted(below.keys, delta);
  const added: [string, RegistryKey][] = [];
  for (const [folded, entry] of delta) {
    const lower = kept.get(folded);
    if (lower !== undefined) kept.set(folded, changed(lower, entry));
    else if (creates(entry)) added.push([folded, newKey(entry)]);
  }
  return { header: below.header, keys: added.length === 0 ? kept : inserted(kept, added) };
}

type Keys = Map<string, RegistryKey>;

/** A copy of the keys, without those that are deleted. What was there for their sake only stays, empty. */
function withoutDeleted(keys: ReadonlyMap<string, RegistryKey>, delta: HiveDelta): Keys {
  const dead = tombstonesOf(delta);
  if (dead.size === 0) return new Map(keys);
  const kept: Keys = new Map();
  for (const [folded, key] of keys) {
    if (!dead.has(folded) && !isBelowOneOf(folded, dead)) kept.set(folded, key);
  }
  const implied = impliedKeys(keys);
  const stillImplied = new Set(impliedKeys(kept));
  const orphaned: [string, RegistryKey][] = [];
  for (const folded of dead) {
    const parent = parentOf(folded);
    if (parent === undefined || parent === '' || stillImplied.has(parent)) continue;
    if (kept.has(parent) || dead.has(parent) || isBelowOneOf(parent, dead)) continue;
    if (!keys.has(folded) && !implied.has(folded)) continue;
    const path = delta.get(folded)!.path.slice(0, parent.length);
    orphaned.push([parent, { path, stamp: '', options: [], values: new Map() }]);
    stillImplied.add(parent);
  }
  // A new map: what is implied by one is computed once.
  return orphaned.length === 0 ? new Map(kept) : inserted(kept, orphaned);
}

function newKey(entry: KeyDelta): RegistryKey {
  const stamp = entry.stamp ?? '';
  const options = [...timeLine(stamp), ...(entry.options ?? [])];
  return { path: entry.path, stamp, options, values: inOrder(entry.set) };
}

function changed(lower: RegistryKey, entry: KeyDelta): RegistryKey {
  if (entry.set.size === 0 && entry.removed.size === 0 && entry.options === undefined) return lower;
  const stamp = entry.stamp ?? lower.stamp;
  const time = entry.stamp === undefined ? lower.options.filter(isTime) : timeLine(stamp);
  const options = [...time, ...(entry.options ?? optionsOf(lower.options))];
  return { path: lower.path, stamp, options, values: changedValues(lower.values, entry) };
}

function changedValues(
  lower: ReadonlyMap<string, RegistryValue>,
  entry: KeyDelta,
): ReadonlyMap<string, RegistryValue> {
  const values = new Map(lower);
  for (const folded of entry.removed.keys()) values.delete(folded);
  const before = values.size;
  for (const [folded, value] of entry.set) values.set(folded, value);
  return values.size === before ? values : inOrder(values);
}

/** Sorted as Wine sorts values. */
function inOrder(values: ReadonlyMap<string, RegistryValue>): ReadonlyMap<string, RegistryValue> {
  return new Map([...values].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** Puts new keys where Wine would have them; the others keep their order. */
function inserted(keys: Keys, added: [string, RegistryKey][]): Keys {
  const sorted = added
    .map(([folded, key]) => ({ folded, key, rank: rankOf(folded) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1));
  const all: Keys = new Map();
  let next = 0;
  for (const [folded, key] of keys) {
    if (next < sorted.length) {
      const rank = rankOf(folded);
      while (next < sorted.length && sorted[next].rank < rank) {
        all.set(sorted[next].folded, sorted[next++].key);
      }
    }
    all.set(folded, key);
  }
  while (next < sorted.length) all.set(sorted[next].folded, sorted[next++].key);
  return all;
}

/** Folded paths compare by this as Wine saves them: a key, then its subkeys, each level sorted by UTF-16 unit. */
export const rankOf = (folded: string): string => folded.replaceAll('\\', '\0');

const isTime = (line: string) => line.startsWith('#time=');

/** 1601 to 1970, in seconds. */
const EPOCH = 11_644_473_600n;

/** `#time` (100 ns since 1601, hex) of a stamp in seconds: a time of before would count more than the stamp. */
function timeLine(stamp: string): readonly string[] {
  const seconds = /^\s*(\d{1,10})/.exec(stamp)?.[1];
  if (seconds === undefined) return [];
  return [`#time=${((BigInt(seconds) + EPOCH) * 10_000_000n).toString(16)}`];
}
