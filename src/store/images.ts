// The images of a store and their names: images/DIGEST and images/refs/NAME, symbolic links both.
// Used by the store commands, gc and check; a mount finds images by the same names.
// Follows: composefs-rs 0.3; a name may have folders, and what has none is taken away by the next gc.

import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { syncPath } from '../linux/sync-path.js';
import { StoreError } from './errors.js';
import { digestOfPath, isDigest, objectPath } from './objects.js';
import type { Store } from './store.js';

/** Names of links that are about to get their own name. */
const TEMPORARY = '.varve-';
/** Digits of a digest that may stand for it, at least. */
const SHORT_DIGEST = 8;

/** A link in images/. */
export interface ImageLink {
  /** Its name: what should be a digest. */
  readonly name: string;
  /** The digest that it leads to; undefined when it is no link to an object. */
  readonly digest: string | undefined;
}

/** A link in images/refs/. */
export interface RefLink {
  readonly name: string;
  /** The image that it leads to; undefined when it leads elsewhere. */
  readonly digest: string | undefined;
}

const imagesFolder = (store: Store): string => join(store.path, 'images');
const refsFolder = (store: Store): string => join(store.path, 'images', 'refs');

/** All links in images/, in order; none for a digest store. */
export function listImages(store: Store): ImageLink[] {
  const folder = imagesFolder(store);
  return names(folder)
    .filter((name) => name !== 'refs' && !name.startsWith(TEMPORARY))
    .map((name) => {
      const target = linkTarget(join(folder, name)) ?? '';
      const isLink = target.startsWith('../objects/');
      return {
        name,
        digest: isLink ? digestOfPath(target.slice('../objects/'.length)) : undefined,
      };
    });
}

/** All names of images, in order. */
export function listRefs(store: Store): RefLink[] {
  const found: RefLink[] = [];
  const root = refsFolder(store);
  const list = (folder: string, prefix: string): void => {
    for (const name of names(folder)) {
      if (name.startsWith(TEMPORARY)) continue;
      const path = join(folder, name);
      const target = linkTarget(path);
      if (target === undefined) {
        if (isFolder(path)) list(path, `${prefix}${name}/`);
        else found.push({ name: prefix + name, digest: undefined });
        continue;
      }
      const digest = basename(target);
      const isOurs = join(folder, target) === join(imagesFolder(store), digest);
      found.push({ name: prefix + name, digest: isOurs && isDigest(digest) ? digest : undefined });
    }
  };
  list(root, '');
  return found;
}

/**
 * The image that is meant: a name, a digest, or the beginning of one.
 * @throws StoreError `absent` when there is none, `name` when there are several.
 */
export function resolveImage(store: Store, asked: string): string {
  const ref = listRefs(store).find(({ name }) => name === asked);
  if (ref?.digest !== undefined) return ref.digest;
  const wanted = asked.replace(/^sha(?:256|512):/, '');
  const isShort = wanted.length >= SHORT_DIGEST && /^[0-9a-f]+$/.test(wanted);
  const found = listImages(store).filter(({ name }) => isShort && name.startsWith(wanted));
  if (found.length === 1) return (found[0] as ImageLink).name;
  if (found.length > 1) {
    throw new StoreError('name', `${asked}: ${found.length} images begin so: give more digits`);
  }
  const dangling = ref === undefined ? '' : ' (the name leads nowhere)';
  throw new StoreError(
    'absent',
    `${asked}: no image of ${store.path}${dangling}: see \`varve store ls ${store.path}\``,
  );
}

/** @throws StoreError `name` for what images cannot be called. */
export function requireName(name: string): void {
  const wrong =
    name === '' ||
    Buffer.byteLength(name) > 1024 ||
    isDigest(name) ||
    // Also what was no UTF-8 on the command line.
    /[\p{Cc}\u2028\u2029\ufffd]/u.test(name) ||
    name.split('/').some((part) => {
      const isDots = part === '' || part === '.' || part === '..';
      return isDots || part.startsWith(TEMPORARY) || Buffer.byteLength(part) > 255;
    });
  if (!wrong) return;
  throw new StoreError(
    'name',
    `${JSON.stringify(name)}: cannot name an image: write words with / between them, such as os/2026`,
  );
}

/** @throws StoreError `name` when names that are there leave no place for this one. */
export function requirePlace(store: Store, name: string): void {
  for (const { name: other } of listRefs(store)) {
    const isBelow = name.startsWith(`${other}/`);
    if (!isBelow && !other.startsWith(`${name}/`)) continue;
    throw new StoreError(
      'name',
      `${name}: ${isBelow ? `${other} names an image, so nothing can be below it` : `is the folder of ${other}`}: take another name, or remove that by \`varve store rm\``,
    );
  }
}

/** Makes the link of an image whose object is there, and gives it a name, in place of what had that; each by one rename. */
export function publishImage(store: Store, digest: string, name: string | undefined): void {
  const image = join(imagesFolder(store), digest);
  mkdirSync(refsFolder(store), { recursive: true });
  replaceLink(image, `../objects/${objectPath(digest)}`);
  if (name === undefined) return;
  const ref = join(refsFolder(store), name);
  mkdirSync(dirname(ref), { recursive: true });
  replaceLink(ref, relative(dirname(ref), image));
}

/** Takes names away, and folders of names that are empty then. @throws StoreError `absent`, and all stay, when one is none. */
export function removeRef(store: Store, ...names: string[]): void {
  const known = new Set(listRefs(store).map(({ name }) => name));
  for (const name of names) {
    if (known.has(name)) continue;
    throw new StoreError(
      'absent',
      `${name}: no name of an image of ${store.path}: see \`varve store ls ${store.path}\``,
    );
  }
  for (const name of new Set(names)) removeOne(store, name);
}

function removeOne(store: Store, name: string): void {
  const path = join(refsFolder(store), name);
  unlinkSync(path);
  syncPath(dirname(path));
  for (let at = dirname(path); at !== refsFolder(store); at = dirname(at)) {
    try {
      rmdirSync(at);
    } catch {
      return;
    }
  }
}

/** Removes the link of an image. */
export function removeImage(store: Store, digest: string): void {
  unlinkSync(join(imagesFolder(store), digest));
}

/** Removes links that a killed process left. */
export function sweepLinks(store: Store): void {
  const sweep = (folder: string): void => {
    for (const name of names(folder)) {
      const path = join(folder, name);
      if (name.startsWith(TEMPORARY)) unlinkSync(path);
      else if (linkTarget(path) === undefined && isFolder(path)) sweep(path);
    }
  };
  sweep(imagesFolder(store));
}

function replaceLink(path: string, target: string): void {
  const folder = dirname(path);
  if (linkTarget(path) !== target) {
    const temporary = join(folder, `${TEMPORARY}${randomBytes(9).toString('base64url')}`);
    symlinkSync(target, temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      unlinkSync(temporary);
      throw error;
    }
  }
  syncPath(folder);
}

/** Names in a folder, sorted; none when it is not there. */
function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** undefined for what is no symbolic link. */
function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EINVAL' || code === 'ENOENT') return undefined;
    throw error;
  }
}

function isFolder(path: string): boolean {
  try {
    readdirSync(path);
    return true;
  } catch {
    return false;
  }
}
