// What images take: the bytes of their objects, those that others use too, and those that nobody uses.
// Called by `store du`, `ls` and `show`.
// Sizes are those of the files, not of the blocks that they take.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { listObjects, withObject } from './contents.js';
import { imageUses } from './image-objects.js';
import { listImages, listRefs } from './images.js';
import { Objects, objectPath } from './objects.js';
import type { Store } from './store.js';

export interface ImageUsage {
  readonly digest: string;
  readonly names: readonly string[];
  /** Of the image itself, bytes. */
  readonly imageBytes: number;
  readonly inodes: number;
  /** Regular files, and what all of them have together, each file counted. */
  readonly files: number;
  readonly fileBytes: number;
  /** Different objects, and their bytes. */
  readonly objects: number;
  readonly bytes: number;
  /** Of these, what other images use too; and what this one alone does: what removing it would free, with the image itself. */
  sharedBytes: number;
  ownBytes: number;
  /** Why it cannot be read; then the figures are zero. */
  readonly problem?: string;
}

export interface StoreUsage {
  readonly images: readonly ImageUsage[];
  /** All objects that are there, images among them. */
  readonly objects: number;
  readonly bytes: number;
  /** Objects that no image uses, with or without a name. */
  readonly unusedObjects: number;
  readonly unusedBytes: number;
}

/** The objects of one image by digest, with their bytes. */
type Uses = Map<string, number>;

/** @param only this image; the others are read all the same, where `shared` is wanted. */
export function storeUsage(store: Store): StoreUsage {
  const names = namesByImage(store);
  const objects = new Objects(store.objects);
  const found: { usage: ImageUsage; uses: Uses }[] = [];
  try {
    for (const { digest } of listImages(store)) {
      if (digest !== undefined) found.push(readUsage(objects, digest, names.get(digest) ?? []));
    }
  } finally {
    objects.close();
  }
  const users = new Map<string, number>();
  for (const { usage, uses } of found) {
    users.set(usage.digest, Number.POSITIVE_INFINITY);
    for (const object of uses.keys()) users.set(object, (users.get(object) ?? 0) + 1);
  }
  for (const { usage, uses } of found) {
    for (const [object, bytes] of uses) {
      if (users.get(object) === 1) usage.ownBytes += bytes;
      else usage.sharedBytes += bytes;
    }
  }
  const all = { objects: 0, bytes: 0, unusedObjects: 0, unusedBytes: 0 };
  listObjects(store, (_path, digest) => {
    if (digest === undefined) return;
    const { size } = statSync(join(store.objects, objectPath(digest)));
    all.objects++;
    all.bytes += size;
    if (users.has(digest)) return;
    all.unusedObjects++;
    all.unusedBytes += size;
  });
  return { images: found.map(({ usage }) => usage), ...all };
}

/** The figures of one image, `sharedBytes` and `ownBytes` zero. */
export function imageUsage(store: Store, digest: string): ImageUsage {
  const objects = new Objects(store.objects);
  try {
    return readUsage(objects, digest, namesByImage(store).get(digest) ?? []).usage;
  } finally {
    objects.close();
  }
}

function namesByImage(store: Store): Map<string, string[]> {
  const names = new Map<string, string[]>();
  for (const { name, digest } of listRefs(store)) {
    if (digest === undefined) continue;
    const known = names.get(digest);
    if (known === undefined) names.set(digest, [name]);
    else known.push(name);
  }
  return names;
}

function readUsage(
  objects: Objects,
  digest: string,
  names: readonly string[],
): { usage: ImageUsage; uses: Uses } {
  const uses: Uses = new Map();
  let fileBytes = 0;
  let imageBytes = 0;
  let counts = { inodes: 0, files: 0 };
  let bytes = 0;
  let problem: string | undefined;
  try {
    const read = withObject(objects, digest, (source) => {
      imageBytes = source.size;
      return imageUses(source, ({ object, size }) => {
        fileBytes += size;
        if (object === undefined || uses.has(object)) return;
        uses.set(object, size);
        bytes += size;
      });
    });
    if (read === undefined) problem = 'its object is missing';
    else counts = read;
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  const figures = { imageBytes, ...counts, fileBytes, objects: uses.size, bytes };
  const usage = { digest, names, ...figures, sharedBytes: 0, ownBytes: 0 };
  return { usage: problem === undefined ? usage : { ...usage, problem }, uses };
}
