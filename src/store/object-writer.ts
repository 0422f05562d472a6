// One thread's way of making objects: bytes are read once, named by their digest, and lie in a file without a name.
// Used by ingest.ts on the main thread and by ingest-worker.ts; linking is a step of its own, after the data is on disk.
// Follows: open(2) O_TMPFILE, linkat(2), ioctl_ficlone(2); the mode 0644 is that of mkcomposefs.

import { readSync, writeSync } from 'node:fs';
import { O, RENAME } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  chmodFd,
  cloneFile,
  close,
  ftruncate,
  linkFd,
  mkdirAt,
  openAt,
  renameAt,
  reopenFd,
  statAt,
  statFd,
  unlinkAt,
} from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { enableVerity } from '../linux/verity.js';
import type { Content } from '../tree/tree.js';
import type { DigestSet } from './digest-set.js';
import { objectPath } from './objects.js';
import { type VerityAlgorithm, VerityHasher } from './verity.js';

/** Bytes of a file that are held in memory until its digest says whether they are needed. */
const BUFFER = 4 * 1024 * 1024;
/** Files of at least this many bytes are worth a reflink. */
const CLONE_LEAST = 64 * 1024;
const MODE = 0o644;

/** Scratch for two names, above the fixed places of src/linux. */
const PATH_AT = 0x1000;
const TEMPORARY_AT = 0x2000;

/** What take() gives for bytes that are an object already, or are about to be one. */
export const PRESENT = -0x10000;
/** What take() gives when the file ends before its size. */
export const SHORT = -0x10001;

/** Threads of one ingest, at most. */
export const MAX_THREADS = 64;

export interface WriterOptions {
  readonly algorithm: VerityAlgorithm;
  /** Ask the filesystem for fs-verity. */
  readonly verity: boolean;
  /** By first byte of a digest, 1: its folder may have objects already; undefined: each may. */
  readonly folders?: Uint8Array;
  /** Digests that this ingest has taken; shared by its threads. */
  readonly seen: DigestSet;
  /** Begins the names of temporary files. */
  readonly token: string;
  /** Number of the thread, below MAX_THREADS. */
  readonly thread: number;
  /** Never O_TMPFILE: as on filesystems that have none. */
  readonly named?: boolean;
}

/** Stands for the file of an object where nothing is stored. */
const NOWHERE = 0x7fff_ffff;

export class ObjectWriter {
  readonly #dir: number;
  readonly #options: WriterOptions;
  readonly #hasher: VerityHasher;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER);
  #nameless: boolean;
  #clones: boolean;
  #verity: boolean;
  #temporaries = 0;
  /** New files have the mode by themselves. */
  #hasMode = false;
  /** Digest of what take() took last; valid until the next. */
  digest: Buffer = Buffer.alloc(0);
  /** Number in the temporary name of what take() took last; 0: it has none. */
  temporary = 0;

  /** @param dir descriptor of the folder of objects, the caller's; -1: digests are all that is wanted, take() gives PRESENT. */
  constructor(dir: number, options: WriterOptions) {
    mapMemory();
    this.#dir = dir;
    this.#options = options;
    this.#hasher = new VerityHasher(options.algorithm);
    this.#nameless = options.named !== true;
    this.#verity = options.verity;
    this.#clones = dir >= 0;
  }

  /**
   * Takes `size` bytes at `offset` of `fd`.
   * @returns an fd of a new object without its name, PRESENT, SHORT, or -errno (of whatever failed).
   */
  take(fd: number, offset: number, size: number): number {
    if (this.#clones && offset === 0 && size >= CLONE_LEAST) {
      const clone = this.#takeClone(fd, size);
      if (clone !== undefined) return clone;
    }
    if (size > BUFFER) return this.#takeLong(fd, offset, size);
    const bytes = this.#buffer.subarray(0, size);
    const n = readAll(fd, bytes, offset);
    if (n !== size) return n < 0 ? n : SHORT;
    return this.takeBytes(bytes);
  }

  /** As take(), of bytes in memory. */
  takeBytes(bytes: Uint8Array): number {
    this.digest = this.#hasher.reset().update(bytes).digest();
    if (this.#isPresent()) return PRESENT;
    const out = this.#open();
    if (out < 0) return out;
    const r = writeAll(out, bytes, 0);
    return r < 0 ? this.#fail(out, r) : this.#finish(out);
  }

  /** As take(), of content that can only be read, holes left out. @throws what reading it throws. */
  takeContent(content: Content, size: number): number {
    const open = content.open();
    let out = -1;
    try {
      if (size <= BUFFER && content.extents === undefined) {
        const bytes = this.#buffer.subarray(0, size);
        open.read(0, bytes);
        return this.takeBytes(bytes);
      }
      out = this.#open();
      if (out < 0) return out;
      this.#hasher.reset();
      let at = 0;
      for (const extent of content.extents ?? [{ at: 0, length: size }]) {
        this.#hasher.updateZeros(extent.at - at);
        at = extent.at;
        for (const end = at + extent.length; at < end; ) {
          const bytes = this.#buffer.subarray(0, Math.min(BUFFER, end - at));
          open.read(at, bytes);
          this.#hasher.update(bytes);
          const r = writeAll(out, bytes, at);
          if (r < 0) return this.#fail(out, r);
          at += bytes.length;
        }
      }
      this.#hasher.updateZeros(size - at);
      const r = out === NOWHERE ? 0 : ftruncate(out, size);
      return r < 0 ? this.#fail(out, r) : this.#finishHashed(out);
    } catch (error) {
      if (out >= 0) this.#fail(out, 0);
      throw error;
    } finally {
      open.close();
    }
  }

  /** As take(), of bytes that somebody makes, in order; each piece is borrowed for the call. @throws what `make` throws. */
  takeStream(make: (sink: (bytes: Uint8Array) => void) => void): number {
    const out = this.#open();
    if (out < 0) return out;
    this.#hasher.reset();
    let at = 0;
    let failure = 0;
    try {
      make((bytes) => {
        if (failure < 0) return;
        this.#hasher.update(bytes);
        failure = writeAll(out, bytes, at);
        at += bytes.length;
      });
    } catch (error) {
      this.#fail(out, 0);
      throw error;
    }
    return failure < 0 ? this.#fail(out, failure) : this.#finishHashed(out);
  }

  /** A long file is written while it is hashed, so that the object is what its name says whatever happens to the file. */
  #takeLong(fd: number, offset: number, size: number): number {
    const out = this.#open();
    if (out < 0) return out;
    this.#hasher.reset();
    for (let at = 0; at < size; ) {
      const bytes = this.#buffer.subarray(0, Math.min(BUFFER, size - at));
      const n = readAll(fd, bytes, offset + at);
      if (n !== bytes.length) return this.#fail(out, n < 0 ? n : SHORT);
      this.#hasher.update(bytes);
      const r = writeAll(out, bytes, at);
      if (r < 0) return this.#fail(out, r);
      at += n;
    }
    return this.#finishHashed(out);
  }

  /** The clone is hashed, not the file: it cannot change. @returns undefined where there are no reflinks. */
  #takeClone(fd: number, size: number): number | undefined {
    const out = this.#open();
    if (out < 0) return out;
    if (cloneFile(out, fd) < 0) {
      this.#fail(out, 0);
      this.#clones = false;
      return undefined;
    }
    this.#hasher.reset();
    for (let at = 0; ; ) {
      const n = readAll(out, this.#buffer, at);
      if (n < 0) return this.#fail(out, n);
      at += n;
      if (at > size) return this.#fail(out, SHORT);
      this.#hasher.update(this.#buffer.subarray(0, n));
      if (n === BUFFER) continue;
      return at === size ? this.#finishHashed(out) : this.#fail(out, SHORT);
    }
  }

  #finishHashed(out: number): number {
    this.digest = this.#hasher.digest();
    return this.#isPresent() ? this.#fail(out, PRESENT) : this.#finish(out);
  }

  #isPresent(): boolean {
    if (this.#dir < 0) return true;
    const { seen, folders } = this.#options;
    if (!seen.add(this.digest)) return true;
    if (folders !== undefined && folders[this.digest[0] as number] === 0) return false;
    putBytes(scratch + PATH_AT, objectPath(this.digest.toString('hex')));
    return statAt(this.#dir, scratch + PATH_AT) >= 0;
  }

  /** A file for the bytes of an object, open for reading and writing. @returns an fd or -errno. */
  #open(): number {
    this.temporary = 0;
    if (this.#dir < 0) return NOWHERE;
    if (this.#nameless) {
      putBytes(scratch + PATH_AT, '.');
      const fd = openAt(this.#dir, scratch + PATH_AT, O.TMPFILE | O.RDWR, MODE);
      if (fd !== -E.OPNOTSUPP && fd !== -E.ISDIR && fd !== -E.NOENT) return fd;
      this.#nameless = false;
    }
    this.temporary = ++this.#temporaries * MAX_THREADS + this.#options.thread;
    this.#putTemporary(this.temporary);
    return openAt(this.#dir, scratch + TEMPORARY_AT, O.CREAT | O.EXCL | O.RDWR, MODE);
  }

  /** Gives up a file. @returns `result`. */
  #fail(out: number, result: number): number {
    this.drop(out, this.temporary);
    return result;
  }

  #finish(out: number): number {
    if (!this.#hasMode) {
      // The umask, or an ACL of the folder, may have taken something away: then from every file.
      const mode = statFd(out);
      if (mode >= 0 && (mode & 0o7777) === MODE) this.#hasMode = true;
      const r = this.#hasMode ? 0 : chmodFd(out, MODE);
      if (r < 0) return this.#fail(out, r);
    }
    if (!this.#verity) return out;
    const sealed = reopenFd(out, O.RDONLY);
    if (sealed < 0) return this.#fail(out, sealed);
    close(out);
    const enabled = enableVerity(sealed, this.#options.algorithm);
    if (enabled < 0 && enabled !== -E.EXIST) this.#verity = false;
    return sealed;
  }

  /** Forgets what take() made, by whichever thread. */
  drop(fd: number, temporary: number): void {
    if (fd !== NOWHERE) close(fd);
    if (temporary === 0) return;
    this.#putTemporary(temporary);
    unlinkAt(this.#dir, scratch + TEMPORARY_AT);
  }

  /**
   * Gives what a take() of some thread made its name, and closes it. An object that has the name already stays.
   * @returns 0, 1 when there was one already, or -errno.
   */
  name(fd: number, temporary: number, hex: string): number {
    let r = this.#giveName(fd, temporary, hex);
    if (r === -E.NOENT) {
      putBytes(scratch + PATH_AT, hex.slice(0, 2));
      r = mkdirAt(this.#dir, scratch + PATH_AT, 0o755);
      if (r >= 0 || r === -E.EXIST) r = this.#giveName(fd, temporary, hex);
    }
    if (r < 0) this.drop(fd, temporary);
    else close(fd);
    return r === -E.EXIST ? 1 : r;
  }

  #giveName(fd: number, temporary: number, hex: string): number {
    const dir = this.#dir;
    putBytes(scratch + PATH_AT, objectPath(hex));
    if (temporary === 0) return linkFd(fd, dir, scratch + PATH_AT);
    this.#putTemporary(temporary);
    const r = renameAt(dir, scratch + TEMPORARY_AT, dir, scratch + PATH_AT, RENAME.NOREPLACE);
    // Without NOREPLACE (old NFS, some FUSE): what is replaced is the same.
    return r === -E.INVAL ? renameAt(dir, scratch + TEMPORARY_AT, dir, scratch + PATH_AT) : r;
  }

  #putTemporary(number: number): void {
    putBytes(scratch + TEMPORARY_AT, `${TEMPORARY_PREFIX}${this.#options.token}-${number}`);
  }
}

const TEMPORARY_PREFIX = '.varve-';

/** Whether a name in the folder of objects is of a file that an ingest, or mkcomposefs, left there when it was killed. */
export function isTemporary(name: string): boolean {
  return name.startsWith(TEMPORARY_PREFIX) || name.startsWith('.tmp');
}

/** @returns bytes read, fewer at the end of the file, or -errno. */
function readAll(fd: number, out: Buffer, at: number): number {
  let done = 0;
  try {
    while (done < out.length) {
      const n = readSync(fd, out, done, out.length - done, at + done);
      if (n === 0) break;
      done += n;
    }
  } catch (error) {
    return errnoOf(error);
  }
  return done;
}

/** @returns 0 or -errno. */
function writeAll(fd: number, bytes: Uint8Array, at: number): number {
  if (fd === NOWHERE) return 0;
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(fd, bytes, done, bytes.length - done, at + done);
    }
  } catch (error) {
    return errnoOf(error);
  }
  return 0;
}

/** -errno of an error of node:fs. */
function errnoOf(error: unknown): number {
  const { errno } = error as NodeJS.ErrnoException;
  return errno ?? -E.IO;
}
