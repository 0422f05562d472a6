// The objects that are open, each once however many files of the image have its content, and whether they are what they say.
// Used by follow-filesystem.ts; an object is found by its digest only, in folders that are held open.
// Follows: fs/fuse/iomode.c (one backing id an inode at a time), fs-verity for the digests.

import { E } from '../linux/errno.js';
import { close, statFd } from '../linux/files.js';
import {
  algorithmOf,
  type Objects,
  objectPath,
  openObject,
  verifyObject,
} from '../store/objects.js';
import { type Deferred, type Host, JOB } from '../vfs/filesystem.js';
import {
  type Identity,
  identityOfStat,
  isRacy,
  sameIdentity,
  VerifiedObjects,
} from './verified-objects.js';
import { DigestPlaces } from './verify-job.js';

/** Bytes up to which an object is hashed while its reader waits: less than a millisecond. */
const INLINE = 128 * 1024;
/** Objects that stay open although nobody has them open. */
const IDLE = 32;
/** Times that an object is hashed for one open when it changes meanwhile. */
const MOST_ATTEMPTS = 3;

/** An object that is open. */
export interface OpenObject {
  /** What the kernel calls it; never used again. */
  readonly id: number;
  readonly hex: string;
  readonly digest: Uint8Array;
  readonly fd: number;
  /** For the log. */
  readonly path: string;
  /** Open files that have it. */
  users: number;
  /** A backing id, 0: the kernel reads through this server, -1: not asked for yet. */
  backing: number;
  /** What it was when it was compared with its digest, and was equal; undefined: it was not. */
  verified: Identity | undefined;
  /** The same where it was not equal. */
  refused: Identity | undefined;
  /** Requests that wait for a thread to hash it. */
  waiting: Deferred[] | undefined;
  attempts: number;
}

/** Why an object gives no content, for the log; or that the request was parked. */
export type Refusal = { readonly why: string } | 'parked';

export class OpenObjects {
  readonly #folders: readonly Objects[];
  readonly #verify: boolean;
  readonly #verified = new VerifiedObjects();
  readonly #byHex = new Map<string, OpenObject>();
  readonly #byId = new Map<number, OpenObject>();
  /** Those without users, the one that was used last at the end. */
  readonly #idle = new Set<OpenObject>();
  readonly #places = new DigestPlaces();
  readonly #now: Identity = identityOfStat();
  #host!: Host;
  #nextId = 1;

  /** @param verify compare each object with its digest before it is read. */
  constructor(folders: readonly Objects[], verify: boolean) {
    this.#folders = folders;
    this.#verify = verify;
  }

  start(host: Host): void {
    this.#host = host;
  }

  get(id: number): OpenObject | undefined {
    return this.#byId.get(id);
  }

  /**
   * Opens an object for one more user.
   * @param size bytes that it must have.
   */
  use(hex: string, size: number): OpenObject | Refusal {
    let object = this.#byHex.get(hex);
    if (object === undefined) {
      const opened = this.#open(hex);
      if ('why' in opened) return opened;
      object = opened;
    }
    const refusal = this.#refusal(object, size);
    if (refusal !== undefined) {
      this.#settle(object);
      return refusal;
    }
    object.users++;
    this.#idle.delete(object);
    return object;
  }

  /** One user less. */
  leave(object: OpenObject): void {
    object.users--;
    this.#settle(object);
  }

  /** Whether an object that is open still is the file that was compared: asked after each read. */
  isUnchanged(object: OpenObject): boolean {
    if (!this.#verify) return true;
    if (object.verified === undefined || statFd(object.fd) < 0) return false;
    return sameIdentity(identityOfStat(this.#now), object.verified);
  }

  close(): void {
    for (const object of this.#byId.values()) this.#close(object);
    for (const folder of this.#folders) folder.close();
  }

  #open(hex: string): OpenObject | { readonly why: string } {
    let worst = -E.NOENT;
    let place = objectPath(hex);
    for (const folder of this.#folders) {
      const fd = openObject(folder.fd, hex);
      if (fd >= 0) return this.#add(hex, fd, `${folder.path}/${objectPath(hex)}`);
      if (fd !== -E.NOENT) {
        worst = fd;
        place = `${folder.path}/${objectPath(hex)}`;
      }
    }
    const missing = `object ${place} is missing: no folder of objects has it`;
    return { why: worst === -E.NOENT ? missing : `object ${place} ${reason(worst)}` };
  }

  #add(hex: string, fd: number, path: string): OpenObject {
    const object: OpenObject = {
      id: this.#nextId++,
      hex,
      digest: Buffer.from(hex, 'hex'),
      fd,
      path,
      users: 0,
      backing: -1,
      verified: undefined,
      refused: undefined,
      waiting: undefined,
      attempts: 0,
    };
    this.#byHex.set(hex, object);
    this.#byId.set(object.id, object);
    return object;
  }

  /** What is wrong with an object, or undefined when it may be read. */
  #refusal(object: OpenObject, size: number): Refusal | undefined {
    if (statFd(object.fd) < 0) return { why: `object ${object.path} cannot be looked at` };
    const now = identityOfStat(this.#now);
    const found = (now[2] as number) + (now[3] as number) * 0x1_0000_0000;
    if (found !== size) {
      return { why: `object ${object.path} has ${found} bytes, the image says ${size}` };
    }
    if (!this.#verify) return undefined;
    if (object.verified !== undefined && sameIdentity(now, object.verified)) return undefined;
    if (object.refused !== undefined && sameIdentity(now, object.refused)) return wrong(object);
    if (this.#verified.has(now, object.digest)) {
      object.verified = now.slice();
      return undefined;
    }
    if (object.waiting !== undefined) {
      object.waiting.push(this.#host.defer());
      return 'parked';
    }
    if (++object.attempts > MOST_ATTEMPTS) {
      object.attempts = 0;
      return { why: `object ${object.path} changes while it is read` };
    }
    return found <= INLINE ? this.#hashHere(object, now.slice()) : this.#hashElsewhere(object, now);
  }

  #hashHere(object: OpenObject, before: Identity): Refusal | undefined {
    let result = -E.IO;
    try {
      result = verifyObject(object.fd, object.hex) ? 0 : -E.BADMSG;
    } catch {
      // Of pread(2); told below.
    }
    this.#judge(object, before, result);
    if (object.verified !== undefined) return undefined;
    return object.refused !== undefined ? wrong(object) : unreadable(object);
  }

  #hashElsewhere(object: OpenObject, now: Identity): Refusal | undefined {
    const before = now.slice();
    const place = this.#places.put(object.digest);
    // A thousand others are being hashed: this one waits its turn by being done here.
    if (place === 0) return this.#hashHere(object, before);
    object.waiting = [this.#host.defer()];
    const { fd, digest } = object;
    this.#host.jobs.run(JOB.VERIFY, fd, place, digest.length, 0, 0, (result) => {
      this.#places.release(place);
      const waiting = object.waiting ?? [];
      object.waiting = undefined;
      this.#judge(object, before, result);
      for (const saved of waiting) this.#host.resume(saved);
      // Its callers may all have been killed.
      this.#settle(object);
    });
    return 'parked';
  }

  /** Takes in what hashing gave. @param before what the object was when it began. */
  #judge(object: OpenObject, before: Identity, result: number): void {
    object.verified = undefined;
    object.refused = undefined;
    if (statFd(object.fd) < 0 || !sameIdentity(identityOfStat(this.#now), before)) return;
    if (result === 0) {
      object.verified = before;
      object.attempts = 0;
      if (!isRacy(before, Date.now())) this.#verified.add(before, object.digest);
    } else if (result === -E.BADMSG) {
      object.refused = before;
      object.attempts = 0;
    }
  }

  /** Keeps some objects open that nobody uses, and closes the others. */
  #settle(object: OpenObject): void {
    if (object.users > 0 || object.waiting !== undefined) return;
    this.#idle.delete(object);
    this.#idle.add(object);
    for (const oldest of this.#idle) {
      if (this.#idle.size <= IDLE) break;
      this.#idle.delete(oldest);
      this.#close(oldest);
    }
  }

  #close(object: OpenObject): void {
    this.#byHex.delete(object.hex);
    this.#byId.delete(object.id);
    if (object.backing > 0) this.#host.backingClose(object.backing);
    close(object.fd);
  }
}

function wrong({ path, hex }: OpenObject): Refusal {
  const name = algorithmOf(hex) === 'sha512' ? 'SHA-512' : 'SHA-256';
  return {
    why: `object ${path} has another fs-verity ${name} digest than its name: it was changed`,
  };
}

function unreadable({ path }: OpenObject): Refusal {
  return { why: `object ${path} cannot be read, or changes meanwhile` };
}

function reason(errno: number): string {
  switch (errno) {
    case -E.ACCES:
    case -E.PERM:
      return 'may not be read by this user';
    case -E.LOOP:
    case -E.INVAL:
      return 'is no regular file';
    case -E.MFILE:
      return 'cannot be opened: too many open files';
    default:
      return `cannot be opened (errno ${-errno})`;
  }
}
