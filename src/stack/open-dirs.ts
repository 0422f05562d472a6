// Opens the directories of a stack: through private clones of their mounts where this process may make some.
// Called by stack/open.ts; a clone sees nothing mounted inside a layer, and keeps nobody from unmounting the layer's filesystem.
// Follows: fs/overlayfs/super.c (ovl_get_upper, ovl_get_layers), which clone their mounts for the same reasons.

import { AT, O } from '../linux/constants.js';
import { errnoName } from '../linux/errno.js';
import { close, openAt, openBeneath, Statx, statBuffer, statFd } from '../linux/files.js';
import { putBytes, scratch, u32 } from '../linux/memory.js';
import { cloneMount } from '../linux/mount-api.js';
import { MountError } from './errors.js';
import type { MountSpec } from './spec.js';

// Scratch of this thread that no system call wrapper uses: a path.
const PATH_AT = 0x20000;
const OPEN_DIR = O.PATH | O.DIRECTORY;

/** Writes a path to scratch; returns its offset. Valid until the next call. */
export function putPath(path: string): number {
  const at = scratch + PATH_AT;
  putBytes(at, Buffer.from(path, 'utf8').toString('latin1'));
  return at;
}

function openPlain(path: string): number {
  const fd = openAt(AT.FDCWD, putPath(path), OPEN_DIR);
  if (fd >= 0) return fd;
  throw new MountError(
    'layer',
    `${path}: cannot be opened (${errnoName(fd)}): check the path and its permissions`,
  );
}

/** An O_PATH descriptor of a layer that is only read: its clone is read-only and leaves access times alone. */
export function openLower(path: string, privileged: boolean): number {
  const fd = privileged ? cloneMount(putPath(path), true) : -1;
  return fd >= 0 ? fd : openPlain(path);
}

export interface UpperSide {
  /** O_PATH descriptors. */
  readonly upper: number;
  readonly workdir: number;
}

/** The upper and the workdir, in one clone of their mount, since rename(2) does not go from one mount to another. */
export function openUpperSide(spec: MountSpec, privileged: boolean): UpperSide {
  const upperPath = spec.upperdir as string;
  const workPath = spec.workdir as string;
  const plain = { upper: openPlain(upperPath), workdir: openPlain(workPath) };
  if (!privileged) return plain;
  const common = commonFolder(upperPath, workPath);
  const tree = cloneMount(putPath(common), false);
  if (tree < 0) return plain;
  const upper = openInside(tree, common, upperPath);
  const workdir = openInside(tree, common, workPath);
  close(tree);
  // Something may be mounted between the common folder and the two: the clone does not show that.
  if (same(upper, plain.upper) && same(workdir, plain.workdir)) {
    close(plain.upper);
    close(plain.workdir);
    return { upper, workdir };
  }
  for (const fd of [upper, workdir]) if (fd >= 0) close(fd);
  return plain;
}

/** The deepest folder that contains both absolute paths. */
export function commonFolder(a: string, b: string): string {
  const left = a.split('/');
  const right = b.split('/');
  let n = 0;
  while (n < left.length - 1 && n < right.length - 1 && left[n] === right[n]) n++;
  return left.slice(0, n).join('/') || '/';
}

function openInside(tree: number, common: string, path: string): number {
  return openBeneath(tree, putPath(path.slice(common === '/' ? 1 : common.length + 1)), OPEN_DIR);
}

function identity(fd: number): string | undefined {
  if (fd < 0 || statFd(fd) < 0) return undefined;
  const s = statBuffer() >>> 2;
  const fields = [Statx.dev_major, Statx.dev_minor, Statx.ino, Statx.ino + 4];
  return fields.map((field) => u32[s + (field >>> 2)]).join(':');
}

function same(a: number, b: number): boolean {
  const first = identity(a);
  return first !== undefined && first === identity(b);
}
