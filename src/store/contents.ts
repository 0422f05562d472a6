// What a store holds, listed: object files by folder, and what streams need.
// Used by gc, check and du, which judge it.
// Names that are none of a store's are told too: check calls them strays.

import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { FileSource } from '../linux/file-source.js';
import { StoreError } from './errors.js';
import { digestOfPath, isDigest, type Objects } from './objects.js';
import { splitstreamObjects } from './splitstream.js';
import type { Store } from './store.js';

/** Calls back for everything in the folder of objects; `digest` is undefined for what has not the name of an object. */
export function listObjects(
  store: Store,
  tell: (path: string, digest: string | undefined) => void,
): void {
  const own = store.objects === store.path;
  for (const folder of readdirSync(store.objects).sort()) {
    const isFolder = /^[0-9a-f]{2}$/.test(folder);
    if (!isFolder) {
      // In a digest store, other things may stand beside the objects.
      if (!own || folder.startsWith('.')) tell(folder, undefined);
      continue;
    }
    let names: string[];
    try {
      names = readdirSync(join(store.objects, folder)).sort();
    } catch (error) {
      // Also a link that leads nowhere.
      if (!['ENOTDIR', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      tell(folder, undefined);
      continue;
    }
    for (const name of names) {
      const digest = folder + name;
      tell(`${folder}/${name}`, isDigest(digest) ? digest : undefined);
    }
  }
}

/** Reads an object of a store. @returns undefined when it is not there. */
export function withObject<T>(
  objects: Objects,
  digest: string,
  use: (source: FileSource) => T,
): T | undefined {
  const fd = objects.open(digest);
  if (fd === undefined) return undefined;
  try {
    return use(new FileSource(fd, join(objects.path, digest)));
  } finally {
    closeSync(fd);
  }
}

export interface Stream {
  readonly name: string;
  /** The object that it is; undefined when its link leads to none. */
  readonly digest: string | undefined;
}

/** The links in streams/, those of composefs-rs. */
export function listStreams(store: Store): Stream[] {
  const folder = join(store.path, 'streams');
  let names: string[];
  try {
    names = store.isRepository ? readdirSync(folder).sort() : [];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .filter((name) => name !== 'refs')
    .map((name) => {
      let target = '';
      try {
        target = readlinkSync(join(folder, name));
      } catch {
        // No link: it leads to no object.
      }
      const isLink = target.startsWith('../objects/');
      return {
        name,
        digest: isLink ? digestOfPath(target.slice('../objects/'.length)) : undefined,
      };
    });
}

/**
 * Objects of all streams, and of the streams that these need.
 * @throws StoreError when one cannot be read: nobody then knows what it needs.
 */
export function streamObjects(store: Store, objects: Objects): Set<string> {
  const found = new Set<string>();
  const pending: string[] = [];
  for (const { name, digest } of listStreams(store)) {
    if (digest === undefined) continue;
    const needs = withObject(objects, digest, splitstreamObjects);
    if (needs === undefined) throw damaged(store, name);
    found.add(digest);
    pending.push(...needs);
  }
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (found.has(next)) continue;
    found.add(next);
    // One of a stream's objects may be a stream: its first bytes tell.
    pending.push(...(withObject(objects, next, splitstreamObjects) ?? []));
  }
  return found;
}

function damaged(store: Store, name: string): StoreError {
  return new StoreError(
    'store',
    `${join(store.path, 'streams', basename(name))}: cannot be read as a split stream: repair or remove it first`,
  );
}
