// The packed file: what is left over of files gathers in it, equal pieces once, and is compressed together at the end.
// Filled by write-data.ts in the order of the files; afterwards it is compressed like any file.
// Follows: erofs_fs.h of Linux 6.18 (packed_nid, h_fragmentoff).

import { createHash } from 'node:crypto';
import type { ByteSource } from '../bytes/source.js';
import type { Spool } from './write-sink.js';

export class PackedFile implements ByteSource {
  readonly #spool: Spool;
  readonly #known = new Map<string, number>();

  /** @param head bytes that the file begins with (long xattr prefixes). */
  constructor(spool: Spool, head: Uint8Array) {
    this.#spool = spool;
    if (head.length > 0) spool.append(head);
  }

  get size(): number {
    return this.#spool.size;
  }

  /** @returns the byte at which `bytes` can be found in the packed file. */
  add(bytes: Uint8Array): number {
    const key = `${bytes.length}:${createHash('sha256').update(bytes).digest('binary')}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const at = this.#spool.append(bytes);
    this.#known.set(key, at);
    return at;
  }

  /** Puts `bytes` at the end, whether they are new or not. @returns the byte at which they are. */
  append(bytes: Uint8Array): number {
    return this.#spool.append(bytes);
  }

  read(at: number, out: Uint8Array): void {
    this.#spool.read(at, out);
  }
}
