// Image files that become a base or a layer: found by path or in a store, and put in place by copy or by link.
// Called by base.ts and import.ts. Composefs images have a link to their objects beside them, NAME.objects.
// Files of an image belong to whom it says: a plain user gets an image of his own, where he could not write over them.

import { constants, copyFileSync, existsSync, realpathSync, symlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { buildImage } from '../../erofs/write.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { findImage } from '../../stack/find-image.js';
import { isComposefs, isErofs } from '../../stack/images.js';
import { openForm } from './form.js';

export interface ImageFile {
  /** Absolute, without symlinks. */
  readonly path: string;
  /** Of a composefs image: the folder of its objects. */
  readonly objects?: string;
}

/** @param from a file, or STORE#NAME. @throws MountError of kind `layer`. */
export function imageAt(from: string): ImageFile {
  const hash = from.lastIndexOf('#');
  if (hash > 0 && !existsSync(from)) {
    const { path, objects } = findImage(from.slice(hash + 1), [from.slice(0, hash)]);
    return { path, objects: objects[0] };
  }
  const path = realpathSync(from);
  if (!isComposefs(path)) return { path };
  const objects = `${path}.objects`;
  if (existsSync(objects)) return { path, objects: realpathSync(objects) };
  throw new MountError(
    'layer',
    `${from}: is a composefs image: name it with its store, STORE#${basename(from)}, or make a link ${objects} to the objects`,
  );
}

/** Whether a file, or what stands behind STORE#, is an image. @throws MountError of kind `layer` when it cannot be read. */
export function isImageNamed(from: string): boolean {
  if (!existsSync(from) && from.lastIndexOf('#') > 0) return true;
  try {
    return isErofs(from);
  } catch (error) {
    throw new MountError('layer', `${from}: ${reasonOf(error)}: name a file or a folder`);
  }
}

/**
 * @param target a path that is not there yet. @param link the image stays where it is.
 * @throws MountError.
 */
export async function placeImage(from: string, target: string, link: boolean): Promise<void> {
  const { path, objects } = imageAt(from);
  const own = process.geteuid?.() ?? 0;
  const form = await openForm({ path, isImage: true, objects });
  try {
    const isOurs = own === 0 || form.root.uid === own;
    if (!isOurs && link) {
      throw new MountError(
        'permission',
        `${from}: its files belong to user ${form.root.uid}: leave --link out, and they become yours`,
      );
    }
    if (link) symlinkSync(path, target);
    else if (isOurs || objects !== undefined)
      copyFileSync(path, target, constants.COPYFILE_FICLONE);
    else await buildImage(form.root, { uid: own, gid: process.getegid?.() ?? 0 }, target);
    if (objects !== undefined) symlinkSync(objects, `${target}.objects`);
  } catch (error) {
    if (error instanceof MountError || (error as NodeJS.ErrnoException).code === undefined) {
      throw error;
    }
    throw new MountError('layer', `${from}: cannot be copied: ${reasonOf(error)}`);
  } finally {
    form.close();
  }
}
