// Gets the image that a reference names: from the image store where it is, else from its registry.
// Used by mount-registry.ts, run-registry.ts and record.ts; `varve pull` always asks the registry.
// Manual: registry-commands.ts.

import { type ImageRecord, readImage } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { pullImage } from '../lazy/pull/pull.js';
import { formatReference } from '../oci/reference.js';
import { MountError } from '../stack/errors.js';
import { loaderEnvironment, loaderProgram } from '../stack/loader-program.js';
import { askForLoader } from '../supervisor/client.js';
import type { Arguments } from './args.js';
import { FetchProgress } from './fetch-progress.js';
import { imageStoreOf, referencesOf, withRegistry } from './registry.js';

export interface Obtained {
  readonly store: string;
  readonly image: ImageRecord;
  /** It was there already. */
  readonly known: boolean;
}

/** How much of an image must be here. */
export interface Wanted {
  /** Metadata is enough, where the form of the layers allows it. */
  readonly lazy: boolean;
  /** Ask the registry also where the store has an image of this name. */
  readonly fresh: boolean;
  /** It will be mounted: who loads its content starts while metadata is fetched. */
  readonly mounts?: boolean;
}

/** @throws MountError. */
export async function obtainImage(
  given: Arguments,
  text: string,
  wanted: Wanted,
): Promise<Obtained> {
  const store = imageStoreOf(given);
  const platform = given.value('platform');
  if (!wanted.fresh) {
    const image = storedImage(store, text);
    const fits = platform === undefined || image?.platform === platform;
    if (image !== undefined && fits && isEnough(store, image, wanted.lazy)) {
      return { store, image, known: true };
    }
  }
  const loader = wanted.lazy && wanted.mounts === true ? startLoader() : undefined;
  const progress = new FetchProgress(given);
  try {
    const image = await withRegistry(given, text, async (registry) =>
      pullImage(registry, await registry.named(text), store, {
        lazy: wanted.lazy,
        trustIndex: given.has('trust-index'),
        plainHttp: given.has('plain-http'),
        ...(platform === undefined ? {} : { platform }),
        onProgress: (state) => progress.show(state),
      }),
    );
    return { store, image, known: false };
  } finally {
    progress.end();
    await loader;
  }
}

/** Who is there already answers at once. What goes wrong shows when the mount asks. */
async function startLoader(): Promise<void> {
  const request = { op: 'load', program: loaderProgram(), env: loaderEnvironment() } as const;
  await askForLoader(request).catch(() => {});
}

/** Whether every layer is there, and its content too unless metadata is enough. */
function isEnough(store: string, image: ImageRecord, lazy: boolean): boolean {
  return image.layers
    .map((id) => LayerFolder.of(store, id))
    .every((folder) => folder.exists && (lazy || folder.isComplete));
}

/** The image that a name stands for, where the store has one. */
function storedImage(store: string, text: string): ImageRecord | undefined {
  for (const ref of referencesOf(text)) {
    const image = readImage(store, formatReference(ref));
    if (image !== undefined) return image;
  }
  return undefined;
}

/** An image that the store has. @throws MountError of kind `absent`. */
export function knownImage(given: Arguments, text: string): { store: string; image: ImageRecord } {
  const store = imageStoreOf(given);
  const image = storedImage(store, text);
  if (image !== undefined) return { store, image };
  throw new MountError(
    'absent',
    `${text}: is not in ${store}: \`varve images\` lists what is, \`varve pull\` fetches it`,
  );
}
