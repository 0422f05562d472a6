// A directory tree that is changed by paths below its held root: one parent is opened, one system call made.
// Used by the steps of apply, on the target and on the folder beside it that they take from and put into.
// Follows: openat2(2) (no symlink, no other mount), renameat2(2). Paths are latin1, relative; '' is the root itself.

import { AT, O, S } from '../linux/constants.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getU64, mapMemory, putBytes, scratch, u32 } from '../linux/memory.js';
import { openBelow } from '../tree/below.js';
import { nameOf, parentOf } from '../tree/path.js';
import { show } from '../tree/tree.js';

const { Statx } = files;

// This thread's scratch: a name, and another one.
const NAME_AT = 0x800;
const OTHER_AT = 0xa00;
const PATH_AT = 0x1000;

/** What tells one object from another on its filesystem. */
export interface Met {
  /** st_mode. */
  readonly mode: number;
  /** Inode number: that of the device may be another one after the next start of the machine. */
  readonly id: string;
  readonly links: number;
  /** Bytes. */
  readonly size: number;
}

/** Whether `path` is `directory` or lies in it. */
export function isWithin(path: string, directory: string): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`);
}

export class Held {
  readonly fd: number;
  /** For messages: the path as a person named it. */
  readonly label: string;
  /** The parent that was asked for last, which is often the next one, too. */
  #last = '';
  #lastFd = -1;

  /** Takes the descriptor over. */
  constructor(fd: number, label: string) {
    this.fd = fd;
    this.label = label;
  }

  /** @param path as a person names it: symlinks are followed. @throws SysError. */
  static open(path: string): Held {
    mapMemory();
    putBytes(scratch + PATH_AT, Buffer.from(path).toString('latin1').slice(0, 4096));
    const fd = files.openAt(AT.FDCWD, scratch + PATH_AT, O.RDONLY | O.DIRECTORY);
    if (fd < 0) throw new SysError('open', fd, path);
    return new Held(fd, path);
  }

  /** A directory below as a tree of its own. @throws SysError. */
  below(path: string): Held {
    const fd = openBelow(this.fd, path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) throw new SysError('open', fd, this.#say(path));
    return new Held(fd, `${this.label}/${path}`);
  }

  close(): void {
    this.forget();
    files.close(this.fd);
  }

  /** To be called when a directory got another place: paths lead elsewhere. */
  forget(): void {
    if (this.#lastFd >= 0) files.close(this.#lastFd);
    this.#lastFd = -1;
  }

  /** @returns undefined: nothing there, nor a directory that it could be in. @throws SysError. */
  look(path: string): Met | undefined {
    const dir = this.#parent(path);
    const r = dir < 0 ? dir : files.statAt(dir, this.#name(path));
    // A symlink where there was a directory, or is to be one.
    if (r === -E.NOENT || r === -E.NOTDIR || r === -E.LOOP) return undefined;
    this.#must(r, 'stat', path);
    const at = files.statBuffer();
    const k = at >>> 2;
    const low = BigInt(u32[k + (Statx.ino >>> 2)] as number);
    const high = BigInt(u32[k + (Statx.ino >>> 2) + 1] as number);
    return {
      mode: r,
      id: `${(high << 32n) | low}`,
      links: u32[k + (Statx.nlink >>> 2)] as number,
      size: getU64(at + Statx.size),
    };
  }

  /** Calls `use` with an open parent and the arena offset of the name: '' with the root itself. @throws SysError. */
  at<T>(path: string, use: (dir: number, name: number) => T): T {
    const dir = this.#parent(path);
    if (dir < 0) throw new SysError('open', dir, this.#say(parentOf(path)));
    return use(dir, this.#name(path));
  }

  mkdir(path: string, mode = 0o700): void {
    this.at(path, (dir, name) => this.#must(files.mkdirAt(dir, name, mode), 'mkdir', path));
  }

  /** Removes anything but a directory; what is gone is gone. */
  unlink(path: string): void {
    const r = this.at(path, (dir, name) => files.unlinkAt(dir, name));
    if (r !== -E.NOENT) this.#must(r, 'unlink', path);
  }

  /** Removes an empty directory; one that is gone is gone. */
  rmdir(path: string): void {
    this.forget();
    const r = this.at(path, (dir, name) => files.unlinkAt(dir, name, AT.REMOVEDIR));
    if (r !== -E.NOENT) this.#must(r, 'rmdir', path);
  }

  /** Moves `path` to `toPath` of another tree (or of this one). */
  rename(path: string, to: Held, toPath: string, flags = 0): void {
    const r = this.#both(path, to, toPath, (a, name, b, other) =>
      files.renameAt(a, name, b, other, flags),
    );
    // It may have been a directory, whose descriptor stays but whose path is another one now.
    this.forget();
    to.forget();
    this.#must(r, `rename ${this.#say(path)} to`, toPath, to);
  }

  /** Gives the object at `path` a further name. @returns false when there is something at `toPath`, or it has too many. */
  link(path: string, to: Held, toPath: string): boolean {
    const r = this.#both(path, to, toPath, (a, name, b, other) => files.linkAt(a, name, b, other));
    if (r === -E.EXIST || r === -E.MLINK) return false;
    this.#must(r, `link ${this.#say(path)} to`, toPath, to);
    return true;
  }

  chmod(path: string, mode: number): void {
    this.at(path, (dir, name) => {
      const fd = files.openAt(dir, path === '' ? files.dotPath() : name, O.PATH | O.NOFOLLOW);
      this.#must(fd, 'open', path);
      const r = files.chmodFd(fd, mode & 0o7777);
      files.close(fd);
      this.#must(r, 'chmod', path);
    });
  }

  /** Writes out what is staged here: all of the filesystem. */
  sync(): void {
    const r = files.syncfs(this.fd);
    if (r < 0) throw new SysError('syncfs', r, this.label);
  }

  /** Makes the names of the root itself last. */
  syncNames(): void {
    const r = files.fsync(this.fd);
    // Some filesystems have nothing to do for a directory, and say so.
    if (r < 0 && r !== -E.INVAL) throw new SysError('fsync', r, this.label);
  }

  #both(
    path: string,
    to: Held,
    toPath: string,
    use: (dir: number, name: number, other: number, otherName: number) => number,
  ): number {
    // Two paths of one tree: the parent that is remembered is only one.
    const dir = this.#parent(path);
    if (dir < 0) return dir;
    const kept = files.duplicate(dir);
    if (kept < 0) return kept;
    try {
      const other = to.#parent(toPath);
      if (other < 0) return other;
      putBytes(scratch + OTHER_AT, nameOf(toPath));
      return use(kept, this.#name(path), other, scratch + OTHER_AT);
    } finally {
      files.close(kept);
    }
  }

  #parent(path: string): number {
    const parent = parentOf(path);
    if (parent === '') return this.fd;
    if (this.#lastFd >= 0 && this.#last === parent) return this.#lastFd;
    this.forget();
    const fd = openBelow(this.fd, parent, O.PATH | O.DIRECTORY);
    if (fd >= 0) {
      this.#last = parent;
      this.#lastFd = fd;
    }
    return fd;
  }

  #name(path: string): number {
    putBytes(scratch + NAME_AT, nameOf(path));
    return scratch + NAME_AT;
  }

  #say(path: string): string {
    return `${this.label}/${show(path).slice(1, -1)}`;
  }

  #must(r: number, op: string, path: string, tree: Held = this): void {
    if (r < 0) throw new SysError(op, r, tree.#say(path));
  }
}

export function isDirectoryMode(mode: number): boolean {
  return (mode & S.IFMT) === S.IFDIR;
}
