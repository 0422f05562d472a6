// Compares the objects of a composefs image with the digests that the image names, before a mount answers.
// Called by mount-image.ts for verity=on and verity=require; left to the kernel where it enforces every one of them.
// Follows: overlayfs.rst, "fs-verity support": `on` compares where a digest is named, `require` wants one of every file.

import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Portion, readPortion } from './compare-portion.js';
import { MountError } from './errors.js';
import { type NamedObject, objectsOfImage } from './image-objects.js';
import { openImage } from './image-open.js';
import { type Comparison, ObjectComparer } from './object-comparer.js';
import { VerifiedCache } from './verified-cache.js';

export interface CompareRequest {
  /** Path of the image. */
  readonly image: string;
  /** fs-verity digest of the image, hex; undefined: nobody named one. */
  readonly digest: string | undefined;
  /** Folders of objects, the first that has one wins. */
  readonly objects: readonly string[];
  /** Every file with content elsewhere must name a digest. */
  readonly every: boolean;
  /** The mount that follows can have the kernel enforce digests. */
  readonly kernelMay: boolean;
}

export interface Compared {
  /** Every object has fs-verity, and the mount shall be told to enforce it. */
  readonly byKernel: boolean;
  /** For the user: who compared what. */
  readonly sentence: string;
}

/** Fewer objects than this are read here: a thread costs as much. */
const FEW = 64;
/** Objects that a thread gets at once: enough to hide the message, few enough to share the last ones. */
const PORTION = 64;

/** @throws MountError of kind `layer` that names the first object that is something else, or is missing. */
export async function compareObjects(request: CompareRequest): Promise<Compared> {
  const named = namedObjects(request);
  const cache = VerifiedCache.open();
  const comparer = new ObjectComparer(request.objects);
  try {
    const found = named.map((object) => ({ object, state: comparer.look(object) }));
    const isEnforced = found.every(({ state }) => state.enforced !== undefined);
    if (request.kernelMay && isEnforced) {
      for (const { object, state } of found) requireSame(object, state.enforced);
      return { byKernel: true, sentence: `the kernel compares the digests of ${count(named)}` };
    }
    const unread: NamedObject[] = [];
    for (const { object, state } of found) {
      const digest = state.enforced ?? cache.digestOf(state.key);
      if (state.missing) requireSame(object, undefined);
      else if (digest === object.digest) cache.note(state.key, digest);
      else unread.push(object);
    }
    const comparisons = await readAll(request.objects, unread, comparer);
    comparisons.forEach(({ key, digest }, i) => {
      requireSame(unread[i] as NamedObject, digest);
      cache.note(key, digest);
    });
    cache.save();
    return { byKernel: false, sentence: sentence(named, named.length - unread.length) };
  } finally {
    comparer.close();
  }
}

const count = (objects: readonly unknown[]): string =>
  objects.length === 1 ? '1 object' : `${objects.length} objects`;

function sentence(all: readonly unknown[], remembered: number): string {
  const known = remembered === 0 ? '' : `, ${remembered} of them remembered`;
  return `the kernel compares no digests here: varve compared ${count(all)} before the mount${known}; what is changed later goes unnoticed`;
}

/** The objects that have a digest. @throws MountError when one has none and must. */
function namedObjects({ image: path, digest, every }: CompareRequest): NamedObject[] {
  // What is mounted has this digest: the objects of another image, put there for a moment, would not be its.
  const { image, close } = openImage(path, [], digest);
  try {
    const all = objectsOfImage(image);
    const bare = all.find((object) => object.digest === undefined);
    if (every && bare !== undefined) {
      throw new MountError(
        'layer',
        `verity=require: ${path}: it names no digest for ${bare.file}: take verity=on, or build the image with digests`,
      );
    }
    return all.filter((object) => object.digest !== undefined);
  } finally {
    close();
  }
}

function requireSame({ path, digest, file }: NamedObject, found: string | undefined): void {
  if (found === digest) return;
  const what = found === undefined ? 'is missing' : `has the digest ${found}, not ${digest}`;
  throw new MountError(
    'layer',
    `verity: object ${path} (content of ${file}) ${what}: add the image to the store again`,
  );
}

/** Reads objects on all cores. @returns what each is, in the order given. @throws MountError when one cannot be read. */
async function readAll(
  folders: readonly string[],
  objects: readonly NamedObject[],
  own: ObjectComparer,
): Promise<readonly Comparison[]> {
  if (objects.length < FEW) return taken(readPortion(own, objects));
  const portions: (readonly NamedObject[])[] = [];
  for (let i = 0; i < objects.length; i += PORTION) portions.push(objects.slice(i, i + PORTION));
  const results: (readonly Comparison[])[] = [];
  const threads = Math.min(availableParallelism(), portions.length);
  let next = 0;
  const work = async (): Promise<void> => {
    const worker = new Worker(new URL('./compare-worker.js', import.meta.url), {
      workerData: folders,
    });
    try {
      for (let i = next++; i < portions.length; i = next++) {
        worker.postMessage(portions[i]);
        const [answer] = (await once(worker, 'message')) as [Portion];
        results[i] = taken(answer);
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: threads }, work));
  return results.flat();
}

function taken(portion: Portion): readonly Comparison[] {
  if (portion.failure === undefined) return portion.comparisons;
  throw new MountError('layer', `verity: ${portion.failure}`);
}
