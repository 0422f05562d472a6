// Finds a composefs image and the objects that it takes its content from: by path, by name or by digest.
// Called by `varve mount --image` and `varve run`, before any option is read.
// Layouts: DIR/images/DIGEST, DIR/images/refs/NAME and DIR/objects of a store (as composefs-rs has them); DIR/XX of mkcomposefs.

import { existsSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, join, normalize, resolve } from 'node:path';
import { digestOfPath, isDigest, objectPath, objectsFolder } from '../store/objects.js';
import { MountError, reasonOf } from './errors.js';

/** An image and its stores. */
export interface FoundImage {
  /** As it was asked for: a path, a name, a digest. */
  readonly asked: string;
  /** Absolute path of the file. */
  readonly path: string;
  /** Absolute folders of objects, in the order of the stores. */
  readonly objects: readonly string[];
  /** The store that knows it, absolute. */
  readonly store?: string;
  /** What the store says that it is: hex. Nobody has compared it yet. */
  readonly digest?: string;
  /** The digest is how the image was asked for, so it is what the image must have. */
  readonly byDigest: boolean;
}

/**
 * @param asked what stands behind --image. A name of a store goes before a file; `./NAME` is a file.
 * @param stores as written, at least one.
 * @throws MountError of kind `layer` when there is no such store or image.
 */
export function findImage(
  asked: string,
  stores: readonly string[],
  cwd: string = process.cwd(),
): FoundImage {
  const folders = stores.map((store) => openStore(store, cwd));
  const objects = folders.map(objectsFolder);
  for (const store of folders) {
    const found = inStore(asked, store);
    if (found !== undefined) return { asked, objects, store, ...found };
  }
  const path = resolve(cwd, asked);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === true) {
    return { asked, path: realpathSync.native(path), objects, byDigest: false };
  }
  throw new MountError(
    'layer',
    `image: ${asked}: neither a file nor an image of ${folders.join(' or ')}: \`varve store ls\` lists what a store has`,
  );
}

function openStore(store: string, cwd: string): string {
  try {
    const path = realpathSync.native(resolve(cwd, store));
    if (statSync(path).isDirectory()) return path;
  } catch (error) {
    throw new MountError(
      'layer',
      `store: ${store}: ${reasonOf(error)}: name the folder of a store`,
    );
  }
  throw new MountError('layer', `store: ${store}: not a directory: name the folder of a store`);
}

function inStore(
  asked: string,
  store: string,
): { path: string; digest: string; byDigest: boolean } | undefined {
  if (isDigest(asked)) {
    for (const path of [join(store, 'images', asked), objectIn(store, asked)]) {
      if (existsSync(path))
        return { path: realpathSync.native(path), digest: asked, byDigest: true };
    }
    return undefined;
  }
  // A name may have folders, and leads nowhere else.
  if (asked.startsWith('/') || /(^|\/)\.{1,2}(\/|$)/.test(asked)) return undefined;
  const ref = join(store, 'images/refs', normalize(asked));
  let digest: string;
  try {
    digest = basename(readlinkSync(ref));
  } catch {
    return undefined;
  }
  if (!isDigest(digest)) return undefined;
  try {
    return { path: realpathSync.native(ref), digest, byDigest: false };
  } catch {
    throw new MountError(
      'layer',
      `image: ${asked}: ${ref} names ${digest}, which the store has not: add it again, or remove the name`,
    );
  }
}

const objectIn = (store: string, digest: string): string =>
  join(objectsFolder(store), objectPath(digest));

/** The digest in the path of an image that is an object of a store; undefined for any other path. Nobody has compared it. */
export function digestOfImage(path: string): string | undefined {
  return digestOfPath(path.split('/').slice(-2).join('/'));
}
