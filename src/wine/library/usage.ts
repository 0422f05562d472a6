// What everything of the library takes on disk, each block counted where it belongs, and what it would take unshared.
// Called by `varve wine du` and `varve wine ls`; asks for blocks, reads no content, stays on one side of mounts.
// Follows: stat(2), st_blocks of 512 bytes; a file with several names counts once.

import { type Dirent, existsSync, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathsOf, type WinePlaces } from '../prefix/places.js';
import type { PrefixRecord } from '../prefix/record.js';
import {
  type BaseVersion,
  type LayerEntry,
  labelOf,
  listBases,
  listLayers,
  listPrefixes,
  type PrefixEntry,
  type Shelved,
} from './shelf.js';

export interface LibraryUsage {
  readonly bases: readonly Taken[];
  readonly layers: readonly Taken[];
  readonly prefixes: readonly PrefixTaken[];
  /** Everything together. */
  readonly bytes: number;
  /** Bases and layers that prefixes stand on, counted once. */
  readonly sharedBytes: number;
  /** What the prefixes would take if each had its layers and its base for itself. */
  readonly unsharedBytes: number;
}

interface Taken {
  /** `NAME@N` of a base. */
  readonly name: string;
  readonly bytes: number;
  /** Prefixes that stand on it. */
  readonly users: number;
}

interface PrefixTaken {
  /** Its name, or its folder. */
  readonly name: string;
  /** Of its own. */
  readonly bytes: number;
  /** Of its layers and its base. */
  readonly belowBytes: number;
}

export function usageOf(places: WinePlaces): LibraryUsage {
  const prefixes = listPrefixes(places);
  const sizes = new Map<string, number>();
  const sizeOf = (path: string): number => {
    const known = sizes.get(path) ?? bytesAt(path);
    sizes.set(path, known);
    return known;
  };
  const versions = listBases(places).flatMap((base) => base.versions);
  const layers = listLayers(places);
  const taken = (one: Shelved, uses: (record: PrefixRecord) => boolean): Taken => ({
    name: one.reference,
    bytes: sizeOf(one.path),
    users: prefixes.filter(({ record }) => record !== undefined && uses(record)).length,
  });
  const bases = versions.map((one) => taken(one, ({ base }) => base === one.reference));
  const ofLayers = layers.map((one) => taken(one, (record) => record.layers.includes(one.name)));
  const ofPrefixes = prefixes.map((prefix) => ({
    name: labelOf(prefix),
    bytes: bytesOfPrefix(prefix.folder),
    belowBytes: belowOf(prefix, versions, layers).reduce((sum, path) => sum + sizeOf(path), 0),
  }));
  const sum = (list: readonly { bytes: number }[]): number =>
    list.reduce((total, { bytes }) => total + bytes, 0);
  const shared = [...bases, ...ofLayers].filter(({ users }) => users > 0);
  return {
    bases,
    layers: ofLayers,
    prefixes: ofPrefixes,
    bytes: sum(bases) + sum(ofLayers) + sum(ofPrefixes),
    sharedBytes: sum(shared),
    unsharedBytes: ofPrefixes.reduce((all, { bytes, belowBytes }) => all + bytes + belowBytes, 0),
  };
}

function belowOf(
  { record }: PrefixEntry,
  versions: readonly BaseVersion[],
  layers: readonly LayerEntry[],
): string[] {
  const base = versions.find(({ reference }) => reference === record?.base);
  const own = (record?.layers ?? []).flatMap((name) => {
    const found = layers.find((layer) => layer.name === name)?.path ?? name;
    return existsSync(found) ? [found] : [];
  });
  return base === undefined ? own : [...own, base.path];
}

/** Up, its own files are in `.varve`, and drive_c shows everything: nothing is counted through a mount. */
function bytesOfPrefix(folder: string): number {
  const { upper, driveC } = pathsOf(folder);
  return bytesAt(folder, existsSync(upper) ? driveC : undefined);
}

/** Bytes of the blocks of a file or of a folder with all that is in it. @param except is not looked at. */
export function bytesAt(path: string, except?: string): number {
  let total = 0;
  const seen = new Set<string>();
  const pending = [path];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (next === except) continue;
    const stat = lstatSync(next, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (stat.nlink > 1 && !stat.isDirectory()) {
      const id = `${stat.dev}:${stat.ino}`;
      if (seen.has(id)) continue;
      seen.add(id);
    }
    total += stat.blocks * 512;
    if (stat.isDirectory()) for (const { name } of entriesOf(next)) pending.push(join(next, name));
  }
  return total;
}

/** What cannot be looked into counts as nothing. */
function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}
