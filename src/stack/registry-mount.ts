// The layers of an image of a registry as a stack: its lowers, and the options that mount them.
// Called by `varve mount REF` and `varve run REF`; what follows is stack/mount.ts's, as for every stack.
// A layer that is not complete is loaded on demand from there on (lazy/).

import type { ImageRecord } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { MountError } from './errors.js';
import { type Mounted, mountStack } from './mount.js';
import type { Backend, MountOptions } from './option-table.js';
import { joinLayers } from './option-text.js';
import { parseOptions } from './options.js';

export interface RegistryMount {
  /** Folder of the image store. */
  readonly store: string;
  readonly image: ImageRecord;
  readonly mountpoint: string;
  /** As given with -o; upperdir and workdir among them where it is to be writable. */
  readonly options: readonly string[];
  /** Options that are meant when nothing else is said. */
  readonly defaults: string;
  readonly backend: Backend | undefined;
  readonly trace: boolean;
}

/** The layers of an image, topmost first. @throws MountError of kind `layer` when one is missing. */
export function layersOfImage(store: string, image: ImageRecord): LayerFolder[] {
  const folders = image.layers.map((id) => LayerFolder.of(store, id));
  const missing = folders.find((folder) => !folder.exists);
  if (missing !== undefined) {
    throw new MountError(
      'layer',
      `${image.name}: layer ${missing.path} is missing: pull the image again`,
    );
  }
  return folders.toReversed();
}

/** @throws MountError; then nothing is mounted. */
export async function mountRegistryImage(wanted: RegistryMount): Promise<Mounted> {
  const { store, image, mountpoint, backend, trace } = wanted;
  const layers = layersOfImage(store, image);
  if (image.name.includes('@')) (await import('./layer-digest.js')).requirePinned(layers);
  const lowerdir = `lowerdir=${joinLayers(layers.map(({ meta }) => meta))}`;
  const given = [lowerdir, ...wanted.options];
  const parsed = parseOptions(given, { defaults: wanted.defaults });
  if (parsed.lowerdirs.length !== layers.length) {
    throw new MountError('option', 'lowerdir: the layers of an image are its own: leave it out');
  }
  const options: MountOptions = trace ? { ...parsed, trace } : parsed;
  return mountStack(options, mountpoint, backend ?? options.backend);
}
