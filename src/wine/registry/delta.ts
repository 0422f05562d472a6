// What one layer changes in the registry below it: keys and values that are set, and tombstones.
// Made by comparing two registries, stored in a layer, applied to the registry of the layers below.
// Times of keys alone are no change; a key that is implied by what lies below it is present.

import { HIVES, type HiveName, parentOf, type RegistryValue } from './hive.js';

/** What happens to one key. Order: `deleted` first, with everything below it; then all others, of this key and below. */
export interface KeyDelta {
  /** As in RegistryKey; the case is that of the upper side. */
  readonly path: string;
  /** The key is gone, or stands anew without anything that it had. */
  readonly deleted?: true;
  /** The key is there afterwards even if nothing is set in it. */
  readonly present?: true;
  /** As in RegistryKey, where the key is there afterwards; `#time` follows from it. */
  readonly stamp?: string;
  /** Those of RegistryKey that Wine knows, `#class=` and `#link`, times never; absent: those of below stay. */
  readonly options?: readonly string[];
  /** By fold(name). */
  readonly set: ReadonlyMap<string, RegistryValue>;
  /** Values that are gone: fold(name) to the name as written below. */
  readonly removed: ReadonlyMap<string, string>;
}

/** By fold(path); no order. */
export type HiveDelta = ReadonlyMap<string, KeyDelta>;

export type RegistryDelta = Readonly<Record<HiveName, HiveDelta>>;

/** Nothing. */
export const EMPTY_DELTA: RegistryDelta = {
  system: new Map(),
  user: new Map(),
  userdef: new Map(),
};

export const isEmpty = (delta: RegistryDelta): boolean =>
  HIVES.every((hive) => delta[hive].size === 0);

/** Whether the key is there afterwards because of this entry, whatever lies below. */
export const creates = (entry: KeyDelta): boolean =>
  entry.present === true || entry.set.size > 0 || entry.options !== undefined;

/**
 * What the lines of a key say besides its time, as Wine saves it: the last class, and whether it is a link.
 * An empty class is none: Wine leaves one where a program has opened a key as if to create it.
 */
export function optionsOf(lines: readonly string[]): readonly string[] {
  const last = lines.findLast((line) => line.startsWith('#class='));
  const isLink = lines.some((line) => line.startsWith('#link'));
  const hasClass = last !== undefined && last !== '#class=""';
  return [...(hasClass ? [last] : []), ...(isLink ? ['#link'] : [])];
}

/** Whether one of the keys above a path is in `paths` (all folded). */
export function isBelowOneOf(folded: string, paths: ReadonlySet<string>): boolean {
  if (paths.size === 0) return false;
  for (let at = parentOf(folded); at !== undefined; at = parentOf(at)) {
    if (paths.has(at)) return true;
  }
  return false;
}

/** The keys that go with everything below them. */
export function tombstonesOf(delta: HiveDelta): ReadonlySet<string> {
  const paths = new Set<string>();
  for (const [folded, entry] of delta) if (entry.deleted) paths.add(folded);
  return paths;
}

/** For entries that set or remove nothing. */
export const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();
