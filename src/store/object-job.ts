// The record that main thread and object workers share: one piece of work on one object, and its result.
// Filled by object-pool.ts, worked on by a worker or by the main thread itself, read back by object-pool.ts.
// Guarded by the queue (erofs/compress-queue.ts): a record belongs to the main thread or to one worker, never to both.

import { E } from '../linux/errno.js';
import type { DigestSet } from './digest-set.js';
import { ObjectWriter, type WriterOptions } from './object-writer.js';
import { verifyObject } from './objects.js';

export const Op = {
  /** Makes an object of a range of a file. */
  TAKE: 0,
  /** Gives an object its name. */
  NAME: 1,
  /** Reads an object through; the result is 1 when it is what its name says, else 0. */
  VERIFY: 2,
} as const;

const DIGEST_MOST = 64;
export const RECORD_SIZE = 128;

/** One record: words op 0, fd 1, result 2, temporary 3, digest length 4; doubles offset 3, size 4; digest at byte 40. */
export class ObjectJob {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #digest: Buffer;

  constructor(memory: SharedArrayBuffer, index: number) {
    const at = index * RECORD_SIZE;
    this.#words = new Int32Array(memory, at, RECORD_SIZE / 4);
    this.#doubles = new Float64Array(memory, at, RECORD_SIZE / 8);
    this.#digest = Buffer.from(memory, at + 40, DIGEST_MOST);
  }

  get op(): number {
    return this.#words[0] as number;
  }
  get fd(): number {
    return this.#words[1] as number;
  }
  /** What the work gave: as ObjectWriter and Op say, or -errno. */
  get result(): number {
    return this.#words[2] as number;
  }
  get temporary(): number {
    return this.#words[3] as number;
  }
  get digest(): string {
    return this.#digest.toString('hex', 0, this.#words[4] as number);
  }

  fill(op: number, fd: number, offset: number, size: number): void {
    this.#words[0] = op;
    this.#words[1] = fd;
    this.#words[3] = 0;
    this.#words[4] = 0;
    this.#doubles[3] = offset;
    this.#doubles[4] = size;
  }

  setTemporary(number: number): void {
    this.#words[3] = number;
  }

  setDigest(hex: string): void {
    this.#words[4] = this.#digest.write(hex, 'hex');
  }

  /** Does the work, on the thread of `writer`. */
  run(writer: ObjectWriter): void {
    this.#words[2] = this.#run(writer);
  }

  #run(writer: ObjectWriter): number {
    switch (this.op) {
      case Op.TAKE: {
        const r = writer.take(this.fd, this.#doubles[3] as number, this.#doubles[4] as number);
        this.#words[4] = writer.digest.copy(this.#digest);
        this.#words[3] = writer.temporary;
        return r;
      }
      case Op.NAME:
        return writer.name(this.fd, this.temporary, this.digest);
      default:
        try {
          return verifyObject(this.fd, this.digest, true) ? 1 : 0;
        } catch {
          return -E.IO;
        }
    }
  }
}

/** What workers are told once. */
export interface ObjectWorkerData {
  readonly queue: SharedArrayBuffer;
  readonly records: SharedArrayBuffer;
  readonly seen: SharedArrayBuffer;
  readonly slots: number;
  /** Descriptor of the folder of objects. */
  readonly dir: number;
  readonly options: Omit<WriterOptions, 'seen'>;
}

export function writerOf(data: ObjectWorkerData, seen: DigestSet): ObjectWriter {
  return new ObjectWriter(data.dir, { ...data.options, seen });
}
