// A file or block device as a byte source.
// Opened for images (stack/, cli/), read by erofs/ a unit or a pcluster at a time.
// Follows: pread(2); lseek(2) for the size of block devices, which stat does not tell.

import { closeSync, fstatSync, openSync } from 'node:fs';
import { type ByteSource, requireRange } from '../bytes/source.js';
import { check, E, SysError } from './errno.js';
import { lseek } from './files.js';
import { func, ret } from './libc.js';

// A typed array is passed as its address: 130 ns more than a number, and 500 less than readSync of node:fs.
const pread = func('int64_t pread(int fd, void *buf, size_t n, int64_t off)') as unknown as (
  fd: number,
  out: Uint8Array,
  n: number,
  at: number,
) => number;

const SEEK_END = 2;

/** Reads at offsets of a descriptor; of a device, its position is moved once, to learn the size. */
export class FileSource implements ByteSource {
  readonly fd: number;
  readonly size: number;
  readonly #name: string;

  /** @param fd stays the caller's unless close() is called. @throws SysError when it is not a file or device. */
  constructor(fd: number, name = `descriptor ${fd}`) {
    this.fd = fd;
    this.#name = name;
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw new SysError('read', E.ISDIR, name);
    // A pipe has no end to seek to: ESPIPE.
    this.size = stat.isFile() ? stat.size : check(lseek(fd, 0, SEEK_END), 'lseek', name);
  }

  /** @throws the error of open(2), or SysError for what has no size (a directory, a pipe). */
  static open(path: string): FileSource {
    const fd = openSync(path, 'r');
    try {
      return new FileSource(fd, path);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** @throws SysError of pread(2); EIO when the file has become shorter. */
  read(at: number, out: Uint8Array): void {
    requireRange(at, out.length, this.size);
    let done = 0;
    while (done < out.length) {
      const rest = done === 0 ? out : out.subarray(done);
      const n = ret(pread(this.fd, rest, rest.length, at + done));
      if (n === -E.INTR) continue;
      if (n <= 0) throw new SysError('pread', n === 0 ? E.IO : n, this.#name);
      done += n;
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}
