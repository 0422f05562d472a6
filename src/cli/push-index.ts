// `varve push --index`: what the store knows of the layers of a tar image, put beside the image in its registry.
// Called by push.ts; the work is done by lazy/tar.
// Manual: registry-commands.ts.

import { pushIndex } from '../lazy/tar/layer-index.js';
import { formatReference, type Reference } from '../oci/reference.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { knownImage } from './obtain-image.js';
import { print, remark } from './output.js';
import { withRegistry } from './registry.js';

/** @param source the image in the store, under the name by which it was pulled. @param ref where it lies. */
export async function pushIndexOf(
  given: Arguments,
  source: string,
  ref: Reference,
): Promise<number> {
  const { store, image } = knownImage(given, source);
  const digest = await withRegistry(given, formatReference(ref), async (registry) => {
    const { descriptor } = await registry.image(ref);
    if (descriptor.digest !== image.digest) {
      throw new MountError(
        'layer',
        `${formatReference(ref)}: is another image than ${source} in the store: pull it again`,
      );
    }
    return pushIndex(registry, ref, descriptor, image.layers, store);
  });
  print(given, { digest }, () => digest ?? '');
  if (digest === undefined) remark(given, `${source}: no layer needs an index`);
  return EXIT.ok;
}
