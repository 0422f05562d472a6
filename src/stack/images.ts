// Images among the layers: telling one from a directory, and which further devices belong to which.
// Used by check.ts and plan.ts (without FFI, before anything is started) and by open.ts in the server.
// Format: fs/erofs/erofs_fs.h; the superblock lies at byte 1024.

import { closeSync, openSync, readSync, statSync } from 'node:fs';
import {
  COMPOSEFS_MAGIC,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  ErofsSuperBlock,
  FeatureIncompat,
} from '../erofs/format.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { MountError } from './errors.js';

/** Bytes of every superblock; extensions follow. */
const BASE_SIZE = 128;

/** Whether the regular file at `path` begins as an EROFS image does. @throws the error of open(2) or read(2). */
export function isErofs(path: string): boolean {
  return superblockOf(path)?.readUInt32LE(ErofsSuperBlock.at.magic) === EROFS_SUPER_MAGIC_V1;
}

/** Whether some of an EROFS image's content may be compressed. @throws the error of open(2) or read(2). */
export function isCompressed(path: string): boolean {
  const features = superblockOf(path)?.readUInt32LE(ErofsSuperBlock.at.feature_incompat) ?? 0;
  return (features & (FeatureIncompat.LZ4_0PADDING | FeatureIncompat.COMPR_CFGS)) !== 0;
}

/** Whether an EROFS image is one of composefs. @throws the error of open(2) or read(2). */
export function isComposefs(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(4);
    return readSync(fd, bytes, 0, 4, 0) === 4 && bytes.readUInt32LE() === COMPOSEFS_MAGIC;
  } finally {
    closeSync(fd);
  }
}

/** Whether a checked layer is an image: every layer that is not one is a directory. */
export function isImage(path: string): boolean {
  return statSync(path).isFile();
}

/** The first bytes of a superblock, or undefined where the file has not so many. */
function superblockOf(path: string): Buffer | undefined {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(BASE_SIZE);
    return readSync(fd, bytes, 0, BASE_SIZE, EROFS_SUPER_OFFSET) === BASE_SIZE ? bytes : undefined;
  } finally {
    closeSync(fd);
  }
}

/** The layers and further devices of a mount. */
export interface ImageFiles {
  readonly lowerdirs: readonly string[];
  readonly datadirs: readonly string[];
  /** In the order of the images, topmost first, and of their device tables. */
  readonly devices: readonly string[];
}

/** The images among the layers, topmost first. */
export function imagesOf(files: ImageFiles): readonly string[] {
  return [...files.lowerdirs, ...files.datadirs].filter(isImage);
}

/** The folders of an image store among the layers, topmost first. */
export function layerFoldersOf(files: Pick<ImageFiles, 'lowerdirs' | 'datadirs'>): LayerFolder[] {
  return [...files.lowerdirs, ...files.datadirs].flatMap((path) => LayerFolder.ofImage(path) ?? []);
}

/** Those of them whose content is not all here, topmost first. */
export function incompleteLayersOf(files: Parameters<typeof layerFoldersOf>[0]): LayerFolder[] {
  return layerFoldersOf(files).filter((folder) => !folder.isComplete);
}

/**
 * Which further devices each image takes. Without any, the images are believed to be whole; a layer of an image store
 * has its own, and none of those that are named.
 * @throws MountError of kind `layer` when they are too few or too many.
 */
export function devicesOfImages(files: ImageFiles): ReadonlyMap<string, readonly string[]> {
  const taken = new Map<string, readonly string[]>();
  let next = 0;
  for (const path of imagesOf(files)) {
    const folder = LayerFolder.ofImage(path);
    if (folder !== undefined) taken.set(path, [folder.blob]);
    if (folder !== undefined || files.devices.length === 0) continue;
    const count = superblockOf(path)?.readUInt16LE(ErofsSuperBlock.at.extra_devices) ?? 0;
    const devices = files.devices.slice(next, next + count);
    if (devices.length < count) {
      throw new MountError(
        'layer',
        `device: ${path} is to have ${counted(count)}, and ${devices.length} are left for it: name those of every image, in the order of the layers`,
      );
    }
    taken.set(path, devices);
    next += count;
  }
  if (next < files.devices.length) {
    throw new MountError(
      'layer',
      `device: ${files.devices[next]}: no image has it in its device table: ${next === 0 ? 'leave it out' : `the first ${next} are enough`}`,
    );
  }
  return taken;
}

function counted(count: number): string {
  return count === 1 ? '1 further device' : `${count} further devices`;
}
