// What `varve wine diff` is asked about: a prefix, a layer, a base, or a folder, with what it has of its own and what lies below.
// First step of every comparison; nothing is written, and a prefix may be in use.
// Names are looked up among prefixes, then layers, then bases; `layer:NAME` and the like say which.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { manifestOfLayer } from '../library/form.js';
import type { LayerManifest } from '../library/manifest.js';
import { findBase, findLayer, listBases, listLayers } from '../library/shelf.js';
import { type Below, belowAt, readRegistryBelow, resolveBelow } from '../prefix/below.js';
import { currentChange } from '../prefix/materialise.js';
import { isName, pathsOf, prefixFolder, type WinePlaces, winePlaces } from '../prefix/places.js';
import { readRecord } from '../prefix/record.js';
import { isUp } from '../prefix/session.js';
import { applyDelta } from '../registry/apply.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import type { Registry } from '../registry/hive.js';

export interface Subject {
  /** For people: `prefix office`, `layer 7zip`, `base default@2`, a path. */
  readonly label: string;
  /** Files of its own on top of what lies below; absent: it has nothing below, and all of it is `below`. */
  readonly own?: OwnFiles;
  /** Topmost first. */
  readonly below: readonly Below[];
  /** Whether `below` is all that it stood on; otherwise nobody knows what was there before. */
  readonly isComplete: boolean;
  /** A session is using it: the registry is as wineserver last saved it. */
  readonly isUp: boolean;
  /** What of the registry is its own, and what lies below that; undefined: nobody knows. */
  registry(): SubjectRegistry;
}

export interface SubjectRegistry {
  readonly below: Registry | undefined;
  readonly delta: RegistryDelta;
}

interface OwnFiles {
  /** A directory or an image. */
  readonly path: string;
  /** Of a prefix: its workdir, where hard links are known. */
  readonly work?: string;
  readonly data: readonly string[];
}

/** Everything that its programs see. */
export function wholeRegistry(subject: Subject): Registry | undefined {
  const { below, delta } = subject.registry();
  return below && applyDelta(below, delta);
}

/** @throws MountError: `absent`, `option`, `layer`. */
export async function findSubject(
  named: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Subject> {
  const places = winePlaces(env);
  const [, kind, rest = ''] = /^(prefix|layer|base):(.*)$/s.exec(named) ?? [];
  if (kind === 'prefix') return prefixAt(prefixFolder(rest, env), `prefix ${rest}`, env);
  if (kind === 'layer') return layerNamed(rest, places, env);
  if (kind === 'base') return baseNamed(rest, places);
  if (named.includes('/') || named === '.' || named === '..') {
    return atPath(resolve(named), named, env);
  }
  if (/^[^@]+@[0-9]+$/.test(named)) return baseNamed(named, places);
  const found = isName(named) ? kindsOf(named, places) : [];
  if (found.length > 1) {
    const words = found.map((one) => `${one}:${named}`).join(' or ');
    throw new MountError('option', `${named}: is more than one thing: write ${words}`);
  }
  switch (found[0]) {
    case 'prefix':
      return prefixAt(prefixFolder(named, env), `prefix ${named}`, env);
    case 'layer':
      return layerNamed(named, places, env);
    case 'base':
      return baseNamed(named, places);
    default:
      throw new MountError(
        'absent',
        `${named}: no prefix, layer or base has that name: \`varve wine ls\` lists them (a path has a slash)`,
      );
  }
}

function kindsOf(name: string, places: WinePlaces): ('prefix' | 'layer' | 'base')[] {
  const found: ('prefix' | 'layer' | 'base')[] = [];
  if (existsSync(join(places.prefixes, name))) found.push('prefix');
  if (listLayers(places).some((layer) => layer.name === name)) found.push('layer');
  if (listBases(places).some((base) => base.name === name && base.versions.length > 0)) {
    found.push('base');
  }
  return found;
}

async function prefixAt(folder: string, label: string, env: NodeJS.ProcessEnv): Promise<Subject> {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new MountError('absent', `${label}: there is none: \`varve wine ls\` lists them`);
  }
  const record = readRecord(folder);
  // A prefix that stands on nothing has everything itself.
  if (record === undefined) return alone(await belowAt(label, join(folder, 'drive_c')));
  const paths = pathsOf(folder);
  const isInUse = isUp(folder);
  const below = await resolveBelow(record, env);
  return {
    label,
    own: {
      path: existsSync(paths.upper) ? paths.upper : paths.driveC,
      work: paths.work,
      data: [],
    },
    below,
    isComplete: true,
    isUp: isInUse,
    registry: () =>
      currentChange(folder) ?? { below: readRegistryBelow(below), delta: EMPTY_DELTA },
  };
}

async function baseNamed(reference: string, places: WinePlaces): Promise<Subject> {
  const { reference: full, path, isImage } = findBase(reference, places);
  return alone(await belowAt(`base ${full}`, isImage ? path : join(path, 'drive_c')));
}

async function layerNamed(
  name: string,
  places: WinePlaces,
  env: NodeJS.ProcessEnv,
): Promise<Subject> {
  const layer = findLayer(name, places);
  const place = layer.isImage ? layer.path : join(layer.path, 'drive_c');
  const own = await belowAt(`layer ${name}`, place);
  return over(own, await standingOn(await manifestOfLayer(layer), env));
}

/** What a layer was recorded on; undefined: nobody knows, or it is gone. */
async function standingOn(
  manifest: LayerManifest | undefined,
  env: NodeJS.ProcessEnv,
): Promise<Below[] | undefined> {
  if (manifest?.base === undefined) return undefined;
  try {
    return await resolveBelow({ base: manifest.base, layers: manifest.layers ?? [] }, env);
  } catch (error) {
    if (error instanceof MountError) return undefined;
    throw error;
  }
}

async function atPath(path: string, label: string, env: NodeJS.ProcessEnv): Promise<Subject> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new MountError('absent', `${label}: no such folder or image`);
  if (!found.isDirectory()) return asLayerOrBase(await belowAt(label, path));
  const real = realpathSync(path);
  const isDriveC = basename(real) === 'drive_c';
  const prefix = isDriveC ? dirname(real) : real;
  if (existsSync(pathsOf(prefix).record)) return prefixAt(prefix, `prefix ${label}`, env);
  if (isDriveC) return asLayerOrBase(await belowAt(label, real));
  if (!existsSync(pathsOf(real).driveC)) {
    throw new MountError(
      'option',
      `${label}: neither a prefix nor a layer: there is no drive_c in it`,
    );
  }
  return asLayerOrBase(await belowAt(label, pathsOf(real).driveC));
}

/** A full registry, or none, says that it is no layer. */
function asLayerOrBase(one: Below): Subject {
  return one.registry.kind === 'delta' ? over(one, undefined) : alone(one);
}

function over(own: Below, below: readonly Below[] | undefined): Subject {
  return {
    label: own.label,
    own: { path: own.driveC, data: own.data },
    below: below ?? [],
    isComplete: below !== undefined,
    isUp: false,
    registry: () => ({
      below: below && readRegistryBelow(below),
      delta: own.registry.kind === 'delta' ? own.registry.delta() : EMPTY_DELTA,
    }),
  };
}

function alone(one: Below): Subject {
  return {
    label: one.label,
    below: [one],
    isComplete: true,
    isUp: false,
    registry: () => ({ below: readRegistryBelow([one]), delta: EMPTY_DELTA }),
  };
}
