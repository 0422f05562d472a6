// The descriptor behind an open file; opened anew where a predecessor had it.
// Called for everything that is done through a handle; a server opens what it has inherited when it is first used.
// Flags follow OPEN (io.ts): nothing is created, truncated or appended to.

import { O } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { chmodFd, close, reopenFd, statFd } from '../linux/files.js';
import { H, get as handleGet, put as handlePut, KIND } from '../vfs/handles.js';
import { FLAG, hasFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { openUpper } from './copy-up.js';
import { isDir, locateLower } from './places.js';

/** Flags for the server's own descriptor: never append (the kernel names the offset), never direct, never blocking. */
export function serverFlags(o: Overlay, flags: number): number {
  let access = flags & O.ACCMODE;
  // The writeback cache reads pages around what is written.
  if (o.host.writeback && access === O.WRONLY) access = O.RDWR;
  return access | (flags & (O.DSYNC | O.SYNC)) | O.NONBLOCK;
}

export function openLower(o: Overlay, slot: number): number {
  const p = locateLower(o, slot);
  // A metacopy file whose data is gone: anything but zeros.
  return p.layer === undefined ? -E.IO : p.layer.open(p.dir, p.name);
}

/** The descriptor or content of an open file, or -errno. */
export function fileOfHandle(o: Overlay, handle: number): number {
  const fd = handleGet(handle, H.fd) - 1;
  return fd < 0 ? reopen(o, handle) : fd;
}

function reopen(o: Overlay, handle: number): number {
  const node = handleGet(handle, H.node);
  const slot = hasFlag(node, FLAG.INHERITED) ? o.settle(node) : node;
  if (slot === 0) return -E.STALE;
  if (isDir(slot)) return -E.BADF;
  const upper = hasFlag(slot, FLAG.UPPER) && !hasFlag(slot, FLAG.METACOPY);
  const fd = upper ? reopenUpper(o, handle, slot) : openLower(o, slot);
  if (fd < 0) return fd;
  const kind = handleGet(handle, H.kind) & ~KIND.LOWER;
  handlePut(handle, H.kind, upper ? kind : kind | KIND.LOWER);
  handlePut(handle, H.fd, fd + 1);
  return fd;
}

function reopenUpper(o: Overlay, handle: number, slot: number): number {
  const flags = handleGet(handle, H.flags);
  const own = serverFlags(o, flags);
  let fd = openUpper(o, slot, own);
  // As in open(): a file that this server may write, but not read.
  if (fd === -E.ACCES && o.host.writeback && (flags & O.ACCMODE) === O.WRONLY) {
    fd = openUpper(o, slot, O.WRONLY | O.NONBLOCK);
  }
  return fd === -E.ACCES ? openAgainstMode(o, handle, slot, own) : fd;
}

/** H.mode beside the permission bits: they are to be put back. */
const BORROWED = 0x10000;

/**
 * Opens a file of this server whose mode forbids it, as a file may be whose creator goes on writing: it has the mode for it
 * for a moment. Who comes after a death in between finds the right one in the handle.
 */
function openAgainstMode(o: Overlay, handle: number, slot: number, flags: number): number {
  const path = openUpper(o, slot, O.PATH);
  if (path < 0) return path;
  const mode = statFd(path);
  if (mode >= 0 && handleGet(handle, H.mode) === 0) {
    handlePut(handle, H.mode, (mode & 0o7777) | BORROWED);
  }
  const fd = mode < 0 ? mode : openAllowing(path, flags);
  putModeBack(handle, path);
  close(path);
  return fd;
}

/** Opens what `path` (O_PATH) refers to, of which this server is the owner, whatever its mode. */
export function openAllowing(path: number, flags: number): number {
  const mode = statFd(path);
  const changed = mode < 0 ? mode : chmodFd(path, (mode & 0o7777) | 0o600);
  if (changed < 0) return changed;
  const fd = reopenFd(path, flags);
  chmodFd(path, mode & 0o7777);
  return fd;
}

function putModeBack(handle: number, path: number): void {
  const mode = handleGet(handle, H.mode);
  if (mode === 0) return;
  chmodFd(path, mode & 0o7777);
  handlePut(handle, H.mode, 0);
}

/** After a death of a server that had a file's mode changed for a moment. */
export function restoreMode(o: Overlay, handle: number): void {
  if (handleGet(handle, H.mode) === 0) return;
  const slot = o.settle(handleGet(handle, H.node));
  const path = slot === 0 ? -1 : openUpper(o, slot, O.PATH);
  if (path < 0) return;
  putModeBack(handle, path);
  close(path);
}
