// Where an image is written: a file beside the target that takes its name when it is complete, and spools.
// Used by write.ts; nothing else of this room writes to disk.
// Follows: open(2) O_TMPFILE, linkat(2), rename(2): readers see the old file or the whole new one, also after a crash.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fdatasync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { AT, O } from '../linux/constants.js';
import { check } from '../linux/errno.js';
import { linkFd } from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { syncPath } from '../linux/sync-path.js';

/** Bytes after which the kernel is asked to begin writing back, so that the end has little left to wait for. */
const FLUSH_EVERY = 64 * 1024 * 1024;

/** Scratch for a path, above the fixed places of src/linux. */
const PATH_AT = 0x1000;
/** Bytes of the spool that are read at a time. */
const READ_AHEAD = 1024 * 1024;

const temporaryName = (path: string): string =>
  join(dirname(path), `.varve-${randomBytes(9).toString('base64url')}`);

/** A file without a name in the folder of `path`: nothing is left of it when this process dies. */
function openNameless(path: string): number | undefined {
  try {
    return openSync(dirname(path), O.TMPFILE | O.RDWR, 0o666);
  } catch {
    // Not every file system has them; where a file cannot be made at all, the next try says why.
    return undefined;
  }
}

function giveName(fd: number, path: string): void {
  mapMemory();
  putBytes(scratch + PATH_AT, Buffer.from(path).toString('latin1'));
  check(linkFd(fd, AT.FDCWD, scratch + PATH_AT), 'link', path);
}

/** A file that does not have its name yet. */
export class ImageFile {
  readonly path: string;
  readonly #temporary: string;
  /** The temporary name exists. */
  #isNamed = false;
  #fd: number;
  #unflushed = 0;
  #flushing = false;

  /** Bytes written so far, those that were written over included. */
  written = 0;

  /** Makes the file beside `path`. @throws the error of open(2). */
  constructor(path: string) {
    this.path = path;
    this.#temporary = temporaryName(path);
    const fd = openNameless(path);
    this.#isNamed = fd === undefined;
    this.#fd = fd ?? openSync(this.#temporary, 'wx+', 0o666);
  }

  /** Writes all of `bytes` at byte `at`. @throws the error of pwrite(2). */
  write(at: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, at + done);
    }
    this.written += bytes.length;
    this.#unflushed += bytes.length;
    if (this.#unflushed >= FLUSH_EVERY && !this.#flushing) this.#flush();
  }

  #flush(): void {
    this.#unflushed = 0;
    this.#flushing = true;
    // Its error comes again from fsync at the end.
    fdatasync(this.#fd, () => {
      this.#flushing = false;
      if (this.#closing !== undefined) this.#closing();
    });
  }

  #closing: (() => void) | undefined;

  /** A descriptor must not be closed, and its number given to another file, while a thread still syncs it. */
  async #close(): Promise<void> {
    if (this.#flushing) {
      await new Promise<void>((resolve) => {
        this.#closing = resolve;
      });
    }
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Gives the file its size and its name, replacing what had it. */
  async publish(size: number): Promise<void> {
    ftruncateSync(this.#fd, size);
    fsyncSync(this.#fd);
    if (!this.#isNamed) giveName(this.#fd, this.#temporary);
    this.#isNamed = true;
    await this.#close();
    renameSync(this.#temporary, this.path);
    syncPath(dirname(this.path));
  }

  /** Deletes the file, when it was not published. */
  async discard(): Promise<void> {
    await this.#close();
    if (this.#isNamed) rmSync(this.#temporary, { force: true });
  }
}

/** Bytes put aside until their place is known: a file without a name, written once and read in any order. */
export class Spool {
  /** Bytes so far. */
  size = 0;
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(256 * 1024);
  /** Bytes of the buffer that are not in the file yet. */
  #held = 0;
  /** What was read last, and where it was: what is read next is often near. */
  #window: Buffer | undefined;
  #windowAt = 0;
  #windowSize = 0;

  /** @param beside a path in the folder that has room for it. */
  constructor(beside: string) {
    const path = temporaryName(beside);
    this.#fd = openSync(path, 'wx+', 0o600);
    rmSync(path);
  }

  /** @returns the byte at which they can be read. */
  append(bytes: Uint8Array): number {
    const at = this.size;
    if (bytes.length > this.#buffer.length - this.#held) this.#drain();
    if (bytes.length > this.#buffer.length) this.#write(bytes, at);
    else {
      this.#buffer.set(bytes, this.#held);
      this.#held += bytes.length;
    }
    this.size += bytes.length;
    return at;
  }

  read(at: number, out: Uint8Array): void {
    if (out.length > READ_AHEAD / 4) {
      this.#drain();
      this.#read(at, out);
      return;
    }
    if (at < this.#windowAt || at + out.length > this.#windowAt + this.#windowSize) this.#fill(at);
    const from = at - this.#windowAt;
    out.set((this.#window as Buffer).subarray(from, from + out.length));
  }

  /** Reads around byte `at`: inodes are in nearly the order in which their data came. */
  #fill(at: number): void {
    this.#drain();
    this.#window ??= Buffer.alloc(READ_AHEAD);
    this.#windowAt = Math.max(0, at - READ_AHEAD / 2);
    this.#windowSize = Math.min(READ_AHEAD, this.size - this.#windowAt);
    this.#read(this.#windowAt, this.#window.subarray(0, this.#windowSize));
  }

  #read(at: number, out: Uint8Array): void {
    for (let done = 0; done < out.length; ) {
      const n = readSync(this.#fd, out, done, out.length - done, at + done);
      if (n === 0) throw new RangeError(`spool of ${this.size} bytes ends before ${at + done}`);
      done += n;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #drain(): void {
    if (this.#held > 0) this.#write(this.#buffer.subarray(0, this.#held), this.size - this.#held);
    this.#held = 0;
  }

  #write(bytes: Uint8Array, at: number): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, at + done);
    }
  }
}
