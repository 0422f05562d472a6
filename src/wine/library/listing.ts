// What the library has, as one record for people and programs: bases, layers, prefixes, and who stands on what.
// Made for `varve wine ls`, `base ls` and `layer ls`; reads what each says about itself, and counts nothing.
// Something damaged is listed with what is wrong with it.

import { MountError } from '../../stack/errors.js';
import type { WinePlaces } from '../prefix/places.js';
import { isUp } from '../prefix/standing.js';
import { manifestOfBase, manifestOfLayer } from './form.js';
import type { BaseManifest, LayerManifest } from './manifest.js';
import {
  labelOf,
  listBases,
  listLayers,
  listPrefixes,
  type PrefixEntry,
  type Shelved,
  usersOfBase,
  usersOfLayer,
} from './shelf.js';

export interface ListedBase {
  /** `NAME@N`. */
  readonly reference: string;
  readonly name: string;
  readonly number: number;
  readonly isCurrent: boolean;
  readonly path: string;
  readonly kind: 'folder' | 'image';
  readonly manifest?: BaseManifest;
  /** Prefixes that stand on it. */
  readonly users: readonly string[];
  readonly problem?: string;
}

export interface ListedLayer {
  readonly name: string;
  readonly path: string;
  readonly kind: 'folder' | 'image';
  readonly manifest?: LayerManifest;
  readonly users: readonly string[];
  readonly problem?: string;
}

export interface ListedPrefix {
  /** Its name, or its folder. */
  readonly name: string;
  readonly folder: string;
  readonly state: 'up' | 'down';
  readonly base?: string;
  /** A newer version of the base that it will move to. */
  readonly newer?: string;
  readonly layers: readonly string[];
  readonly problem?: string;
}

export interface Listing {
  readonly root: string;
  readonly bases: readonly ListedBase[];
  readonly layers: readonly ListedLayer[];
  readonly prefixes: readonly ListedPrefix[];
}

export async function listLibrary(places: WinePlaces): Promise<Listing> {
  const prefixes = listPrefixes(places);
  return {
    root: places.root,
    bases: await listedBases(places, prefixes),
    layers: await listedLayers(places, prefixes),
    prefixes: prefixes.map((prefix) => listedPrefix(prefix, places)),
  };
}

export async function listedBases(
  places: WinePlaces,
  prefixes = listPrefixes(places),
): Promise<ListedBase[]> {
  const found: ListedBase[] = [];
  for (const { name, current, versions } of listBases(places)) {
    for (const version of versions) {
      const { reference, number, path, isImage } = version;
      found.push({
        reference,
        name,
        number,
        isCurrent: number === current,
        path,
        kind: isImage ? 'image' : 'folder',
        users: usersOfBase(version, prefixes).map(labelOf),
        ...(await described(version, manifestOfBase)),
      });
    }
  }
  return found;
}

export async function listedLayers(
  places: WinePlaces,
  prefixes = listPrefixes(places),
): Promise<ListedLayer[]> {
  const found: ListedLayer[] = [];
  for (const layer of listLayers(places)) {
    const { name, path, isImage } = layer;
    found.push({
      name,
      path,
      kind: isImage ? 'image' : 'folder',
      users: usersOfLayer(layer, prefixes).map(labelOf),
      ...(await described(layer, manifestOfLayer)),
    });
  }
  return found;
}

async function described<T>(
  one: Shelved,
  read: (one: Shelved) => Promise<T | undefined>,
): Promise<{ manifest?: T; problem?: string }> {
  try {
    const manifest = await read(one);
    return manifest === undefined ? {} : { manifest };
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    return { problem: error.message };
  }
}

function listedPrefix(prefix: PrefixEntry, places: WinePlaces): ListedPrefix {
  const { folder, record, problem } = prefix;
  const [name] = record?.base?.split('@') ?? [];
  const current = listBases(places).find((base) => base.name === name)?.current;
  const newest = current === undefined ? undefined : `${name}@${current}`;
  const moves = record?.follows === true && newest !== undefined && newest !== record.base;
  return {
    name: labelOf(prefix),
    folder,
    state: isUp(folder) ? 'up' : 'down',
    ...(record?.base === undefined ? {} : { base: record.base }),
    ...(moves ? { newer: newest } : {}),
    layers: record?.layers ?? [],
    ...(problem === undefined ? {} : { problem }),
  };
}
