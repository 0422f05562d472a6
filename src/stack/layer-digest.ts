// Digests that the user names, for layers of an image store: their content may still have to come, so a file's digest is not enough.
// Called by mount.ts before either way is taken, and by registry-mount.ts for images that are pinned by digest.
// A layer's id covers all of it (docs/lazy-format.md): metadata and table are compared now, chunks that come against the table.

import type { LayerFolder } from '../lazy/layer-folder.js';
import { requireMetadata, verifyLayer } from '../lazy/verify.js';
import { MountError } from './errors.js';
import { type DigestedFiles, requireDigests } from './image-digest.js';
import { layerFoldersOf } from './images.js';

/** Compares every layer of an image store, when digests are named at all. @throws MountError of kind `layer`. */
export async function requireLayerDigests(files: DigestedFiles): Promise<void> {
  if (files.digests.length === 0) return;
  for (const folder of layerFoldersOf(files)) await requireLayer(folder, files.digests);
}

async function requireLayer(folder: LayerFolder, digests: readonly string[]): Promise<void> {
  const { id, form } = folder.read();
  if (form === 'varve' && digests.includes(id)) {
    const { fault, damaged } = await verifyLayer(folder);
    const what = fault ?? (damaged.length > 0 ? `chunk ${damaged[0]} is another one` : undefined);
    if (what !== undefined) throw refusal(folder, `${what}: \`varve images --repair\` mends it`);
    return;
  }
  if (!folder.isComplete) {
    const how = form === 'varve' ? `name its id (-o digest=${id})` : '`varve pull` its image first';
    throw refusal(folder, `not all of its content is here to be compared: ${how}`);
  }
  requireDigests({ lowerdirs: [folder.meta], datadirs: [], devices: [folder.blob], digests });
}

/**
 * Of an image that is pinned by its digest: what the kernel or a server will believe is what was pulled by it. Content that is
 * here was compared when it came.
 * @throws MountError of kind `layer`.
 */
export function requirePinned(layers: readonly LayerFolder[]): void {
  for (const folder of layers) {
    try {
      requireMetadata(folder);
    } catch (error) {
      throw refusal(folder, `${(error as Error).message}: \`varve images --repair\` mends it`);
    }
  }
}

const refusal = ({ path }: LayerFolder, why: string): MountError =>
  new MountError('layer', `digest: ${path}: ${why}`);
