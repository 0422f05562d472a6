// Puts a layer into a prefix, or takes it out: the list of what lies below changes, the prefix's own changes stay.
// Called by `varve wine layer put` and `take`, while the prefix is down.
// The record is written by one rename; the registry follows from it, at once or when the prefix starts next.

import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { resolveBelow } from '../prefix/below.js';
import { type Materialised, materialise } from '../prefix/materialise.js';
import { pathsOf, winePlaces } from '../prefix/places.js';
import { type PrefixRecord, writeRecord } from '../prefix/record.js';
import { layerNamed } from './create.js';
import { refusePending } from './form.js';
import { type Held, holdNamed } from './hold.js';
import { dropCopies } from './own-files.js';
import { findLayer, listLayers } from './shelf.js';
import { withLibrary } from './stage.js';

export interface LayersChanged {
  /** Absolute. */
  readonly folder: string;
  /** Topmost first, as they are now. */
  readonly layers: readonly string[];
  /** Where the prefix itself has changed the same of the registry: its side stays. */
  readonly conflicts: Materialised['conflicts'];
}

/**
 * @param layer a name, or a path of a drive_c or an image. @param above the layer that is to stay over it; undefined: it
 * becomes the topmost.
 * @throws MountError; then the prefix is what it was.
 */
export async function putLayer(
  prefix: string,
  layer: string,
  above: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<LayersChanged> {
  const places = winePlaces(env);
  const held = await holdNamed(prefix, 'change it', env);
  try {
    return await withLibrary(places, async () => {
      const name = layerNamed(layer, places);
      const { layers } = held.record;
      if (layers.includes(name)) {
        throw new MountError('option', `prefix ${prefix}: has the layer ${name} already`);
      }
      if (!layer.includes('/')) await refusePending(findLayer(layer, places));
      const at = above === undefined ? 0 : placeOf(above, prefix, layers) + 1;
      return change(held, [...layers.slice(0, at), name, ...layers.slice(at)], undefined, env);
    });
  } finally {
    held.release();
  }
}

/** @throws MountError; then the prefix is what it was. */
export async function takeLayer(
  prefix: string,
  layer: string,
  env: NodeJS.ProcessEnv,
): Promise<LayersChanged> {
  const places = winePlaces(env);
  const held = await holdNamed(prefix, 'change it', env);
  try {
    return await withLibrary(places, async () => {
      const { layers } = held.record;
      const at = placeOf(layer, prefix, layers);
      const name = layers[at] as string;
      const rest = layers.toSpliced(at, 1);
      // One that is gone from the library can be taken out all the same.
      const isThere = isAbsolute(name)
        ? existsSync(name)
        : listLayers(places).some((entry) => entry.name === name);
      if (isThere && !isAbsolute(name)) await refusePending(findLayer(name, places));
      return change(held, rest, isThere ? layers : rest, env);
    });
  } finally {
    held.release();
  }
}

function placeOf(layer: string, prefix: string, layers: readonly string[]): number {
  const wanted = layer.includes('/') ? resolve(layer) : layer;
  const at = layers.indexOf(wanted);
  if (at >= 0) return at;
  const has = layers.length === 0 ? 'it has none' : `it has ${layers.join(', ')}`;
  throw new MountError('absent', `prefix ${prefix}: has no layer ${layer}: ${has}`);
}

/**
 * @param before of a layer that is taken: those of the prefix until now, as far as they are there. What is only a copy of a
 * layer's file, or only hides one, goes with it; what differs stays as the prefix's own. When a layer is put nothing goes: it
 * may be taken again.
 */
async function change(
  { folder, record }: Held,
  layers: readonly string[],
  before: readonly string[] | undefined,
  env: NodeJS.ProcessEnv,
): Promise<LayersChanged> {
  const { driveC } = pathsOf(folder);
  const changed: PrefixRecord = { ...record, layers };
  const below = await resolveBelow(changed, env);
  if (before !== undefined) {
    await dropCopies(driveC, await resolveBelow({ ...record, layers: before }, env));
  }
  writeRecord(folder, changed);
  if (before !== undefined) await dropCopies(driveC, below);
  const { conflicts } = materialise(folder, below);
  return { folder, layers, conflicts };
}
