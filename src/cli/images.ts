// `varve images`: what the image store has; with --rm and --prune what of it goes.
// Run by main.ts; the records are lazy/image-record.ts's.
// Manual: registry-commands.ts.

import { type ImageRecord, listImages, removeImage } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { forgetLayers, usedLayers } from '../lazy/podman/records.js';
import { pruneLayers } from '../lazy/prune.js';
import { formatReference } from '../oci/reference.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { knownImage } from './obtain-image.js';
import { counted, print, remark, table } from './output.js';
import { imageStoreOf, referencesOf } from './registry.js';

export async function run(given: Arguments): Promise<number> {
  const store = imageStoreOf(given);
  const verifies = given.has('verify') || given.has('repair');
  if (verifies && (given.has('rm') || given.has('prune'))) {
    throw new MountError('option', '--rm and --prune remove, --verify looks: one of them');
  }
  if (verifies) {
    return (await import('./images-verify.js')).verifyImages(given, store, chosen(given, store));
  }
  if (given.has('rm') || given.has('prune')) return remove(given, store);
  const images = chosen(given, store).map((image) => describe(store, image));
  print(given, images, () => (images.length === 0 ? 'No images.' : listText(images)));
  return EXIT.ok;
}

function chosen(given: Arguments, store: string): readonly ImageRecord[] {
  if (given.operands.length === 0) return listImages(store);
  return given.operands.map((text) => knownImage(given, text).image);
}

interface Described extends ImageRecord {
  /** Bytes of all files, of each layer once. */
  readonly bytes: number;
  /** Layers whose content is here as a whole. */
  readonly complete: number;
}

function describe(store: string, image: ImageRecord): Described {
  const layers = image.layers.map((id) => LayerFolder.of(store, id)).filter(({ exists }) => exists);
  const bytes = layers.reduce((sum, layer) => sum + layer.read().bytes, 0);
  return { ...image, bytes, complete: layers.filter(({ isComplete }) => isComplete).length };
}

function listText(images: readonly Described[]): string {
  const rows = images.map(({ name, digest, layers, bytes, complete }) => [
    name,
    digest.slice('sha256:'.length, 'sha256:'.length + 12),
    String(layers.length),
    bytesText(bytes),
    complete === layers.length ? 'all' : `${complete} of ${layers.length} layers`,
  ]);
  return table([['NAME', 'DIGEST', 'LAYERS', 'SIZE', 'HERE'], ...rows]);
}

function remove(given: Arguments, store: string): number {
  if (given.has('rm') && given.operands.length === 0) {
    throw new MountError('option', '--rm: no image is named');
  }
  for (const text of given.has('rm') ? given.operands : []) {
    const wasThere = referencesOf(text).some((ref) => {
      const name = formatReference(ref);
      if (!given.has('force')) refuseUsed(store, name);
      // What a layer store has of it goes, too.
      const hadLayers = forgetLayers(store, name);
      return removeImage(store, name) || hadLayers;
    });
    if (!wasThere) knownImage(given, text);
  }
  const gone = pruneLayers(store);
  print(given, gone, () => '');
  remark(given, `${counted(gone.layers, 'layer')} removed, ${bytesText(gone.bytes)}`);
  return EXIT.ok;
}

/** podman's own notes would be links to what has to be fetched again. @throws MountError of kind `busy`. */
function refuseUsed(store: string, name: string): void {
  const used = usedLayers(store, name);
  if (used === 0) return;
  throw new MountError(
    'busy',
    `${name}: podman or its like has ${counted(used, 'layer')} of it from the layer store: remove it there first (podman rmi), or take --force`,
  );
}
