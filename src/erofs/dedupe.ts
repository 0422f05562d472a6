// Equal data is stored once: which pcluster or uncompressed file was written where.
// Asked by write-data.ts in the order of the image, so what is found does not depend on threads.
// Keys are SHA-256 with everything that decides how the bytes are read; equal keys are taken for equal bytes.

import { createHash } from 'node:crypto';

export class DedupeTable {
  readonly #blocks = new Map<string, number>();
  /** Keys of the file that is being written, which may yet be withdrawn. */
  readonly #pending: string[] = [];

  /** @param kind length, method and whatever else must be equal. */
  static key(bytes: Uint8Array, kind: string): string {
    return `${kind}:${createHash('sha256').update(bytes).digest('binary')}`;
  }

  /** First block of equal bytes, or undefined. */
  find(key: string): number | undefined {
    return this.#blocks.get(key);
  }

  add(key: string, block: number): void {
    this.#blocks.set(key, block);
    this.#pending.push(key);
  }

  /** What was added since the last call stays. */
  keep(): void {
    this.#pending.length = 0;
  }

  /** What was added since the last keep() is not there after all. */
  withdraw(): void {
    for (const key of this.#pending) this.#blocks.delete(key);
    this.#pending.length = 0;
  }
}
