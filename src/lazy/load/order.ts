// The order in which chunks of a layer were first used, for those who start the same thing later.
// Kept by loader.ts while a mount records; queue.ts reads the file and fetches in this order.
// The file `order` of the layer: the numbers of the chunks, u32 each, little endian.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

export class OrderRecord {
  readonly #path: string;
  readonly #seen: Uint8Array;
  readonly #list: number[] = [];
  #written = 0;

  /**
   * @param path of the file. What an earlier part of the same record has written is gone on with.
   * @param goOn there is such a part.
   */
  constructor(path: string, count: number, goOn: boolean) {
    this.#path = path;
    this.#seen = new Uint8Array(count);
    if (!goOn || !existsSync(path)) return;
    const bytes = readFileSync(path);
    for (let k = 0; k + 4 <= bytes.length; k += 4) this.used(bytes.readUInt32LE(k), 1);
    this.#written = this.#list.length;
  }

  used(first: number, count: number): void {
    const end = Math.min(first + count, this.#seen.length);
    for (let i = first; i < end; i++) {
      if (this.#seen[i] === 1) continue;
      this.#seen[i] = 1;
      this.#list.push(i);
    }
  }

  /** Replaces the file, where something is new. */
  write(): void {
    if (this.#written === this.#list.length) return;
    const bytes = Buffer.alloc(4 * this.#list.length);
    this.#list.forEach((i, k) => {
      bytes.writeUInt32LE(i, 4 * k);
    });
    writeFileSync(`${this.#path}.new`, bytes);
    renameSync(`${this.#path}.new`, this.#path);
    this.#written = this.#list.length;
  }
}
