// Makes a layered prefix: a folder with next to nothing in it, whose registry is ready for Wine.
// Called by `varve wine create`, and for the temporary prefix in which an installer is recorded.
// A prefix appears by one rename; what it costs is one copy of the registry, which its first session then saves.

import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { isErofs } from '../../stack/images.js';
import { type Below, resolveBelow } from '../prefix/below.js';
import { materialise, NO_UPDATE, TIMESTAMP } from '../prefix/materialise.js';
import { pathsOf, prefixFolder, type WinePlaces, winePlaces } from '../prefix/places.js';
import { type PrefixRecord, writeRecord } from '../prefix/record.js';
import { refusePending } from './form.js';
import { giveProfile } from './profile.js';
import { elsewhere, findBase, findLayer } from './shelf.js';
import { makeFolder, removeFolder, withLibrary } from './stage.js';

export interface CreateRequest {
  /** A name, or a path. */
  readonly prefix: string;
  /** `NAME` or `NAME@N`; the latter is not followed to newer versions. */
  readonly base: string;
  /** Topmost first: names, or paths of drive_c folders and images. */
  readonly layers: readonly string[];
  /** As --wine names a build. */
  readonly wine?: string;
  readonly isolate?: boolean;
  readonly env: NodeJS.ProcessEnv;
  /** Does more with the prefix before anybody sees it. */
  readonly finish?: (folder: string) => void;
}

export interface CreatedPrefix {
  readonly folder: string;
  readonly record: PrefixRecord;
}

/** @throws MountError; then there is no such prefix. */
export async function createPrefix(request: CreateRequest): Promise<CreatedPrefix> {
  const { env, finish } = request;
  const places = winePlaces(env);
  const folder = prefixFolder(request.prefix, env);
  requireFree(folder);
  if (dirname(folder) === places.prefixes) makeFolder(places.prefixes);
  else requireParent(folder);
  const made = join(dirname(folder), `.${basename(folder)}.new-${randomBytes(6).toString('hex')}`);
  try {
    mkdirSync(made);
  } catch (error) {
    throw new MountError('layer', `${folder}: cannot be made: ${reasonOf(error)}`);
  }
  try {
    let record = recordOf(request, places);
    await refusePendingIn(record.layers, places);
    await furnish(made, record, env);
    finish?.(made);
    await withLibrary(places, () => {
      requireFree(folder);
      // What was found before may have been removed meanwhile.
      record = recordOf(request, places, record);
      if (dirname(folder) !== places.prefixes) note(folder, places);
      renameSync(made, folder);
    });
    return { folder, record };
  } finally {
    if (existsSync(made)) removeFolder(made);
  }
}

/** What a prefix is made of, in an empty folder. @throws MountError. */
export async function furnish(
  folder: string,
  record: PrefixRecord,
  env: NodeJS.ProcessEnv,
): Promise<Below[]> {
  const { driveC, state } = pathsOf(folder);
  const below = await resolveBelow(record, env);
  mkdirSync(driveC);
  mkdirSync(state);
  const devices = join(folder, 'dosdevices');
  mkdirSync(devices);
  symlinkSync('../drive_c', join(devices, 'c:'));
  symlinkSync('/', join(devices, 'z:'));
  writeFileSync(join(folder, TIMESTAMP), NO_UPDATE);
  writeRecord(folder, record);
  materialise(folder, below);
  await giveProfile(folder, below, env);
  if (record.isolate === true) {
    // Loaded where it is wanted: every prefix would wait for it.
    const { isolate } = await import('../doctor/isolate.js');
    await isolate(folder, below, { env });
  }
  return below;
}

/** @param before what it is to be the same as. @throws MountError. */
function recordOf(
  { base, layers, wine, isolate }: CreateRequest,
  places: WinePlaces,
  before?: PrefixRecord,
): PrefixRecord {
  const { reference } = findBase(before?.base ?? base, places);
  const named = layers.map((layer) => layerNamed(layer, places));
  const twice = named.find((layer, i) => named.indexOf(layer) !== i);
  if (twice !== undefined) {
    throw new MountError('option', `layer ${twice}: is named twice: name it once`);
  }
  return {
    version: 1,
    base: reference,
    follows: !base.includes('@'),
    layers: named,
    ...(wine === undefined ? {} : { wine: wine.includes('/') ? resolve(wine) : wine }),
    ...(isolate === true ? { isolate } : {}),
  };
}

/** @param layers as a record has them. @throws MountError of kind `busy` for one that waits for its files. */
export async function refusePendingIn(
  layers: readonly string[],
  places: WinePlaces,
): Promise<void> {
  for (const name of layers) if (!isAbsolute(name)) await refusePending(findLayer(name, places));
}

/** A layer as a record has it. @throws MountError: `absent`, `option`, `layer`. */
export function layerNamed(layer: string, places: WinePlaces): string {
  if (!layer.includes('/')) return findLayer(layer, places).name;
  const path = resolve(layer);
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined)
    throw new MountError('absent', `layer ${layer}: no such folder or image`);
  if (found.isDirectory() || (found.isFile() && isErofs(path))) return path;
  throw new MountError('layer', `layer ${layer}: neither a drive_c folder nor an EROFS image`);
}

/** @throws MountError of kind `option`. */
function requireFree(folder: string): void {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (found.isDirectory() && readdirSync(folder).length === 0) return;
  throw new MountError(
    'option',
    `prefix ${folder}: is there already: take another name, or \`varve wine rm\` it first`,
  );
}

function requireParent(folder: string): void {
  if (statSync(dirname(folder), { throwIfNoEntry: false })?.isDirectory()) return;
  throw new MountError('layer', `${dirname(folder)}: no such directory: create it first`);
}

/** Writes down where a prefix is that is not in the library, so that what it stands on is kept. */
function note(folder: string, places: WinePlaces): void {
  const links = elsewhere(places);
  makeFolder(links);
  const link = linkOf(folder, places);
  rmSync(link, { force: true });
  symlinkSync(folder, link);
}

/** The link to a prefix that is not in the library. @param folder absolute. */
export function linkOf(folder: string, places: WinePlaces): string {
  if (!isAbsolute(folder)) throw new RangeError(`${folder}: not absolute`);
  const id = createHash('sha256').update(folder).digest('hex').slice(0, 32);
  return join(elsewhere(places), id);
}
