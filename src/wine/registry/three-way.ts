// A delta that was made over one base, for another base: an update of Wine under a prefix.
// What the new base has come to by itself leaves the delta; what both have changed in different ways is a conflict.
// In a conflict the delta keeps its own side, so that nothing of the prefix is lost, and the base's side is told.

import {
  creates,
  type HiveDelta,
  isBelowOneOf,
  type KeyDelta,
  optionsOf,
  type RegistryDelta,
  tombstonesOf,
} from './delta.js';
import { diffHives } from './diff.js';
import {
  type Hive,
  type HiveName,
  hasKey,
  type Registry,
  type RegistryKey,
  type RegistryValue,
} from './hive.js';
import { throughLinks } from './links.js';
import { isSameData } from './value.js';

export interface RegistryConflict {
  readonly hive: HiveName;
  readonly path: string;
  /** Name; '' is the default value. Absent where it is about the whole key. */
  readonly value?: string;
  /**
   * - `value`: both have changed it, or one has removed it.
   * - `key-deleted-below`: the new base has no such key any more, and the delta has changed something in it.
   * - `key-deleted-above`: the delta deletes the key or one above it, and the new base has changed something in it.
   * - `options`: both have changed its class, or whether it is a link.
   */
  readonly kind: 'value' | 'key-deleted-below' | 'key-deleted-above' | 'options';
  /** Raw data in the old base, in the delta and in the new base; absent where there is none. Options have blanks between. */
  readonly old?: string;
  readonly ours?: string;
  readonly theirs?: string;
}

/**
 * @param oldBase what the delta was compared with: everything below it
 * @param newBase the same after the update
 */
export function rebaseDelta(
  oldBase: Registry,
  newBase: Registry,
  delta: RegistryDelta,
): { delta: RegistryDelta; conflicts: RegistryConflict[] } {
  const conflicts: RegistryConflict[] = [];
  const rebased = (hive: HiveName) => {
    const bases: Bases = { hive, old: oldBase[hive], now: newBase[hive], conflicts };
    return rebaseHive(bases, throughLinks(hive, oldBase[hive], delta[hive]));
  };
  const result = { system: rebased('system'), user: rebased('user'), userdef: rebased('userdef') };
  return { delta: result, conflicts };
}

interface Bases {
  readonly hive: HiveName;
  readonly old: Hive;
  readonly now: Hive;
  /** Filled. */
  readonly conflicts: RegistryConflict[];
}

function rebaseHive(bases: Bases, delta: HiveDelta): HiveDelta {
  if (delta.size === 0 || bases.old.keys === bases.now.keys) return delta;
  const dead = tombstonesOf(delta);
  if (dead.size > 0) tellHidden(bases, dead);
  const result = new Map<string, KeyDelta>();
  for (const [folded, entry] of delta) {
    const isAnew = isBelowOneOf(folded, dead);
    const kept = isAnew
      ? entry
      : entry.deleted
        ? deleted(bases, entry)
        : content(bases, folded, entry);
    if (kept !== undefined) result.set(folded, kept);
  }
  return result;
}

/** Conflicts for what the new base has changed where the delta deletes. */
function tellHidden({ hive, old, now, conflicts }: Bases, dead: ReadonlySet<string>): void {
  const kind = 'key-deleted-above';
  for (const [folded, theirs] of diffHives(old, now)) {
    if (!creates(theirs) || !(dead.has(folded) || isBelowOneOf(folded, dead))) continue;
    const { path } = theirs;
    if (theirs.set.size === 0) conflicts.push({ hive, path, kind });
    for (const [name, value] of theirs.set) {
      const before = old.keys.get(folded)?.values.get(name)?.data;
      conflicts.push({
        hive,
        path,
        value: value.name,
        kind,
        ...sides(before, undefined, value.data),
      });
    }
  }
}

/** A key that the delta deletes: no change any more where the new base has deleted it too. */
function deleted({ old, now }: Bases, entry: KeyDelta): KeyDelta | undefined {
  if (!hasKey(old, entry.path) || hasKey(now, entry.path)) return entry;
  if (!creates(entry)) return undefined;
  const { deleted: _, ...rest } = entry;
  return rest;
}

function content(bases: Bases, folded: string, entry: KeyDelta): KeyDelta | undefined {
  const { hive, old, now, conflicts } = bases;
  const isInNow = hasKey(now, entry.path);
  const isGone = !isInNow && hasKey(old, entry.path);
  if (isGone && !creates(entry)) return undefined;
  if (isGone) {
    conflicts.push({ hive, path: entry.path, kind: 'key-deleted-below' });
    return entry;
  }
  const before = old.keys.get(folded);
  const after = now.keys.get(folded);
  const set = keptValues(bases, entry, before, after);
  const removed = keptRemovals(bases, entry, before, after);
  const options = keptOptions(bases, entry, before, after);
  const hasCome = isInNow && !before && (after !== undefined || !hasKey(old, entry.path));
  const present = hasCome ? undefined : entry.present;
  const isSame =
    set.size === entry.set.size &&
    removed.size === entry.removed.size &&
    options === entry.options &&
    present === entry.present;
  if (isSame) return entry;
  if (!present && set.size === 0 && removed.size === 0 && options === undefined) return undefined;
  const { present: _, options: __, ...rest } = entry;
  return { ...rest, ...(present && { present }), ...(options && { options }), set, removed };
}

function keptValues(
  { hive, conflicts }: Bases,
  entry: KeyDelta,
  before: RegistryKey | undefined,
  after: RegistryKey | undefined,
): ReadonlyMap<string, RegistryValue> {
  const kept = new Map<string, RegistryValue>();
  for (const [name, value] of entry.set) {
    const old = before?.values.get(name)?.data;
    const theirs = after?.values.get(name)?.data;
    const verdict = judge(old, value.data, theirs, isSame);
    if (verdict === 'theirs') continue;
    kept.set(name, value);
    if (verdict === 'conflict') {
      const { path } = entry;
      const all = sides(old, value.data, theirs);
      conflicts.push({ hive, path, value: value.name, kind: 'value', ...all });
    }
  }
  return kept;
}

function keptRemovals(
  { hive, conflicts }: Bases,
  entry: KeyDelta,
  before: RegistryKey | undefined,
  after: RegistryKey | undefined,
): ReadonlyMap<string, string> {
  const kept = new Map<string, string>();
  for (const [folded, name] of entry.removed) {
    const old = before?.values.get(folded)?.data;
    const theirs = after?.values.get(folded)?.data;
    const verdict = judge(old, undefined, theirs, isSame);
    if (verdict === 'theirs') continue;
    kept.set(folded, name);
    if (verdict === 'conflict') {
      const all = sides(old, undefined, theirs);
      conflicts.push({ hive, path: entry.path, value: name, kind: 'value', ...all });
    }
  }
  return kept;
}

function keptOptions(
  { hive, conflicts }: Bases,
  entry: KeyDelta,
  before: RegistryKey | undefined,
  after: RegistryKey | undefined,
): readonly string[] | undefined {
  if (entry.options === undefined) return undefined;
  const [old, ours, theirs] = [before?.options ?? [], entry.options, after?.options ?? []].map(
    (options) => optionsOf(options).join(' '),
  );
  const verdict = judge(old, ours, theirs, (one, other) => one === other);
  if (verdict === 'theirs') return undefined;
  if (verdict === 'conflict') {
    conflicts.push({ hive, path: entry.path, kind: 'options', ...sides(old, ours, theirs) });
  }
  return entry.options;
}

/** Whose side counts. Where the base has not changed it is the delta's, also when that says the same. */
function judge(
  old: string | undefined,
  ours: string | undefined,
  theirs: string | undefined,
  isEqual: (one: string | undefined, other: string | undefined) => boolean,
): 'ours' | 'theirs' | 'conflict' {
  if (isEqual(old, theirs)) return 'ours';
  return isEqual(ours, theirs) || isEqual(old, ours) ? 'theirs' : 'conflict';
}

function isSame(one: string | undefined, other: string | undefined): boolean {
  return one === undefined || other === undefined ? one === other : isSameData(one, other);
}

function sides(
  old: string | undefined,
  ours: string | undefined,
  theirs: string | undefined,
): Pick<RegistryConflict, 'old' | 'ours' | 'theirs'> {
  return {
    ...(old !== undefined && { old }),
    ...(ours !== undefined && { ours }),
    ...(theirs !== undefined && { theirs }),
  };
}
