// Takes bases, layers and prefixes away: by one rename into the stage, where they are then removed.
// Called by `varve wine base rm`, `layer rm` and `rm`. What something else stands on stays, unless it is forced.
// The lock of the library is held from the look until the name is gone.

import { randomBytes } from 'node:crypto';
import { renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type WinePlaces, winePlaces } from '../prefix/places.js';
import { holdPrefix } from '../prefix/standing.js';
import { linkOf } from './create.js';
import { manifestOfLayer } from './form.js';
import { requirePrefix } from './hold.js';
import {
  type BaseVersion,
  findBase,
  findLayer,
  labelOf,
  listBases,
  listLayers,
  listPrefixes,
  listRecordings,
  type PrefixEntry,
  usersOfBase,
  usersOfLayer,
} from './shelf.js';
import { openStage, removeFolder, withLibrary } from './stage.js';

/**
 * @param reference `NAME`: all its versions; `NAME@N`: one that is not the current one.
 * @returns what is gone. @throws MountError: `absent`, `busy`.
 */
export function removeBase(
  reference: string,
  force: boolean,
  env: NodeJS.ProcessEnv,
): Promise<string[]> {
  const places = winePlaces(env);
  return withStage(places, async (away) => {
    const one = findBase(reference, places);
    const [name = ''] = reference.split('@');
    const entry = listBases(places).find((base) => base.name === name);
    const versions = entry?.versions ?? [];
    const isAll = !reference.includes('@') || versions.length === 1;
    if (!isAll && one.number === entry?.current) {
      throw new MountError(
        'busy',
        `base ${reference}: is the current version: make another one current first (\`varve wine update ${name} --current N\`)`,
      );
    }
    const leaving = isAll ? versions : [one];
    if (!force) for (const version of leaving) await refuseUsedBase(version, places);
    if (isAll) away(join(places.bases, name));
    else {
      away(one.path);
      rmSync(`${one.path}.objects`, { force: true });
    }
    return leaving.map((version) => version.reference);
  });
}

async function refuseUsedBase(version: BaseVersion, places: WinePlaces): Promise<void> {
  const users = usersOfBase(version, everyPrefix(places)).map((user) => `prefix ${labelOf(user)}`);
  for (const layer of listLayers(places)) {
    const manifest = await manifestOfLayer(layer).catch(() => undefined);
    if (manifest?.base === version.reference) users.push(`layer ${layer.name}`);
  }
  refuseUsed(`base ${version.reference}`, users);
}

/** @throws MountError: `absent`, `busy`. */
export function removeLayer(name: string, force: boolean, env: NodeJS.ProcessEnv): Promise<void> {
  const places = winePlaces(env);
  return withStage(places, async (away) => {
    const layer = findLayer(name, places);
    const users = usersOfLayer(layer, everyPrefix(places));
    if (!force) {
      refuseUsed(
        `layer ${name}`,
        users.map((user) => `prefix ${labelOf(user)}`),
      );
    }
    away(layer.path);
    rmSync(`${layer.path}.objects`, { force: true });
  });
}

const everyPrefix = (places: WinePlaces): PrefixEntry[] => [
  ...listPrefixes(places),
  ...listRecordings(places),
];

function refuseUsed(what: string, users: readonly string[], force = ', or say --force'): void {
  if (users.length === 0) return;
  const some = users.slice(0, 3).join(', ');
  const more = users.length > 3 ? ` and ${users.length - 3} more` : '';
  throw new MountError('busy', `${what}: is used by ${some}${more}: change that first${force}`);
}

/** Everything in it goes, the user's own files included. @throws MountError: `absent`, `busy`. */
export async function removePrefix(named: string, env: NodeJS.ProcessEnv): Promise<string> {
  const places = winePlaces(env);
  const folder = requirePrefix(named, env);
  const lock = await holdPrefix(folder, 'remove it');
  const gone = join(dirname(folder), `.${basename(folder)}.gone-${randomBytes(6).toString('hex')}`);
  try {
    await withLibrary(places, () => {
      const inside = `${folder}/`;
      const users = listPrefixes(places).filter(
        (one) =>
          one.folder !== folder && one.record?.layers.some((path) => path.startsWith(inside)),
      );
      refuseUsed(
        `prefix ${named}`,
        users.map((user) => `prefix ${labelOf(user)}`),
        '',
      );
      renameSync(folder, gone);
    });
    rmSync(linkOf(folder, places), { force: true });
  } finally {
    lock.release();
  }
  removeFolder(gone);
  return folder;
}

/** @param work takes paths of the library away; they are removed when it has come to its end. */
async function withStage<T>(
  places: WinePlaces,
  work: (away: (path: string) => void) => Promise<T>,
): Promise<T> {
  const stage = openStage(places);
  let count = 0;
  try {
    return await withLibrary(places, () =>
      work((path) => renameSync(path, join(stage.folder, `${count++}-${basename(path)}`))),
    );
  } finally {
    stage.close();
  }
}
