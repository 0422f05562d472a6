// The objects that are open, each once however many files of the image have its content, and whether they are what they say.
// Used by follow-filesystem.ts; an object is found by its digest only, in folders that are held open.
// Follows: fs/fuse/iomode.c (one backing id an inode at a time), fs-verity for the digests.

import { E } from '../linux/errno.js';
import { close, statFd } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import {
  algorithmOf,
  type Objects,
  objectPath,
  openObject,
  verifyObject,
} from '../store/objects.js';
import { type Deferred, type Host, JOB, type Request } from '../vfs/filesystem.js';
import { VERIFIED, VERIFIED_SIZE } from '../vfs/layout.js';
import { ObjectTable } from './object-table.js';
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

/** An object that is open. Who has it open, and by which backing id, is in the table. */
export interface OpenObject {
  /** Of the table; with `generation` the fh. */
  readonly slot: number;
  readonly generation: number;
  readonly hex: string;
  readonly digest: Uint8Array;
  /** -1: a predecessor had it open, and nobody has needed it since. */
  fd: number;
  /** For the log. */
  path: string;
  /** A predecessor opened it, and nobody has looked since whether it is the same. */
  inherited: boolean;
  /** What it was when it was compared with its digest, and was equal; undefined: it was not. In the table too. */
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
  readonly #verified = new VerifiedObjects(
    u32.subarray(VERIFIED >>> 2, (VERIFIED + VERIFIED_SIZE) >>> 2),
  );
  readonly #byHex = new Map<string, OpenObject>();
  readonly #bySlot: (OpenObject | undefined)[] = [];
  readonly #table = new ObjectTable();
  /** Those without users, the one that was used last at the end. */
  readonly #idle = new Set<OpenObject>();
  readonly #places = new DigestPlaces();
  readonly #now: Identity = identityOfStat();
  #host!: Host;

  /** @param verify compare each object with its digest before it is read. */
  constructor(folders: readonly Objects[], verify: boolean) {
    this.#folders = folders;
    this.#verify = verify;
  }

  start(host: Host): void {
    this.#host = host;
  }

  /** start() of a successor: what a predecessor had open is opened and compared again when it is needed. */
  succeed(host: Host): void {
    this.#host = host;
    for (const slot of this.#table.succeed()) {
      const digest = this.#table.digest(slot);
      const object = this.#remember(slot, Buffer.from(digest).toString('hex'), digest, -1, '');
      object.inherited = true;
      object.verified = this.#table.verified(slot);
      if (this.#table.users(slot) === 0) this.#close(object);
    }
  }

  /** The object of an fh. */
  get(lo: number, hi: number): OpenObject | undefined {
    const object = this.#bySlot[lo];
    return object?.generation === hi ? object : undefined;
  }

  /**
   * Opens an object for one more user: `r`.
   * @param size bytes that it must have.
   */
  use(r: Request, hex: string, size: number): OpenObject | Refusal {
    const object = this.#byHex.get(hex) ?? this.#add(hex);
    if ('why' in object) return object;
    const refusal = this.renew(object, size);
    if (refusal !== undefined) {
      this.#settle(object);
      return refusal;
    }
    this.#table.change(r, object.slot, 1);
    this.#idle.delete(object);
    return object;
  }

  /** Sees to it that an object is open here, and what its name says. @returns why it may not be read. */
  renew(object: OpenObject, size: number): Refusal | undefined {
    if (object.fd < 0) {
      const opened = this.#open(object.hex);
      if ('why' in opened) return opened;
      object.fd = opened.fd;
      object.path = opened.path;
    }
    const refusal = this.#refusal(object, size);
    if (refusal === undefined) object.inherited = false;
    return refusal;
  }

  /** One user less: `r` is its RELEASE. */
  leave(r: Request, object: OpenObject): void {
    this.#table.change(r, object.slot, -1);
    this.#settle(object);
  }

  /** Whether an object has this one user. */
  isFirst(object: OpenObject): boolean {
    return this.#table.users(object.slot) === 1;
  }

  /** The backing id of an object that the kernel may read without this server, or 0; one and the same while it is open. */
  backingOf(object: OpenObject): number {
    const known = this.#table.backing(object.slot);
    if (known >= 0) return known;
    const id = this.#host.passthrough ? Math.max(0, this.#host.backingOpen(object.fd)) : 0;
    this.#table.setBacking(object.slot, id);
    return id;
  }

  /** Whether an object that is open still is the file that was compared: asked after each read. */
  isUnchanged(object: OpenObject): boolean {
    if (!this.#verify) return true;
    if (object.verified === undefined || statFd(object.fd) < 0) return false;
    return sameIdentity(identityOfStat(this.#now), object.verified);
  }

  close(): void {
    for (const object of this.#byHex.values()) this.#close(object);
    for (const folder of this.#folders) folder.close();
  }

  #open(hex: string): { readonly fd: number; readonly path: string } | { readonly why: string } {
    let worst = -E.NOENT;
    let place = objectPath(hex);
    for (const folder of this.#folders) {
      const fd = openObject(folder.fd, hex);
      if (fd >= 0) return { fd, path: `${folder.path}/${objectPath(hex)}` };
      if (fd !== -E.NOENT) {
        worst = fd;
        place = `${folder.path}/${objectPath(hex)}`;
      }
    }
    const missing = `object ${place} is missing: no folder of objects has it`;
    return { why: worst === -E.NOENT ? missing : `object ${place} ${reason(worst)}` };
  }

  #add(hex: string): OpenObject | { readonly why: string } {
    const opened = this.#open(hex);
    if ('why' in opened) return opened;
    const digest = Buffer.from(hex, 'hex');
    const slot = this.#table.add(digest);
    if (slot !== 0) return this.#remember(slot, hex, digest, opened.fd, opened.path);
    close(opened.fd);
    return { why: `object ${opened.path} ${reason(-E.MFILE)}` };
  }

  #remember(slot: number, hex: string, digest: Uint8Array, fd: number, path: string): OpenObject {
    const object: OpenObject = {
      slot,
      generation: this.#table.generation(slot),
      hex,
      digest,
      fd,
      path,
      inherited: false,
      verified: undefined,
      refused: undefined,
      waiting: undefined,
      attempts: 0,
    };
    this.#byHex.set(hex, object);
    this.#bySlot[slot] = object;
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
      this.#setVerified(object, now.slice());
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
    this.#setVerified(object, undefined);
    object.refused = undefined;
    if (statFd(object.fd) < 0 || !sameIdentity(identityOfStat(this.#now), before)) return;
    if (result === 0) {
      this.#setVerified(object, before);
      object.attempts = 0;
      if (!isRacy(before, Date.now())) this.#verified.add(before, object.digest);
    } else if (result === -E.BADMSG) {
      object.refused = before;
      object.attempts = 0;
    }
  }

  #setVerified(object: OpenObject, identity: Identity | undefined): void {
    object.verified = identity;
    this.#table.setVerified(object.slot, identity);
  }

  /** Keeps some objects open that nobody uses, and closes the others. */
  #settle(object: OpenObject): void {
    if (object.waiting !== undefined || this.#table.users(object.slot) > 0) return;
    this.#idle.delete(object);
    this.#idle.add(object);
    for (const oldest of this.#idle) {
      if (this.#idle.size <= IDLE) break;
      this.#idle.delete(oldest);
      this.#close(oldest);
    }
  }

  #close(object: OpenObject): void {
    const backing = this.#table.backing(object.slot);
    this.#byHex.delete(object.hex);
    this.#bySlot[object.slot] = undefined;
    if (backing > 0) this.#host.backingClose(backing);
    this.#table.remove(object.slot);
    if (object.fd >= 0) close(object.fd);
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
