// The registry that belongs to one layer: where it is sought, and how it is read.
// Called by below.ts; a layer is a drive_c folder, or an image whose root is one.
// Sought in `.wine/` of the layer, then in `.varve/` beside it (another layered prefix), then beside it (a plain prefix).

import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { joinLayers } from '../../stack/option-text.js';
import { readContent } from '../../tree/read-content.js';
import type { RegistryDelta } from '../registry/delta.js';
import { parseDelta } from '../registry/delta-text.js';
import { RegistryError } from '../registry/error.js';
import { fileOf, HIVES, type Hive, type HiveName, type Registry } from '../registry/hive.js';
import { parseHive } from '../registry/parse.js';
import { emptyHive } from '../registry/write.js';

/** File name of what a layer changes. */
export const DELTA_FILE = 'registry.delta';

/** Folder of an image, or of a drive_c, that holds its registry. */
export const INNER = '.wine';

/** What the registry of a layer says; nothing is parsed before it is asked. */
export type RegistrySource =
  | { readonly kind: 'none' }
  | { readonly kind: 'full'; readonly stamp: string; bytes(hive: HiveName): Buffer | undefined }
  | { readonly kind: 'delta'; readonly stamp: string; delta(): RegistryDelta };

/** Where files are looked for: bytes by name, and what changes when they change. */
interface Place {
  readonly label: string;
  read(name: string): Buffer | undefined;
  /** undefined: there is no such file. */
  stamp(name: string): string | undefined;
}

/** Of a drive_c folder. @throws MountError of kind `layer`. */
export function registryBeside(driveC: string): RegistrySource {
  const prefix = dirname(driveC);
  const folders = [join(driveC, INNER), join(prefix, '.varve'), prefix];
  for (const folder of folders) {
    // What a layered prefix is made of is its delta: the files beside it are everything below as well.
    const names = folder.endsWith('/.varve') ? [DELTA_FILE] : undefined;
    const source = sourceIn(inFolder(folder), names);
    if (source.kind !== 'none') return source;
  }
  return { kind: 'none' };
}

/** Of an image whose root is a drive_c. @param data folders of objects, of a composefs image. @throws MountError. */
export async function registryInImage(
  image: string,
  data: readonly string[],
): Promise<RegistrySource> {
  const files = await readInner(image, data);
  const { size, mtimeMs, ino } = statSync(image);
  const stamp = `${ino}:${size}:${mtimeMs}`;
  return sourceIn({
    label: `${image}: ${INNER}`,
    read: (name) => files.get(name),
    stamp: (name) => (files.has(name) ? stamp : undefined),
  });
}

/** Every registry file of an image. */
async function readInner(image: string, data: readonly string[]): Promise<Map<string, Buffer>> {
  // Half of varve, which a start without images does not wait for.
  const { asUnion, findStack, openLayers } = await import('../../ops/open-stack.js');
  const lowerdir = joinLayers([image], data);
  const opened = openLayers(await findStack({ options: [`lowerdir=${lowerdir}`], reads: true }));
  const files = new Map<string, Buffer>();
  try {
    const union = asUnion(opened);
    for (const name of [DELTA_FILE, ...HIVES.map(fileOf)]) {
      const place = union.at(`${INNER}/${name}`);
      if (place === undefined) continue;
      files.set(name, readContent(union.node(place)));
    }
  } finally {
    opened.close();
  }
  return files;
}

function inFolder(folder: string): Place {
  return {
    label: folder,
    read: (name) => readIfThere(join(folder, name)),
    stamp: (name) => stampOf(join(folder, name)),
  };
}

function sourceIn(place: Place, names = [DELTA_FILE, ...HIVES.map(fileOf)]): RegistrySource {
  const stamps = names.flatMap((name) => {
    const stamp = place.stamp(name);
    return stamp === undefined ? [] : [[name, stamp] as const];
  });
  const [first] = stamps;
  if (first === undefined) return { kind: 'none' };
  const stamp = stamps.map(([name, text]) => `${name}=${text}`).join(' ');
  if (first[0] !== DELTA_FILE) {
    return { kind: 'full', stamp, bytes: (hive) => place.read(fileOf(hive)) };
  }
  const label = join(place.label, DELTA_FILE);
  const delta = (): RegistryDelta => {
    const bytes = place.read(DELTA_FILE);
    if (bytes === undefined) throw new MountError('layer', `${label}: it is gone`);
    return understood(label, () => parseDelta(bytes));
  };
  return { kind: 'delta', stamp, delta };
}

/** Files as a registry; a missing one is empty. @param like probably much the same. @throws MountError of kind `layer`. */
export function registryOf(
  label: string,
  bytesOf: (hive: HiveName) => Buffer | undefined,
  like?: Registry,
): Registry {
  const hive = (name: HiveName): Hive => {
    const bytes = bytesOf(name);
    if (bytes === undefined || bytes.length === 0) return emptyHive(name, 'win64');
    return understood(join(label, fileOf(name)), () => parseHive(bytes, like?.[name]));
  };
  return { system: hive('system'), user: hive('user'), userdef: hive('userdef') };
}

/** @throws MountError in place of RegistryError. */
export function understood<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    throw new MountError('layer', `${path}: ${error.message}: take it from a backup`);
  }
}

/** What differs when a file has been written since; undefined: it is not there. */
export function stampOf(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true });
  if (found === undefined || !found.isFile()) return undefined;
  return `${found.ino}:${found.size}:${found.mtimeNs}`;
}

/** @throws MountError of kind `layer`. */
export function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new MountError('layer', `${path}: cannot be read: ${reasonOf(error)}`);
  }
}
