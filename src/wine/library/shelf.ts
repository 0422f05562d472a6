// What the library has: bases with their versions, layers, prefixes, and which of them stand on which.
// Read by every command that names one; nothing here changes anything.
// Layout: bases/NAME/N or N.erofs and bases/NAME/current; layers/NAME or NAME.erofs; prefixes/NAME, elsewhere/ID (a symlink).

import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { nearest } from '../../stack/nearest.js';
import { checkName, isName, type WinePlaces } from '../prefix/places.js';
import { type PrefixRecord, readRecord } from '../prefix/record.js';

/** A folder or an image that is never written. */
export interface Shelved {
  /** `NAME@N` of a base, `NAME` of a layer. */
  readonly reference: string;
  /** Absolute. */
  readonly path: string;
  readonly isImage: boolean;
}

export interface BaseVersion extends Shelved {
  readonly number: number;
}

export interface BaseEntry {
  readonly name: string;
  /** The version that a new prefix gets; undefined where the link is missing. */
  readonly current: number | undefined;
  /** Oldest first. */
  readonly versions: readonly BaseVersion[];
}

export interface LayerEntry extends Shelved {
  readonly name: string;
}

export interface PrefixEntry {
  /** Of those in the library. */
  readonly name?: string;
  /** Absolute. */
  readonly folder: string;
  /** undefined: it stands on nothing. */
  readonly record: PrefixRecord | undefined;
  /** Why its record cannot be read. */
  readonly problem?: string;
}

/** Links to prefixes that were made in other places. */
export const elsewhere = ({ root }: WinePlaces): string => join(root, 'elsewhere');

export function listBases(places: WinePlaces): BaseEntry[] {
  return names(places.bases)
    .filter(isName)
    .map((name) => baseEntry(name, places));
}

function baseEntry(name: string, places: WinePlaces): BaseEntry {
  const folder = join(places.bases, name);
  const versions: BaseVersion[] = [];
  for (const file of names(folder)) {
    const [, digits, image] = /^([1-9][0-9]{0,8})(\.erofs)?$/.exec(file) ?? [];
    if (digits === undefined) continue;
    versions.push({
      reference: `${name}@${digits}`,
      number: Number(digits),
      path: join(folder, file),
      isImage: image !== undefined,
    });
  }
  versions.sort((a, b) => a.number - b.number);
  let current: number | undefined;
  try {
    current = Number.parseInt(readlinkSync(join(folder, 'current')), 10);
  } catch {
    // A base whose link is missing has versions that can be named.
  }
  return { name, current, versions };
}

/** @param reference `NAME` (its current version) or `NAME@N`. @throws MountError: `option`, `absent`. */
export function findBase(reference: string, places: WinePlaces): BaseVersion {
  const [, name = '', digits] = /^(.*?)(?:@([0-9]+))?$/s.exec(reference) ?? [];
  checkName(name, 'base');
  const { current, versions } = baseEntry(name, places);
  const number = digits === undefined ? current : Number(digits);
  const found = versions.find((version) => version.number === number);
  if (found !== undefined) return found;
  if (versions.length === 0) {
    const all = listBases(places).map((base) => base.name);
    throw absent('base', name, all, `\`varve wine base add ${name}\` makes it`);
  }
  const has = versions.map((version) => version.reference).join(', ');
  throw new MountError('absent', `base ${reference}: there is no such version: name one of ${has}`);
}

export function listLayers({ layers }: WinePlaces): LayerEntry[] {
  return names(layers).flatMap((file) => {
    const isImage = file.endsWith('.erofs');
    const name = isImage ? file.slice(0, -'.erofs'.length) : file;
    if (!isName(name)) return [];
    return [{ name, reference: name, path: join(layers, file), isImage }];
  });
}

/** @throws MountError: `option`, `absent`. */
export function findLayer(name: string, places: WinePlaces): LayerEntry {
  checkName(name, 'layer');
  const all = listLayers(places);
  const found = all.find((layer) => layer.name === name);
  if (found !== undefined) return found;
  const known = all.map((layer) => layer.name);
  throw absent('layer', name, known, `\`varve wine layer add ${name} -- SETUP\` records one`);
}

/** All that the library knows of: those in it, and those that were made elsewhere and are still there. */
export function listPrefixes(places: WinePlaces): PrefixEntry[] {
  const found: PrefixEntry[] = [];
  for (const name of names(places.prefixes).filter(isName)) {
    const folder = join(places.prefixes, name);
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
      found.push({ name, ...entryOf(folder) });
    }
  }
  for (const link of names(elsewhere(places))) {
    try {
      const folder = readlinkSync(join(elsewhere(places), link));
      const entry = entryOf(folder);
      if (entry.record !== undefined || entry.problem !== undefined) found.push(entry);
    } catch {
      // Somebody is taking it away.
    }
  }
  return found;
}

/** Temporary prefixes in which something is being recorded. */
export function listRecordings({ root }: WinePlaces): PrefixEntry[] {
  return names(root)
    .filter((name) => name.startsWith('.tmp-'))
    .map((name) => ({ name: 'of a recording', ...entryOf(join(root, name, 'prefix')) }))
    .filter(({ record }) => record !== undefined);
}

function entryOf(folder: string): PrefixEntry {
  try {
    return { folder, record: readRecord(folder) };
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    return { folder, record: undefined, problem: error.message };
  }
}

/** How a prefix is called: its name, or where it is. */
export const labelOf = ({ name, folder }: PrefixEntry): string => name ?? folder;

/** Who stands on one of `versions`: prefixes, and prefixes alone. */
export function usersOfBase(version: Shelved, prefixes: readonly PrefixEntry[]): PrefixEntry[] {
  return prefixes.filter(({ record }) => record?.base === version.reference);
}

export function usersOfLayer(layer: LayerEntry, prefixes: readonly PrefixEntry[]): PrefixEntry[] {
  const inside = `${layer.path}/`;
  return prefixes.filter(({ record }) =>
    record?.layers.some(
      (one) => one === layer.name || one === layer.path || one.startsWith(inside),
    ),
  );
}

/** @throws MountError of kind `option` where a base has the name. */
export function requireNoBase(name: string, places: WinePlaces): void {
  if (baseEntry(checkName(name, 'base'), places).versions.length === 0) return;
  throw new MountError(
    'option',
    `base ${name}: is there already: \`varve wine update ${name}\` makes a new version of it, or take another name`,
  );
}

/** @throws MountError of kind `option` where a layer has the name. */
export function requireNoLayer(name: string, places: WinePlaces): void {
  checkName(name, 'layer');
  if (!listLayers(places).some((layer) => layer.name === name)) return;
  throw new MountError(
    'option',
    `layer ${name}: is there already: take another name, or \`varve wine layer rm ${name}\` first`,
  );
}

function absent(
  what: string,
  name: string,
  known: readonly string[],
  otherwise: string,
): MountError {
  const close = nearest(name, known);
  const hint = close === undefined ? otherwise : `did you mean ${close}?`;
  return new MountError('absent', `${what} ${name}: there is none: ${hint}`);
}

/** Sorted; none where there is no such folder. */
function names(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).sort();
}
