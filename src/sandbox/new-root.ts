// Builds the file tree of a sandbox: overlays, frames and binds, each at its place below a new root directory.
// Called by enter.ts in namespaces of its own. Places are looked up inside the new root, whose content may be hostile.
// Follows: Documentation/filesystems/overlayfs.rst (Linux 6.18), openat2(2) RESOLVE_IN_ROOT, mount(2), mount_setattr(2).

import {
  closeSync,
  mkdirSync,
  openSync,
  type Stats,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { MS, O } from '../linux/constants.js';
import { check, E, errnoName, SysError } from '../linux/errno.js';
import { openInRoot } from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { mount } from '../linux/mount.js';
import { lockMounts, type MountLocks } from '../linux/mount-api.js';
import { type Cover, coversAround } from './covers.js';
import type { Bind, SandboxPlan, Upper } from './plan.js';
import { thisMachine } from './this-machine.js';

/** Path of this thread's scratch, PATH_MAX bytes. */
const PATH_AT = 0x2f000;
const PATH_MAX = 4096;

const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');
const proc = (fd: number): string => `/proc/self/fd/${fd}`;
/** Source of what is mounted, in mountinfo. */
const SOURCE = 'varve-try';

/** Something cannot be covered as planned. */
export class CoverError extends Error {}

export class NewRoot {
  /** The root directory itself, O_PATH. */
  readonly fd: number;
  readonly #plan: SandboxPlan;
  readonly #place: number;
  /** The root directory is a frame; then so is that of every other frame, all on one tmpfs. */
  readonly #framed: boolean;

  /** @throws SysError, CoverError. */
  constructor(plan: SandboxPlan) {
    mapMemory();
    this.#plan = plan;
    mountOver(openPath(plan.place), 'tmpfs', 'mode=755');
    this.#place = openPath(plan.place);
    for (const name of ['root', 'empty']) mkdirSync(`${proc(this.#place)}/${name}`, 0o755);
    const [root] = plan.covers;
    if (root?.path !== '/') throw new CoverError('the root directory has no cover');
    const target = openPath(`${proc(this.#place)}/root`);
    this.#framed = root.kind === 'frame';
    if (this.#framed) mountOver(target, 'tmpfs', 'mode=755');
    else {
      this.#overlay(root, target);
      closeSync(target);
    }
    this.fd = openPath(`${proc(this.#place)}/root`);
  }

  /** Carries out the covers. @param remark told what had to be done otherwise. */
  cover(remark: (text: string) => void): void {
    this.#coverAll(this.#plan.covers.slice(1), remark);
  }

  #coverAll(covers: readonly Cover[], remark: (text: string) => void): void {
    for (const cover of covers) {
      switch (cover.kind) {
        case 'frame':
          this.makeDirectory(cover.path);
          if (cover.scratch === true) this.tmpfs(cover.path, 'mode=1777');
          break;
        case 'link':
          this.#make(cover.path, (place) => symlinkSync(bytes(cover.target ?? ''), place));
          break;
        case 'file':
          this.bind({ source: cover.path, target: cover.path, readOnly: true, make: true }, remark);
          break;
        case 'tmp':
          this.tmpfs(cover.path, 'mode=700');
          break;
        default:
          this.#coverDirectory(cover, remark);
      }
    }
  }

  #coverDirectory(cover: Cover, remark: (text: string) => void): void {
    this.makeDirectory(cover.path);
    const target = this.open(cover.path, O.DIRECTORY);
    // It went away, or whoever may has put something else there.
    if (target < 0) return;
    try {
      this.#overlay(cover, target);
    } catch (error) {
      // It has been unmounted meanwhile.
      if (error instanceof SysError && error.errno === E.NOENT) return;
      if (!(error instanceof CoverError)) throw error;
      if (cover.kind === 'write') {
        const options = `${error.message}: nothing can be written there`;
        remark(options);
      }
      const { userxattr, place } = this.#plan;
      const around = userxattr ? coversAround(thisMachine(), cover.path, place) : undefined;
      if (around !== undefined) this.#coverAll(around, remark);
      else this.bind({ source: cover.path, target: cover.path, readOnly: true }, remark);
    } finally {
      closeSync(target);
    }
  }

  /** Mounts the overlay of a cover at an open directory. @throws CoverError when the kernel will not. */
  #overlay(cover: Cover, target: number): void {
    const { path, kind } = cover;
    const lower = openPath(path);
    const open = [lower];
    const words = [`lowerdir=${proc(lower)}`];
    const { userxattr } = this.#plan;
    if (kind === 'read') {
      // Without an upper the kernel wants two layers.
      const empty = openPath(`${proc(this.#place)}/empty`);
      open.push(empty);
      words[0] += `:${proc(empty)}`;
    } else {
      const { upper, work } = this.#upperOf(cover);
      const [upperFd, workFd] = [openPath(upper), openPath(work)];
      open.push(upperFd, workFd);
      // What is only tried needs no fsync; what is kept is synced in the end.
      words.push(`upperdir=${proc(upperFd)}`, `workdir=${proc(workFd)}`, 'volatile');
    }
    words.push(userxattr ? 'userxattr' : 'redirect_dir=on,index=off,metacopy=off');
    const flags = MS.NOSUID | MS.NODEV | (cover.noexec ? MS.NOEXEC : 0);
    const r = mount(SOURCE, proc(target), 'overlay', flags, words.join(','));
    for (const fd of open) closeSync(fd);
    if (r < 0) throw new CoverError(`${path}: the kernel makes no overlay of it (${errnoName(r)})`);
  }

  #upperOf(cover: Cover): Upper {
    if (cover.kind === 'write') {
      return this.#plan.uppers.find((one) => one.path === cover.path) as Upper;
    }
    const at = `${this.#plan.place}/scratch-${bytes(cover.path).toString('hex')}`;
    const { mode } = statSync(bytes(cover.path));
    const made = { path: cover.path, upper: `${at}/upper`, work: `${at}/work` };
    for (const folder of [at, made.upper, made.work]) mkdirSync(bytes(folder), mode & 0o7777);
    return made;
  }

  /** @returns an O_PATH descriptor of a place of the new root, or -errno. @param flags further flags of open(2). */
  open(path: string, flags = 0): number {
    if (path.length >= PATH_MAX) return -E.NAMETOOLONG;
    putBytes(scratch + PATH_AT, path);
    return openInRoot(this.fd, scratch + PATH_AT, O.PATH | O.CLOEXEC | flags);
  }

  /** Makes a directory where it is missing and can be made: in a frame, or on a tmpfs of the sandbox. */
  makeDirectory(path: string): void {
    this.#make(path, (place) => mkdirSync(place, 0o755));
  }

  #make(path: string, how: (place: Buffer) => void): void {
    const there = this.open(path, O.NOFOLLOW);
    if (there >= 0) {
      closeSync(there);
      return;
    }
    const slash = path.lastIndexOf('/');
    const parent = this.open(path.slice(0, slash) || '/', O.DIRECTORY);
    if (parent < 0) return;
    try {
      how(bytes(`${proc(parent)}/${path.slice(slash + 1)}`));
    } catch {
      // Whoever needs it says so.
    } finally {
      closeSync(parent);
    }
  }

  /** An empty tmpfs at a directory; nothing where there is none. @returns whether there is one. */
  tmpfs(path: string, data: string, flags = 0): boolean {
    const target = this.open(path, O.DIRECTORY);
    if (target < 0) return false;
    mountOver(target, 'tmpfs', data, flags);
    return true;
  }

  /** Shows a place of the real system in the new root. */
  bind({ source, target, readOnly, make }: Bind, remark: (text: string) => void): void {
    const refuse = (r: number): void =>
      remark(`${source} cannot be shown at ${target}: ${errnoName(r)}`);
    let from: number;
    try {
      from = openPath(source);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      refuse(error.errno);
      return;
    }
    const found = statOf(from);
    if (make === true && found !== undefined) {
      this.#makeParents(target);
      if (found.isDirectory()) this.makeDirectory(target);
      else this.#make(target, (place) => writeFileSync(place, ''));
    }
    const r = this.bindFd(from, target, { readOnly }, found?.isCharacterDevice());
    closeSync(from);
    if (r < 0) refuse(r);
  }

  #makeParents(path: string): void {
    for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) {
      this.makeDirectory(path.slice(0, at));
    }
  }

  /** @param devices whether device files work. @returns 0 or -errno. */
  bindFd(from: number, target: string, locks: MountLocks, devices = false): number {
    const to = this.open(target);
    if (to < 0) return to;
    const r = mount(proc(from), proc(to), 'none', MS.BIND | MS.REC, '');
    closeSync(to);
    return r < 0 ? r : this.lock(target, locks, devices);
  }

  /** Restricts the mounts at a place and below. @returns 0 or -errno. */
  lock(target: string, locks: MountLocks, devices = false): number {
    const mounted = this.open(target);
    if (mounted < 0) return mounted;
    const r = lockMounts(mounted, locks, devices);
    closeSync(mounted);
    return r;
  }

  /** Nothing more is to be made: the frames become read-only. */
  finish(): void {
    if (!this.#framed) return;
    const flags = MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID | MS.NODEV;
    check(mount('none', proc(this.fd), 'none', flags, ''), 'remount', '/');
  }
}

/** @returns undefined for a mount of FUSE that only its user may look at. */
function statOf(fd: number): Stats | undefined {
  try {
    return statSync(proc(fd));
  } catch {
    return undefined;
  }
}

/** @returns an O_PATH descriptor. @throws SysError. */
function openPath(path: string): number {
  try {
    return openSync(bytes(path), O.PATH | O.CLOEXEC);
  } catch (error) {
    throw new SysError('open', -((error as NodeJS.ErrnoException).errno ?? E.IO), path);
  }
}

/** @param fd of a directory of the new root; it is closed. @throws SysError. */
export function mountOver(fd: number, type: string, data: string, flags = 0): void {
  const r = mount(SOURCE, proc(fd), type, MS.NOSUID | MS.NODEV | flags, data);
  closeSync(fd);
  check(r, `mounting a ${type}`);
}
