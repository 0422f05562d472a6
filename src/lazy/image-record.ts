// Which images an image store has: a file each, naming the layers and how a command runs in them.
// Written by pull/ and push/, read by every command that takes a reference; layers themselves are layer-folder.ts.
// A record appears and changes by one rename, and names only layers that are there.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { readIfThere } from '../linux/read-if-there.js';
import { syncPath } from '../linux/sync-path.js';
import { writeDurable } from './write-durable.js';

/** How a command runs in an image: the `config` of an OCI image configuration, as far as it is used. */
export interface RunConfig {
  /** `NAME=value` */
  readonly env?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  /** `user`, `uid`, `user:group` or `uid:gid` */
  readonly user?: string;
  readonly workdir?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** An image that the store has. */
export interface ImageRecord {
  readonly version: 1;
  /** As it was named, in full: `registry/repository:tag`, or with `@sha256:HEX` when it was named by digest. */
  readonly name: string;
  /** `sha256:HEX` of its manifest (of the platform's, where the name is that of an index). */
  readonly digest: string;
  /** `os/architecture[/variant]` */
  readonly platform: string;
  readonly config: RunConfig;
  /** Ids of the layers, from the bottom. */
  readonly layers: readonly string[];
}

/** What stands in the place of a record and is none. */
export class ImageRecordError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ImageRecordError';
  }
}

/**
 * The folder of the image store: what `--store` says, else $VARVE_IMAGES, else that of the machine for root and of the user
 * for others.
 */
export function imageStorePath(given?: string, env: NodeJS.ProcessEnv = process.env): string {
  const named = given ?? env['VARVE_IMAGES'];
  if (named !== undefined && named !== '') return resolve(named);
  if (process.geteuid?.() === 0) return '/var/lib/varve/images';
  const data = env['XDG_DATA_HOME'] || join(env['HOME'] || homedir(), '.local/share');
  return join(data, 'varve/images');
}

/** Longest file name that is made of a name as it is. */
const LONGEST = 200;

const folderOf = (store: string): string => join(store, 'images');

function pathOf(store: string, name: string): string {
  let escaped = encodeURIComponent(name);
  if (escaped.length > LONGEST) {
    escaped = `${escaped.slice(0, 100)}.${createHash('sha256').update(name).digest('hex')}`;
  }
  return join(folderOf(store), `${escaped}.json`);
}

/** Gives an image its record, replacing the one that it had. On disk when this returns. */
export function writeImage(store: string, image: ImageRecord): void {
  const folder = folderOf(store);
  mkdirSync(folder, { recursive: true });
  writeDurable(pathOf(store, image.name), `${JSON.stringify(image, undefined, 2)}\n`);
  syncPath(folder);
}

/** @returns undefined when the store has no image of this name. @throws ImageRecordError. */
export function readImage(store: string, name: string): ImageRecord | undefined {
  return readRecord(pathOf(store, name));
}

function readRecord(path: string): ImageRecord | undefined {
  const bytes = readIfThere(path);
  if (bytes === undefined) return undefined;
  let image: ImageRecord;
  try {
    image = JSON.parse(bytes.toString()) as ImageRecord;
  } catch {
    throw new ImageRecordError(`${path}: is no JSON; remove it and pull the image again`);
  }
  if (image.version !== 1) throw new ImageRecordError(`${path}: version ${image.version}`);
  return image;
}

/** All images, by name. @throws ImageRecordError. */
export function listImages(store: string): ImageRecord[] {
  let files: string[];
  try {
    files = readdirSync(folderOf(store));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const images: ImageRecord[] = [];
  for (const file of files) {
    if (!file.endsWith('.json')) continue;
    // Removed since the folder was read: not there.
    const image = readRecord(join(folderOf(store), file));
    if (image !== undefined) images.push(image);
  }
  return images.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Takes an image's record away; its layers stay until pruneLayers(). @returns false when there was none. */
export function removeImage(store: string, name: string): boolean {
  try {
    rmSync(pathOf(store, name));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
