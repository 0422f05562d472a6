// Checks a store through and through: every object against its name, every link, every image against its objects.
// Called by `store check`; reads only, and may run beside an add. Objects are read by all threads.
// Follows: the layout of store.ts; what is found is told, nothing is repaired.

import { closeSync, fstatSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { errnoName, SysError } from '../linux/errno.js';
import { show } from '../tree/tree.js';
import { listObjects, listStreams, withObject } from './contents.js';
import { imageUses, type ObjectUse } from './image-objects.js';
import { listImages, listRefs } from './images.js';
import { Op } from './object-job.js';
import { ObjectPool } from './object-pool.js';
import { isTemporary } from './object-writer.js';
import { isDigest, Objects, objectPath } from './objects.js';
import { splitstreamObjects } from './splitstream.js';
import type { Store } from './store.js';

/**
 * - `content`: an object's bytes are not what its name says, or cannot be read.
 * - `missing`: an object that is needed is not there.
 * - `link`: a link in images/ or streams/ is wrong or leads nowhere.
 * - `ref`: a name leads nowhere.
 * - `image`: an image cannot be read, or says something of an object that is not so.
 * - `stray`: a file that is none of the store's.
 */
export type FaultKind = 'content' | 'missing' | 'link' | 'ref' | 'image' | 'stray';

export interface Fault {
  readonly kind: FaultKind;
  /** Path below the store, for people. */
  readonly where: string;
  readonly what: string;
}

export interface CheckReport {
  readonly faults: readonly Fault[];
  readonly objects: number;
  readonly bytes: number;
  readonly images: number;
  readonly names: number;
  /** Files of an ingest that was killed, or is under way: no fault, gc takes them. */
  readonly temporaries: number;
}

export interface CheckOptions {
  readonly threads?: number;
  /** Do not read the objects. */
  readonly quick?: boolean;
  readonly onProgress?: (objects: number, of: number) => void;
}

export async function checkStore(store: Store, options: CheckOptions = {}): Promise<CheckReport> {
  const objects = new Objects(store.objects);
  try {
    return await new Check(store, objects, options).run();
  } finally {
    objects.close();
  }
}

class Check {
  readonly #store: Store;
  readonly #objects: Objects;
  readonly #options: CheckOptions;
  readonly #faults: Fault[] = [];
  /** Sizes of objects that are there, bytes; -1 until they are opened. */
  readonly #sizes = new Map<string, number>();
  #bytes = 0;
  #temporaries = 0;

  constructor(store: Store, objects: Objects, options: CheckOptions) {
    this.#store = store;
    this.#objects = objects;
    this.#options = options;
  }

  async run(): Promise<CheckReport> {
    listObjects(this.#store, (path, digest) => {
      if (digest !== undefined) this.#sizes.set(digest, -1);
      else if (isTemporary(path)) this.#temporaries++;
      else this.#fault('stray', this.#objectPlace(path), 'is none of the store’s files');
    });
    for (const name of this.#store.strays()) {
      this.#fault('stray', name, 'is none of the store’s files');
    }
    await this.#verifyObjects();
    const images = listImages(this.#store);
    for (const { name, digest } of images) this.#link('images', name, digest, isDigest(name));
    const known = new Set(images.map(({ digest }) => digest));
    const refs = listRefs(this.#store);
    for (const { name, digest } of refs) {
      if (digest !== undefined && known.has(digest)) continue;
      this.#fault('ref', `images/refs/${name}`, 'leads to no image');
    }
    for (const { digest } of images) {
      if (digest !== undefined && this.#sizes.has(digest)) this.#image(digest);
    }
    this.#streams();
    return {
      faults: this.#faults,
      objects: this.#sizes.size,
      bytes: this.#bytes,
      images: images.length,
      names: refs.length,
      temporaries: this.#temporaries,
    };
  }

  #fault(kind: FaultKind, where: string, what: string): void {
    this.#faults.push({ kind, where, what });
  }

  /** Path below the store of what lies in the folder of objects. */
  #objectPlace(path: string): string {
    return this.#store.objects === this.#store.path ? path : `objects/${path}`;
  }

  async #verifyObjects(): Promise<void> {
    const digests = [...this.#sizes.keys()];
    const pool = new ObjectPool({
      threads: this.#options.threads ?? availableParallelism(),
      count: digests.length,
      makes: false,
      dir: this.#objects.fd,
      algorithm: this.#store.algorithm,
      verity: false,
    });
    let next = 0;
    let told = 0;
    try {
      await pool.run<{ digest: string; fd: number }>(
        (job) => {
          const digest = digests[next++];
          if (digest === undefined) return false;
          const fd = this.#open(digest);
          if (fd === undefined) return undefined;
          if (this.#options.quick) {
            closeSync(fd);
            return undefined;
          }
          job.fill(Op.VERIFY, fd, 0, 0);
          job.setDigest(digest);
          return { digest, fd };
        },
        (job, { digest, fd }) => {
          closeSync(fd);
          if (job.result !== 1) this.#wrongContent(digest, job.result);
          if (next - told >= 512) this.#options.onProgress?.((told = next), digests.length);
        },
      );
    } finally {
      await pool.close();
    }
    // Threads finish in any order.
    this.#faults.sort((a, b) => (a.where < b.where ? -1 : a.where > b.where ? 1 : 0));
  }

  #wrongContent(digest: string, result: number): void {
    const what =
      result < 0
        ? `cannot be read: ${errnoName(result)}`
        : 'its bytes are not those that its name stands for';
    this.#fault('content', this.#objectPlace(objectPath(digest)), what);
  }

  /** Opens an object and notes its size. */
  #open(digest: string): number | undefined {
    const where = this.#objectPlace(objectPath(digest));
    try {
      const fd = this.#objects.open(digest);
      // Removed since it was listed.
      if (fd === undefined) this.#sizes.delete(digest);
      else {
        const { size } = fstatSync(fd);
        this.#sizes.set(digest, size);
        this.#bytes += size;
      }
      return fd;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#fault('content', where, `is no file that can be read: ${errnoName(error.errno)}`);
      this.#sizes.delete(digest);
      return undefined;
    }
  }

  /** A link in images/ or streams/ to an object. */
  #link(folder: string, name: string, digest: string | undefined, named: boolean): void {
    const where = `${folder}/${name}`;
    if (digest === undefined) this.#fault('link', where, 'is no link to an object');
    else if (named && digest !== name) this.#fault('link', where, `leads to the object ${digest}`);
    else if (!named && folder === 'images') this.#fault('link', where, 'its name is no digest');
    else if (!this.#sizes.has(digest)) {
      this.#fault('missing', where, `its object ${objectPath(digest)} is not there`);
    }
  }

  #image(digest: string): void {
    const where = `images/${digest}`;
    const told = new Set<string>();
    try {
      withObject(this.#objects, digest, (source) =>
        imageUses(source, (use) => {
          const what = this.#useFault(use);
          if (what === undefined || told.has(what[1])) return;
          told.add(what[1]);
          this.#fault(what[0], where, `${show(use.file)}: ${what[1]}`);
        }),
      );
    } catch (error) {
      this.#fault('image', where, error instanceof Error ? error.message : String(error));
    }
  }

  #useFault({ object, digest, path, size }: ObjectUse): [FaultKind, string] | undefined {
    if (object === undefined) return ['image', `its redirect ${show(path)} names no object`];
    if (digest !== undefined && digest !== object) {
      return ['image', `its digest is ${digest}, its object ${object}`];
    }
    const found = this.#sizes.get(object);
    if (found === undefined) return ['missing', `its object ${objectPath(object)} is not there`];
    if (found === size) return undefined;
    return ['image', `has ${size} bytes, its object ${objectPath(object)} ${found}`];
  }

  #streams(): void {
    for (const { name, digest } of listStreams(this.#store)) {
      this.#link('streams', name, digest, false);
      if (digest === undefined || !this.#sizes.has(digest)) continue;
      const needs = withObject(this.#objects, digest, splitstreamObjects);
      if (needs === undefined) {
        this.#fault('link', join('streams', name), 'its object is no split stream');
      }
      for (const need of needs ?? []) {
        if (this.#sizes.has(need)) continue;
        this.#fault(
          'missing',
          join('streams', name),
          `its object ${objectPath(need)} is not there`,
        );
      }
    }
  }
}
