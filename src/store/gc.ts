// Garbage collection: what no named image, no user of an image and no stream needs is removed.
// Called by `store gc`. It has the store's lock alone, so nobody adds meanwhile; users of images keep theirs by holds.ts.
// Killed at any point it leaves a valid store: links of images go before objects, and are on disk as gone before.

import { closeSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { mapMemory } from '../linux/memory.js';
import { lockFile } from '../linux/peer.js';
import { syncPath } from '../linux/sync-path.js';
import { listObjects, streamObjects, withObject } from './contents.js';
import { StoreError } from './errors.js';
import { livePins } from './holds.js';
import { imageUses } from './image-objects.js';
import { listImages, listRefs, removeImage, sweepLinks } from './images.js';
import { isTemporary } from './object-writer.js';
import { Objects } from './objects.js';
import type { Store } from './store.js';

/** Milliseconds after which a temporary file of mkcomposefs, which takes no lock, is nobody's. */
const FOREIGN_AGE = 24 * 3600 * 1000;

export interface GcOptions {
  /** Only tell. */
  readonly dryRun?: boolean;
  /** Milliseconds since 1970. */
  readonly now?: number;
}

export interface GcReport {
  /** Digests of images that were removed. */
  readonly images: string[];
  /** Images without a name that are in use. */
  readonly inUse: string[];
  /** Objects that were removed, images among them, and their bytes. */
  objects: number;
  bytes: number;
  /** Files that killed processes left. */
  temporaries: number;
  /** Objects that stay. */
  kept: number;
}

/** @throws StoreError `busy` when somebody adds, `store` when it cannot be told what is needed. */
export function collectGarbage(store: Store, options: GcOptions = {}): GcReport {
  store.requireWritable();
  mapMemory();
  const dryRun = options.dryRun === true;
  const lock = store.lock(dryRun);
  const objects = new Objects(store.objects);
  const held: number[] = [];
  try {
    return collect(store, objects, held, dryRun, options.now ?? Date.now());
  } finally {
    for (const fd of held) closeSync(fd);
    objects.close();
    lock.release();
  }
}

/** @param held receives descriptors whose locks keep others from beginning to use what is removed. */
function collect(
  store: Store,
  objects: Objects,
  held: number[],
  dryRun: boolean,
  now: number,
): GcReport {
  const report: GcReport = { images: [], inUse: [], objects: 0, bytes: 0, temporaries: 0, kept: 0 };
  const named = namedImages(store);
  for (const { digest } of livePins(store.path, !dryRun)) {
    if (!named.has(digest)) report.inUse.push(digest);
    named.add(digest);
  }
  for (const { name, digest } of listImages(store)) {
    if (digest !== undefined && named.has(digest)) continue;
    if (digest !== undefined && isUsed(objects, digest, held)) {
      report.inUse.push(digest);
      named.add(digest);
    } else {
      report.images.push(name);
    }
  }
  const live = streamObjects(store, objects);
  for (const digest of named) addUses(store, objects, digest, live);

  if (!dryRun) {
    for (const name of report.images) removeImage(store, name);
    sweepLinks(store);
    if (report.images.length > 0) syncPath(join(store.path, 'images'));
  }
  listObjects(store, (path, digest) => {
    const file = join(store.objects, path);
    if (digest === undefined) {
      if (!isTemporary(path) || !isNobodys(file, now)) return;
      report.temporaries++;
    } else if (live.has(digest)) {
      report.kept++;
      return;
    } else {
      report.objects++;
      report.bytes += statSync(file).size;
    }
    if (!dryRun) unlinkSync(file);
  });
  return report;
}

/** Images that have a name. */
function namedImages(store: Store): Set<string> {
  const named = new Set<string>();
  const images = new Set(listImages(store).map(({ digest }) => digest));
  for (const { name, digest } of listRefs(store)) {
    if (digest === undefined || !images.has(digest)) {
      throw new StoreError(
        'store',
        `${join(store.path, 'images/refs', name)}: leads to no image: what it needs is not known; repair it, or give it up by \`varve store rm\``,
      );
    }
    named.add(digest);
  }
  return named;
}

/** Whether a process has the image in use; if not, nobody can begin to while its descriptor is in `held`. */
function isUsed(objects: Objects, digest: string, held: number[]): boolean {
  const fd = objects.open(digest);
  if (fd === undefined) return false;
  if (lockFile(fd) < 0) {
    closeSync(fd);
    return true;
  }
  held.push(fd);
  return false;
}

/** Adds an image and its objects. */
function addUses(store: Store, objects: Objects, digest: string, live: Set<string>): void {
  live.add(digest);
  const problem = (what: string, cause?: unknown): StoreError =>
    new StoreError(
      'store',
      `image ${digest} of ${store.path}: ${what}: what it needs is not known, so nothing is removed; see \`varve store check\``,
      { cause },
    );
  try {
    const counts = withObject(objects, digest, (source) =>
      imageUses(source, ({ object, digest: required }) => {
        if (object !== undefined) live.add(object);
        if (required !== undefined) live.add(required);
      }),
    );
    if (counts === undefined) throw problem('its object is missing');
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw problem(error instanceof Error ? error.message : String(error), error);
  }
}

/** Ours are nobody's, because those who make them have the lock. */
function isNobodys(file: string, now: number): boolean {
  return !file.includes('/.tmp') || now - statSync(file).mtimeMs > FOREIGN_AGE;
}
