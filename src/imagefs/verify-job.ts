// Comparing an object with its digest as a job: what a thread does while the server goes on.
// Done by stack/composefs-worker.ts, and by the server itself where no thread can be had.
// The digest lies in the arena, in a place that belongs to the job from putDigest() until its result is taken.

import { E } from '../linux/errno.js';
import { u8 } from '../linux/memory.js';
import { verifyObject } from '../store/objects.js';
import { JOB, type Perform } from '../vfs/filesystem.js';
import { JOB_COUNT, WORK } from '../vfs/layout.js';

/** Room for a SHA-512. */
const PLACE_SIZE = 64;

/** Where digests of jobs lie; more jobs than these are never posted. */
export class DigestPlaces {
  readonly #free: number[] = [];
  #next = 0;

  /** @returns an arena offset with the digest, or 0 when all are in use. */
  put(digest: Uint8Array): number {
    const place = this.#free.pop() ?? (this.#next < JOB_COUNT ? this.#next++ : -1);
    if (place < 0) return 0;
    const at = WORK + place * PLACE_SIZE;
    u8.set(digest, at);
    return at;
  }

  release(at: number): void {
    this.#free.push((at - WORK) / PLACE_SIZE);
  }
}

/** JOB.VERIFY: 0, -EBADMSG when the digest is another one, -EIO when the object cannot be read. */
export const performVerify: Perform = (kind, fd, at, length) => {
  if (kind !== JOB.VERIFY) return -E.INVAL;
  const hex = Buffer.from(u8.slice(at, at + length)).toString('hex');
  try {
    return verifyObject(fd, hex) ? 0 : -E.BADMSG;
  } catch {
    return -E.IO;
  }
};
