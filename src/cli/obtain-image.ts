// Gets the image that a reference names: from the image store where it is, else from its registry.
// Used by mount-registry.ts, run-registry.ts and record.ts; `varve pull` always asks the registry.
// Manual: registry-commands.ts.

import { setImmediate as turn } from 'node:timers/promises';
import { type ImageRecord, readImage } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { pullImage } from '../lazy/pull/pull.js';
import { formatReference } from '../oci/reference.js';
import { MountError } from '../stack/errors.js';
import { fillLoaded } from '../stack/fill-loaded.js';
import { lazyKernelLacks } from '../stack/lazy-plan.js';
import { LoadAhead } from '../stack/load-ahead.js';
import { privilege } from '../stack/privilege.js';
import type { Arguments } from './args.js';
import { FetchProgress } from './fetch-progress.js';
import { imageStoreOf, rateOf, referencesOf, withRegistry } from './registry.js';

export interface Obtained {
  readonly store: string;
  readonly image: ImageRecord;
  /** It was there already. */
  readonly known: boolean;
  /** What was begun for the mount that follows: to be ended when it stands. */
  readonly ahead?: LoadAhead;
}

/** How much of an image must be here. */
export interface Wanted {
  /** Metadata is enough, where the form of the layers allows it. */
  readonly lazy: boolean;
  /** Ask the registry also where the store has an image of this name. */
  readonly fresh: boolean;
  /** It will be mounted: who loads its content starts while metadata is fetched. */
  readonly mounts?: { readonly prefetches: boolean };
  /** Breaks it off. */
  readonly signal?: AbortSignal;
}

/** @throws MountError. */
export async function obtainImage(
  given: Arguments,
  text: string,
  wanted: Wanted,
): Promise<Obtained> {
  const { signal } = wanted;
  const store = imageStoreOf(given);
  const platform = given.value('platform');
  // A policy that is named holds for what is here, too: signatures lie in the registry.
  if (!wanted.fresh && given.value('signature-policy') === undefined) {
    const image = storedImage(store, text);
    const fits = platform === undefined || image?.platform === platform;
    if (image !== undefined && fits && isEnough(store, image, wanted.lazy)) {
      const ahead = isEnough(store, image, false) ? undefined : loadAhead(given, wanted);
      // The loader may be another mount's: it has the limit before this one asks it for anything.
      if (rateOf(given) !== undefined) await ahead?.settled();
      return { store, image, known: true, ...(ahead && { ahead }) };
    }
  }
  const ahead = loadAhead(given, wanted);
  const progress = new FetchProgress(given);
  try {
    const image = await withRegistry(
      given,
      text,
      async (registry) =>
        pullImage(registry, await registry.named(text), store, {
          lazy: wanted.lazy,
          trustIndex: given.has('trust-index'),
          plainHttp: given.has('plain-http'),
          ...(platform === undefined ? {} : { platform }),
          onProgress: (state) => progress.show(state),
          fillLoaded,
          ...(signal === undefined ? {} : { signal }),
          ...(ahead === undefined ? {} : { onStaged: (folder) => ahead.begin(folder) }),
        }),
      signal,
    );
    await ahead?.settled();
    // A signal that came while a layer was unpacked has not been heard yet: it is with the next look at descriptors.
    for (let i = 0; i < 2; i++) await turn();
    signal?.throwIfAborted();
    return { store, image, known: false, ...(ahead && { ahead }) };
  } catch (error) {
    await ahead?.end();
    throw error;
  } finally {
    progress.end();
  }
}

function loadAhead(given: Arguments, wanted: Wanted): LoadAhead | undefined {
  if (!wanted.lazy || wanted.mounts === undefined) return undefined;
  const prefetches = wanted.mounts.prefetches && !given.has('no-prefetch');
  return new LoadAhead(prefetches, isServed(given, wanted), rateOf(given));
}

/** Whether the mount is likely to be our server's: a wrong guess costs a process that ends by itself. */
function isServed(given: Arguments, { mounts }: Wanted): boolean {
  const isWritable = given.has('writable') || given.values('options').join().includes('upperdir=');
  const isRecorded = mounts?.prefetches === false;
  const asked = given.value('backend') === 'fuse';
  return asked || isWritable || isRecorded || lazyKernelLacks(privilege()) !== undefined;
}

/** Whether every layer is there, and its content too unless metadata is enough. */
function isEnough(store: string, image: ImageRecord, lazy: boolean): boolean {
  return image.layers
    .map((id) => LayerFolder.of(store, id))
    .every((folder) => folder.exists && (lazy || folder.isComplete));
}

/** The image that a name stands for, where the store has one. */
export function storedImage(store: string, text: string): ImageRecord | undefined {
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
