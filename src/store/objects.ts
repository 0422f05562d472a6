// The objects of a store: files named by their fs-verity digest, XX/REST in a folder that is held open.
// Used by everything that reads content of images: mounts, checks, ingest. Nothing here writes.
// Follows: composefs, `mkcomposefs --digest-store` (DIR/XX/...) and composefs-rs 0.3 repositories (DIR/objects/XX/...).

import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { O, S } from '../linux/constants.js';
import { E, SysError } from '../linux/errno.js';
import { close, openBeneath, statFd, writeOutPages } from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { measureVerity } from '../linux/verity.js';
import { type VerityAlgorithm, verityDigestOfFd } from './verity.js';

/** Scratch for paths, above the fixed places of src/linux. */
const PATH_AT = 0x1000;

/** The folder of a repository that holds the objects. */
const OBJECTS = 'objects';

/** Whether `hex` names an object: 64 (SHA-256) or 128 (SHA-512) lower-case hex digits. */
export function isDigest(hex: string): boolean {
  return (hex.length === 64 || hex.length === 128) && /^[0-9a-f]+$/.test(hex);
}

export function algorithmOf(hex: string): VerityAlgorithm {
  return hex.length === 128 ? 'sha512' : 'sha256';
}

/** Path of an object below the folder of objects, which is also what images carry as redirect (without a slash before it). */
export function objectPath(hex: string): string {
  return `${hex.slice(0, 2)}/${hex.slice(2)}`;
}

/** The digest in an image's redirect: `/ab/cdef...` or `ab/cdef...`; undefined when it names no object. */
export function digestOfPath(path: string): string | undefined {
  const hex = path.replace(/^\/+/, '').replace('/', '');
  return isDigest(hex) && path.replace(/^\/+/, '')[2] === '/' ? hex : undefined;
}

/**
 * Opens an object for reading, by its digest alone: no symlink is followed, nothing outside of the folder is reached.
 * @param dirFd the folder of objects. @param hex anything; what is no digest is refused.
 * @returns an fd, or -errno: -ENOENT when there is none, -EINVAL for what is no digest or no regular file, -ELOOP for a symlink.
 */
export function openObject(dirFd: number, hex: string): number {
  if (!isDigest(hex)) return -E.INVAL;
  mapMemory();
  putBytes(scratch + PATH_AT, objectPath(hex));
  // A fifo or a terminal that somebody put there must not hold up or take over its reader.
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.NOCTTY;
  const fd = openBeneath(dirFd, scratch + PATH_AT, flags);
  if (fd < 0) return fd;
  const mode = statFd(fd);
  if (mode >= 0 && (mode & S.IFMT) === S.IFREG) return fd;
  close(fd);
  return mode < 0 ? mode : -E.INVAL;
}

/**
 * Whether an open object is what its name says. Whoever changes it from then on, changes its times too.
 * @param read read all of it; else the kernel's word is enough where it enforces the digest (fs-verity).
 * @throws SysError EIO when it cannot be read.
 */
export function verifyObject(fd: number, hex: string, read = false): boolean {
  mapMemory();
  if (!read && measureVerity(fd) === hex) return true;
  writeOutPages(fd);
  return verityDigestOfFd(fd, algorithmOf(hex)).toString('hex') === hex;
}

/** The objects of one store, held open. */
export class Objects {
  /** The folder that has the 256 folders. */
  readonly path: string;
  readonly fd: number;

  /** @param path the folder of objects itself. @param fd it, when it is open already. @throws the error of open(2). */
  constructor(path: string, fd = openSync(path, O.RDONLY | O.DIRECTORY)) {
    this.path = path;
    this.fd = fd;
  }

  /** @returns an fd, or undefined when there is no such object. @throws SysError for whatever else. */
  open(hex: string): number | undefined {
    const fd = openObject(this.fd, hex);
    if (fd >= 0) return fd;
    if (fd === -E.NOENT) return undefined;
    throw new SysError('open object', fd, join(this.path, objectPath(hex)));
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** The folder of objects of a store: DIR/objects where there is one, else DIR itself (a digest store of mkcomposefs). */
export function objectsFolder(dir: string): string {
  const inner = join(dir, OBJECTS);
  return existsSync(inner) ? inner : dir;
}

/** Opens the objects of the store at `dir`, whichever kind of store it is. @throws the error of open(2). */
export function openObjects(dir: string): Objects {
  return new Objects(objectsFolder(dir));
}
