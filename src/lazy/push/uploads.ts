// What goes up: packs beside the work of making the next one, tables and metadata from memory.
// Used by push.ts; counts what really went over the network.
// The first failure is everybody's: it is thrown by the next call.

import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { digestOf } from '../../oci/digest.js';
import type { Descriptor } from '../../oci/manifest.js';
import type { Reference } from '../../oci/reference.js';
import type { Registry } from '../../oci/registry.js';
import { LazyType } from '../media-types.js';
import type { PackFile } from './pack-writer.js';

/** Packs that are uploaded at a time, beside the one that is being made. */
const AT_ONCE = 2;
/** Bytes that are handed on at a time. */
const PART = 1 << 20;

const readPart = promisify(read);

export class Uploads {
  /** Bytes that went to the registry so far. */
  uploaded = 0;
  readonly #registry: Registry;
  readonly #ref: Reference;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(registry: Registry, ref: Reference) {
    this.#registry = registry;
    this.#ref = ref;
  }

  /** Begins to upload a pack, when its turn comes; its descriptor is closed in the end. */
  async pack(file: PackFile): Promise<Descriptor> {
    const { fd, size, digest } = file;
    try {
      while (this.#running.size >= AT_ONCE) await Promise.race(this.#running);
      this.#check();
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const open = (from: number) => this.#counted(fileParts(fd, from, size));
    const upload = this.#registry
      .pushBlob(this.#ref, digest, size, open)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        closeSync(fd);
        this.#running.delete(upload);
      });
    this.#running.add(upload);
    return { mediaType: LazyType.PACK, digest, size };
  }

  /** Uploads what is in memory. */
  async bytes(mediaType: string, content: Uint8Array): Promise<Descriptor> {
    const digest = digestOf(content);
    const open = (from: number) => this.#counted(memoryParts(content, from));
    await this.#registry.pushBlob(this.#ref, digest, content.length, open);
    return { mediaType, digest, size: content.length };
  }

  /** Waits for all packs. @throws what the first that failed has thrown. */
  async end(): Promise<void> {
    await this.settle();
    this.#check();
  }

  /** Waits until nothing is under way, whatever became of it. */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async *#counted(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const part of parts) {
      this.uploaded += part.length;
      yield part;
    }
  }
}

async function* fileParts(fd: number, from: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = from; at < size; ) {
    const { buffer, bytesRead } = await readPart(fd, Buffer.alloc(PART), 0, PART, at);
    if (bytesRead === 0) throw new Error('a pack has become shorter');
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function* memoryParts(content: Uint8Array, from: number): AsyncGenerator<Uint8Array> {
  for (let at = from; at < content.length; at += PART) yield content.subarray(at, at + PART);
}
