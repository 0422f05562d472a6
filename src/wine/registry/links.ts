// Symbolic links of the registry: where a change really goes whose path leads through one.
// Looked at before a delta is applied: Wine follows links when it loads a file, so System\CurrentControlSet\Services
// would be found in System\ControlSet001\Services afterwards, and look like a change.

import type { HiveDelta, KeyDelta } from './delta.js';
import { fold, type Hive, type HiveName, parentOf, type RegistryKey } from './hive.js';
import { textOf } from './parse.js';
import { decodeValue, REG_LINK } from './value.js';

const ROOTS: Record<HiveName, string> = {
  system: '\\registry\\machine\\',
  user: '\\registry\\user\\s-1-5-21-0-0-0-1000\\',
  userdef: '\\registry\\user\\.default\\',
};

/** What one link has: folded path to the target's path in the same hive. */
type Links = ReadonlyMap<string, string>;

const linksOf = new WeakMap<Hive['keys'], Links>();

/** The delta with the paths where its changes lie once the links of `below` are followed; links themselves stay. */
export function throughLinks(name: HiveName, below: Hive, delta: HiveDelta): HiveDelta {
  if (delta.size === 0) return delta;
  const links = linksIn(name, below);
  if (links.size === 0) return delta;
  let moved: Map<string, KeyDelta> | undefined;
  for (const [folded, entry] of delta) {
    const path = followed(entry.path, folded, links);
    if (path === undefined) continue;
    moved ??= new Map(delta);
    moved.delete(folded);
    const target = fold(path);
    const there = moved.get(target);
    moved.set(target, there === undefined ? { ...entry, path } : both(entry, there));
  }
  return moved ?? delta;
}

function linksIn(name: HiveName, hive: Hive): Links {
  const known = linksOf.get(hive.keys);
  if (known !== undefined) return known;
  const links = new Map<string, string>();
  for (const [folded, key] of hive.keys) {
    if (!isLink(key)) continue;
    const value = key.values.get('symboliclinkvalue');
    const target = value === undefined ? undefined : decodeValue(value.data);
    if (target?.type !== REG_LINK || target.text === undefined) continue;
    const text = target.text.replace(/\0+$/, '');
    if (fold(text).startsWith(ROOTS[name])) links.set(folded, text.slice(ROOTS[name].length));
  }
  linksOf.set(hive.keys, links);
  return links;
}

function isLink(key: RegistryKey): boolean {
  const text = textOf(key);
  if (text !== undefined && !text.includes('#link')) return false;
  return key.options.some((line) => line.startsWith('#link'));
}

/** The path behind all links above it; undefined where there is none. As Wine, no more than 16 of them. */
function followed(path: string, folded: string, links: Links): string | undefined {
  let result: string | undefined;
  for (let hops = 0; hops < 16; hops++) {
    let at = parentOf(folded);
    while (at !== undefined && !links.has(at)) at = parentOf(at);
    if (at === undefined) return result;
    path = result = links.get(at)! + path.slice(at.length);
    folded = fold(path);
  }
  return result;
}

/** Two entries of one key, reached in two ways: the one without a link counts. */
function both(one: KeyDelta, other: KeyDelta): KeyDelta {
  const set = new Map([...one.set, ...other.set]);
  const removed = new Map([...one.removed, ...other.removed].filter(([name]) => !set.has(name)));
  return { ...one, ...other, set, removed };
}
