// Files by descriptor and name, as strings: for work that is done once, where the numbers of files.ts would only be in the way.
// Used by stack/ and ops/ when layers are frozen and emptied; names are bytes carried as latin1.
// Follows: the *at() family; xattr(7). Results are values, or undefined for what is not there; other errors are thrown.

import { O, S } from './constants.js';
import { readEntries } from './dirents.js';
import { check, E, SysError } from './errno.js';
import * as files from './files.js';
import { getBytes, putBytes, scratch, u8 } from './memory.js';
import { getxattrAt, listxattrAt, removexattrAt, setxattrAt } from './xattr.js';

// Scratch of this thread: two paths, the name of an attribute, its value, a list of names, directory entries.
const PATH_AT = 0x1000;
const PATH_2_AT = 0x2800;
const ATTR_AT = 0xc00;
const VALUE_AT = 0x10000;
const LIST_AT = 0x20000;
const LIST_SIZE = 0x8000;
const VALUE_SIZE = 0x10000;

/** Longest path that fits, bytes. */
const PATH_MAX = 4096;

function put(at: number, name: string): number {
  if (name.length > PATH_MAX) throw new SysError('path', E.NAMETOOLONG, name.slice(0, 100));
  putBytes(scratch + at, name);
  return scratch + at;
}

/** What stat(2) tells. */
export interface Facts {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** `major:minor` of the filesystem. */
  readonly device: string;
  readonly ino: bigint;
  readonly size: number;
  /** Bytes that are there: holes do not count. */
  readonly stored: number;
  /** Of a device. */
  readonly rdev: readonly [number, number];
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  readonly ctime: bigint;
  /** struct statx, for utimensat. */
  readonly raw: Uint8Array;
}

function factsOf(): Facts {
  const raw = u8.slice(files.statBuffer(), files.statBuffer() + 256);
  const view = new DataView(raw.buffer);
  const { Statx } = files;
  const word = (field: number): number => view.getUint32(field, true);
  const time = (field: number): bigint =>
    view.getBigInt64(field, true) * 1_000_000_000n + BigInt(view.getUint32(field + 8, true));
  return {
    mode: view.getUint16(Statx.mode, true),
    nlink: word(Statx.nlink),
    uid: word(Statx.uid),
    gid: word(Statx.gid),
    device: `${word(Statx.dev_major)}:${word(Statx.dev_minor)}`,
    ino: view.getBigUint64(Statx.ino, true),
    size: Number(view.getBigUint64(Statx.size, true)),
    stored: Number(view.getBigUint64(Statx.blocks, true)) * 512,
    rdev: [word(Statx.rdev_major), word(Statx.rdev_minor)],
    mtime: time(Statx.mtime),
    ctime: time(Statx.ctime),
    raw,
  };
}

const isAbsent = (r: number): boolean => r === -E.NOENT || r === -E.NOTDIR;

/** A name below a directory, symlinks not followed; an empty name is the directory itself. */
export function look(dir: number, name: string): Facts | undefined {
  const r = name === '' ? files.statFd(dir) : files.statAt(dir, put(PATH_AT, name));
  if (isAbsent(r)) return undefined;
  check(r, 'stat', name);
  return factsOf();
}

export const isDirectory = ({ mode }: Facts): boolean => (mode & S.IFMT) === S.IFDIR;
export const isRegular = ({ mode }: Facts): boolean => (mode & S.IFMT) === S.IFREG;
/** A character device 0/0. */
export const isWhiteout = ({ mode, rdev }: Facts): boolean =>
  (mode & S.IFMT) === S.IFCHR && rdev[0] === 0 && rdev[1] === 0;

/** Opens a path of any length below `dir` without following links; undefined when it is not there. */
export function openPath(dir: number, path: string, flags: number): number | undefined {
  let at = dir;
  let from = 0;
  while (path.length - from >= PATH_MAX) {
    const cut = path.lastIndexOf('/', from + PATH_MAX - 1);
    const next = openPiece(at, path.slice(from, cut), O.PATH | O.DIRECTORY);
    if (at !== dir) files.close(at);
    if (isAbsent(next)) return undefined;
    at = check(next, 'open', path);
    from = cut + 1;
  }
  const fd = openPiece(at, path.slice(from), flags);
  if (at !== dir) files.close(at);
  return isAbsent(fd) ? undefined : check(fd, 'open', path);
}

function openPiece(dir: number, path: string, flags: number): number {
  if (path === '') return files.openAt(dir, files.dotPath(), flags);
  return files.openBeneath(dir, put(PATH_AT, path), flags);
}

/** As open(2) of a name in `dir`. @returns the descriptor or -errno. */
export function openName(dir: number, name: string, flags: number, mode = 0): number {
  return files.openAt(dir, put(PATH_AT, name), flags, mode);
}

/** A name in `dir` that is no mount point. @returns the descriptor or -errno. */
export function openOnMount(dir: number, name: string, flags: number): number {
  return files.openBeneathOnMount(dir, put(PATH_AT, name), flags);
}

/** @returns 0 or -errno. */
export function linkName(from: number, name: string, to: number, newName: string): number {
  return files.linkAt(from, put(PATH_AT, name), to, put(PATH_2_AT, newName));
}

/** @param flags of renameat2(2): 1 no replacing, 2 exchange. @returns 0 or -errno. */
export function renameName(
  from: number,
  name: string,
  to: number,
  newName: string,
  flags = 0,
): number {
  return files.renameAt(from, put(PATH_AT, name), to, put(PATH_2_AT, newName), flags);
}

/** @returns 0 or -errno. */
export function makeDirectory(dir: number, name: string, mode: number): number {
  return files.mkdirAt(dir, put(PATH_AT, name), mode);
}

/** @param flags AT.REMOVEDIR for directories. @returns 0 or -errno. */
export function unlinkName(dir: number, name: string, flags = 0): number {
  return files.unlinkAt(dir, put(PATH_AT, name), flags);
}

/** Makes a file with these bytes; it must not be there. */
export function writeWhole(dir: number, name: string, bytes: Uint8Array): void {
  const fd = check(openName(dir, name, O.WRONLY | O.CREAT | O.EXCL, 0o600), 'create', name);
  try {
    for (let done = 0; done < bytes.length; ) {
      const piece = bytes.subarray(done, done + VALUE_SIZE);
      u8.set(piece, scratch + VALUE_AT);
      done += check(files.write(fd, scratch + VALUE_AT, piece.length), 'write', name);
    }
  } finally {
    files.close(fd);
  }
}

/** The bytes of a file, or undefined when it is not there. */
export function readWhole(dir: number, name: string): Uint8Array | undefined {
  const fd = openName(dir, name, O.RDONLY | O.NOFOLLOW);
  if (fd === -E.NOENT) return undefined;
  check(fd, 'open', name);
  const pieces: Uint8Array[] = [];
  try {
    for (;;) {
      const n = check(files.read(fd, scratch + VALUE_AT, VALUE_SIZE), 'read', name);
      if (n === 0) return Buffer.concat(pieces);
      pieces.push(u8.slice(scratch + VALUE_AT, scratch + VALUE_AT + n));
    }
  } finally {
    files.close(fd);
  }
}

/** One name of a directory: what getdents64(2) tells. */
export interface Listed {
  readonly name: string;
  readonly ino: bigint;
  /** DT_*. */
  readonly type: number;
}

/** The names in a directory, in no order. @param dir any descriptor of it. */
export function listNames(dir: number): Listed[] {
  const fd = check(files.openAt(dir, files.dotPath(), O.RDONLY | O.DIRECTORY), 'open');
  const found: Listed[] = [];
  const r = readEntries(fd, scratch + LIST_AT, LIST_SIZE, (at, length, lo, hi, type) => {
    found.push({ name: getBytes(at, length), ino: (BigInt(hi) << 32n) | BigInt(lo), type });
  });
  files.close(fd);
  check(r, 'list');
  return found;
}

/** Names of the extended attributes; an empty name is `dir` itself. None where the filesystem has none. */
export function xattrNames(dir: number, name: string): string[] {
  const at = name === '' ? files.emptyPath() : put(PATH_AT, name);
  const n = listxattrAt(dir, at, scratch + VALUE_AT, VALUE_SIZE);
  if (n === -E.OPNOTSUPP || n === -E.NOSYS) return [];
  check(n, 'listxattr', name);
  return getBytes(scratch + VALUE_AT, n)
    .split('\0')
    .slice(0, -1);
}

export function getXattr(dir: number, name: string, attr: string): Uint8Array | undefined {
  const at = name === '' ? files.emptyPath() : put(PATH_AT, name);
  const n = getxattrAt(dir, at, put(ATTR_AT, attr), scratch + VALUE_AT, VALUE_SIZE);
  return n < 0 ? undefined : u8.slice(scratch + VALUE_AT, scratch + VALUE_AT + n);
}

/** @returns 0 or -errno. */
export function setXattr(dir: number, name: string, attr: string, value: Uint8Array): number {
  const at = name === '' ? files.emptyPath() : put(PATH_AT, name);
  u8.set(value, scratch + VALUE_AT);
  return setxattrAt(dir, at, put(ATTR_AT, attr), scratch + VALUE_AT, value.length, 0);
}

export function dropXattr(dir: number, name: string, attr: string): void {
  const at = name === '' ? files.emptyPath() : put(PATH_AT, name);
  removexattrAt(dir, at, put(ATTR_AT, attr));
}

/** Owner, mode and times of `facts` for what `fd` refers to. @param owner false: an owner that cannot be had is left. */
export function setFacts(fd: number, facts: Facts, owner: boolean): void {
  const r = files.chownAt(fd, files.emptyPath(), facts.uid, facts.gid);
  if (r < 0 && (owner || r !== -E.PERM)) check(r, 'chown');
  check(files.chmodFd(fd, facts.mode & 0o7777), 'chmod');
  setTimes(fd, facts);
}

/** Times of `facts` for what `fd` refers to. */
export function setTimes(fd: number, facts: Facts): void {
  u8.set(facts.raw, files.statBuffer());
  check(files.utimensFromStat(fd, files.emptyPath(), files.statBuffer()), 'utimens');
}

export const sameObject = (a: Facts | undefined, b: Facts | undefined): boolean =>
  a !== undefined && b !== undefined && a.ino === b.ino && a.device === b.device;
