// Finds a composefs image and the objects that it takes its content from: by path, by name or by digest.
// Called by `varve mount --image` and `varve run`, before any option is read.
// Layouts: DIR/images/DIGEST, DIR/images/refs/NAME and DIR/objects of a store (as composefs-rs has them); DIR/XX of mkcomposefs.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { StoreError } from '../store/errors.js';
import { resolveImage } from '../store/images.js';
import { digestOfPath, isDigest, objectPath } from '../store/objects.js';
import { Store } from '../store/store.js';
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
  const opened = stores.map((store) => openStore(store, cwd));
  const objects = opened.map((store) => realpathSync.native(store.objects));
  for (const store of opened) {
    const found = inStore(asked, store);
    if (found !== undefined) return { asked, objects, store: store.path, ...found };
  }
  const path = resolve(cwd, asked);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === true) {
    return { asked, path: realpathSync.native(path), objects, byDigest: false };
  }
  const named = opened.map((store) => store.path).join(' or ');
  throw new MountError(
    'layer',
    `image: ${asked}: neither a file nor an image of ${named}: \`varve store ls\` lists what a store has`,
  );
}

function openStore(store: string, cwd: string): Store {
  try {
    return new Store(realpathSync.native(resolve(cwd, store)));
  } catch (error) {
    if (error instanceof StoreError) throw new MountError('layer', error.message);
    throw new MountError(
      'layer',
      `store: ${store}: ${reasonOf(error)}: name the folder of a store`,
    );
  }
}

/** @returns undefined when the store has no such image: then it may be a file. */
function inStore(
  asked: string,
  store: Store,
): { path: string; digest: string; byDigest: boolean } | undefined {
  const byDigest = isDigest(asked);
  // A digest store of mkcomposefs has images as objects like others, without a list of them.
  const digest = resolved(asked, store) ?? (byDigest ? asked : undefined);
  if (digest === undefined) return undefined;
  const path = join(store.objects, objectPath(digest));
  if (existsSync(path)) return { path: realpathSync.native(path), digest, byDigest };
  if (byDigest) return undefined;
  throw new MountError(
    'layer',
    `image: ${asked}: its name stands for ${digest}, which ${store.path} has not: add it again, or give up the name`,
  );
}

function resolved(asked: string, store: Store): string | undefined {
  // Paths are files.
  if (asked.startsWith('/') || asked.startsWith('./') || asked.startsWith('../')) return undefined;
  try {
    return resolveImage(store, asked);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (error.kind === 'absent') return undefined;
    throw new MountError(error.kind === 'name' ? 'option' : 'layer', error.message);
  }
}

/** The digest in the path of an image that is an object of a store; undefined for any other path. Nobody has compared it. */
export function digestOfImage(path: string): string | undefined {
  return digestOfPath(path.split('/').slice(-2).join('/'));
}
