// Keeps `varve store gc` away from what a mount of a composefs image uses, as long as the mount lives.
// Called by composefs-open.ts in a server, whose descriptors are the hold, and by mount-image.ts for a mount of the kernel.
// The locks and pins are store/holds.ts's. An image that is not in a store holds all of it: nobody else knows its objects.

import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { holdImage, holdStore, pinImage } from '../store/holds.js';
import { isSuccessor, keep } from '../supervisor/orders.js';
import { MountError } from './errors.js';
import { digestOfImage } from './find-image.js';

/** The files of a mount. */
export interface HeldFiles {
  /** Path of the image. */
  readonly image: string;
  /** Folders of objects. */
  readonly objects: readonly string[];
}

/**
 * Holds image and objects until `fd` and this process, and its successors, are gone.
 * @param fd the image, opened for reading; the caller closes it when the mount is over.
 * @throws MountError of kind `busy` while gc is at work.
 */
export function holdForMount({ image, objects }: HeldFiles, fd: number): void {
  for (const folder of objects) {
    if (isObjectOf(image, folder)) {
      if (!isSuccessor() && !holdImage(fd)) throw beingCollected(image);
    } else {
      keep(`hold of ${folder}`, () => holdOf(storeOf(folder)));
    }
  }
}

function holdOf(store: string): number {
  const fd = holdStore(store);
  if (fd === undefined) throw beingCollected(store);
  return fd;
}

/**
 * Has the kernel mount an image, and notes it in the store before anybody can take it away.
 * @param mount makes the mount. @throws what `mount` throws, MountError of kind `busy` while gc is at work.
 */
export function pinned({ image, objects }: HeldFiles, mountpoint: string, mount: () => void): void {
  const fd = openSync(image, 'r');
  try {
    const held = objects.filter((folder) => isObjectOf(image, folder));
    if (held.length > 0 && !holdImage(fd)) throw beingCollected(image);
    mount();
    for (const folder of held) pin(storeOf(folder), digestOfImage(image) as string, mountpoint);
  } finally {
    closeSync(fd);
  }
}

function pin(store: string, digest: string, mountpoint: string): void {
  try {
    pinImage(store, digest, mountpoint);
  } catch (error) {
    // Who may not write there removes nothing, and gc is for those who may.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EROFS' && code !== 'EACCES') throw error;
  }
}

const isObjectOf = (image: string, folder: string): boolean =>
  dirname(dirname(image)) === folder && digestOfImage(image) !== undefined;

/** A store has its objects in `objects`; a digest store is that folder itself. */
const storeOf = (folder: string): string =>
  basename(folder) === 'objects' ? dirname(folder) : folder;

const beingCollected = (path: string): MountError =>
  new MountError('busy', `${path}: \`varve store gc\` is at work: try again when it is done`);
