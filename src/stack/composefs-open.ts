// Opens a composefs image and makes the filesystem that serves it: metadata alone, or with the content of its objects.
// Called by open.ts; digest and image are taken from one descriptor, so that what is served is what was compared.
// Follows: struct lcfs_erofs_header_s of composefs 1.0 (the first 32 bytes of an image).

import { openSync } from 'node:fs';
import type { ByteSource } from '../bytes/source.js';
import { COMPOSEFS_MAGIC, ComposefsFlags, ComposefsHeader } from '../erofs/format.js';
import { ErofsImage } from '../erofs/image.js';
import { passthroughPermitted } from '../fuse/server.js';
import { FollowFileSystem } from '../imagefs/follow-filesystem.js';
import { MetadataFileSystem } from '../imagefs/metadata-filesystem.js';
import { O } from '../linux/constants.js';
import { FileSource } from '../linux/file-source.js';
import { mapMemory } from '../linux/memory.js';
import { Objects } from '../store/objects.js';
import { isSuccessor, keep } from '../supervisor/orders.js';
import type { FileSystem } from '../vfs/filesystem.js';
import { MountError, reasonOf } from './errors.js';
import { holdForMount } from './hold-image.js';
import { comparedSource } from './image-open.js';
import type { ComposefsSpec } from './spec.js';

/** Of the header, not of what the image is like. */
const KNOWN_VERSION = 1;

/** @throws MountError of kind `layer` when the image or a folder of objects cannot be used. */
export function openComposefs(spec: ComposefsSpec, acl: boolean): FileSystem {
  mapMemory();
  const file = openFile(spec.image);
  const folders: Objects[] = [];
  try {
    const follow = spec.serve === 'follow';
    // Overlayfs opens the objects: here is only asked whether it can.
    if (follow || !isSuccessor()) {
      for (const path of spec.objects) folders.push(openFolder(path, follow));
    }
    holdForMount(spec, file.fd);
    const source = spec.digest === undefined ? file : comparedSource(file, spec.image, spec.digest);
    const { flags } = readHeader(source, spec.image);
    const options = {
      image: openImage(source, spec.image),
      label: spec.image,
      log: (line: string): void => console.error(`varve: ${line}`),
      close: () => file.close(),
      trusted: passthroughPermitted(),
      acl: acl && (flags & ComposefsFlags.HAS_ACL) !== 0,
    };
    if (follow) {
      return new FollowFileSystem({ ...options, folders, verify: spec.verify });
    }
    for (const folder of folders.splice(0)) folder.close();
    return new MetadataFileSystem(options);
  } catch (error) {
    for (const folder of folders) folder.close();
    file.close();
    throw error;
  }
}

function openFile(path: string): FileSource {
  try {
    return new FileSource(
      keep('image', () => openSync(path, 'r')),
      path,
    );
  } catch (error) {
    throw new MountError('layer', `image: ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

function openFolder(path: string, kept: boolean): Objects {
  try {
    return kept
      ? new Objects(
          path,
          keep(`objects ${path}`, () => openSync(path, O.RDONLY | O.DIRECTORY)),
        )
      : new Objects(path);
  } catch (error) {
    throw new MountError('layer', `objects: ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

function readHeader(source: ByteSource, path: string): { readonly flags: number } {
  const bytes = new Uint8Array(ComposefsHeader.size);
  if (source.size >= bytes.length) source.read(0, bytes);
  const header = ComposefsHeader.decode(new DataView(bytes.buffer));
  if (header.magic !== COMPOSEFS_MAGIC) {
    throw new MountError(
      'layer',
      `image: ${path}: is no composefs image: an EROFS image is mounted with -o lowerdir=, or by varve image mount`,
    );
  }
  if (header.version !== KNOWN_VERSION) {
    throw new MountError('layer', `image: ${path}: composefs header version ${header.version}`);
  }
  return header;
}

function openImage(source: ByteSource, path: string): ErofsImage {
  try {
    return ErofsImage.open(source);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new MountError('layer', `image: ${path}: cannot be read as a composefs image: ${what}`);
  }
}
