// What lies below a prefix's own changes: its layers and its base, as folders or images, and their merged registry.
// Made of a prefix's record, or of WINEPREFIX_OVERLAYS; used by the session, by materialise.ts and by diff.
// Topmost first everywhere.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { isErofs, isImage } from '../../stack/images.js';
import { applyDelta } from '../registry/apply.js';
import { deltaOfFull } from '../registry/compose.js';
import type { Registry } from '../registry/hive.js';
import { pathsOf, winePlaces } from './places.js';
import type { PrefixRecord } from './record.js';
import {
  type RegistrySource,
  registryBeside,
  registryInImage,
  registryOf,
} from './registry-source.js';

/** One read-only layer. */
export interface Below {
  /** As a person named it: `office`, `default@2`, a path. */
  readonly label: string;
  /** Absolute: a directory, or an image whose root is one. */
  readonly driveC: string;
  readonly isImage: boolean;
  /** Folders of objects, of a composefs image: data-only layers. */
  readonly data: readonly string[];
  readonly registry: RegistrySource;
}

/** @throws MountError of kind `layer` that names what is missing. */
export async function resolveBelow(
  record: Pick<PrefixRecord, 'base' | 'layers'>,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Below[]> {
  const named = record.layers.map((name) => [name, layerPlace(name, env)] as const);
  const { base } = record;
  if (base !== undefined) named.push([base, basePlace(base, env)]);
  return Promise.all(named.map(([label, path]) => belowAt(label, path)));
}

/** @param name as a record has it: a name, or an absolute path. */
export function layerPlace(name: string, env: NodeJS.ProcessEnv = process.env): string {
  if (isAbsolute(name)) return name;
  const { layers } = winePlaces(env);
  const image = join(layers, `${name}.erofs`);
  const folder = join(layers, name, 'drive_c');
  if (existsSync(folder)) return folder;
  if (existsSync(image)) return image;
  throw new MountError('layer', `layer ${name}: not found: \`varve wine ls\` lists what is there`);
}

/** @param reference `NAME@N`. */
export function basePlace(reference: string, env: NodeJS.ProcessEnv = process.env): string {
  const [name = '', version = ''] = reference.split('@');
  const folder = join(winePlaces(env).bases, name);
  const image = join(folder, `${version}.erofs`);
  const driveC = join(folder, version, 'drive_c');
  if (version !== '' && existsSync(driveC)) return driveC;
  if (version !== '' && existsSync(image)) return image;
  throw new MountError(
    'layer',
    `base ${reference}: not found: \`varve wine ls\` lists what is there`,
  );
}

/**
 * The elements of WINEPREFIX_OVERLAYS: separated by colons, `\:` is a colon in a name. Empty ones do not count.
 * @returns absolute paths.
 */
export function overlaysOf(value: string, cwd = process.cwd()): string[] {
  const elements = value.match(/(?:\\.|[^:\\]|\\$)+/g) ?? [];
  return elements.map((element) => resolve(cwd, element.replace(/\\([:\\])/g, '$1')));
}

/** @param path of a drive_c folder or an image. @throws MountError of kind `layer` or `busy`. */
export async function belowAt(label: string, path: string): Promise<Below> {
  let real: string;
  let image: boolean;
  try {
    real = realpathSync(path);
    image = isImage(real);
  } catch (error) {
    throw new MountError(
      'layer',
      `layer ${label}: ${path}: ${reasonOf(error)}: name a drive_c folder or an EROFS image`,
    );
  }
  if (!image) {
    const driveC = ownFiles(real);
    return {
      label,
      driveC,
      isImage: false,
      data: [],
      registry: registryBeside(driveC === real ? real : join(dirname(dirname(driveC)), 'drive_c')),
    };
  }
  if (!isErofs(real)) {
    throw new MountError(
      'layer',
      `layer ${label}: ${path}: neither a folder nor an EROFS image: name a drive_c`,
    );
  }
  const data = dataOf(real);
  return { label, driveC: real, isImage: true, data, registry: await registryInImage(real, data) };
}

/** IMAGE.objects, a folder or a symlink to one: where the content of a composefs image is. */
function dataOf(image: string): string[] {
  const objects = `${image}.objects`;
  return existsSync(objects) ? [realpathSync(objects)] : [];
}

/** Of a layered prefix whose session was cut off: where its files are meanwhile. @throws MountError of kind `busy`. */
function ownFiles(driveC: string): string {
  if (basename(driveC) !== 'drive_c') return driveC;
  const { upper, folder } = pathsOf(dirname(driveC));
  if (!existsSync(upper)) return driveC;
  if (statSync(driveC).dev === statSync(folder).dev) return upper;
  throw new MountError(
    'busy',
    `layer ${driveC}: a session of that prefix is using it: end it with \`varve wine stop ${folder}\``,
  );
}

/** The registry that all of them give together; undefined: none has any. @throws MountError of kind `layer`. */
export function readRegistryBelow(below: readonly Below[]): Registry | undefined {
  let merged: Registry | undefined;
  for (const { label, registry } of below.toReversed()) {
    if (registry.kind === 'none') continue;
    if (registry.kind === 'full') {
      const full = registryOf(label, registry.bytes);
      merged = merged === undefined ? full : applyDelta(merged, deltaOfFull(full));
    } else {
      merged = applyDelta(merged ?? registryOf(label, () => undefined), registry.delta());
    }
  }
  return merged;
}

/** What differs when the registry below may be another one. */
export function stampOfBelow(below: readonly Below[]): string {
  return JSON.stringify(
    below.flatMap(({ driveC, registry }) =>
      registry.kind === 'none' ? [] : [[driveC, registry.kind, registry.stamp]],
    ),
  );
}
