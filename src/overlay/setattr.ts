// Changes of attributes: mode, owner, size, times; copied up first when the object is a lower one.
// Called for SETATTR.
// Follows: fs/overlayfs/inode.c (ovl_setattr); FATTR_KILL_SUIDGID of FUSE_HANDLE_KILLPRIV_V2.

import { DT, O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  chmodAt,
  chmodFd,
  chownAt,
  close,
  emptyPath,
  ftruncate,
  Statx,
  statAt,
  statBuffer,
  truncateOpen,
  UTIME_NOW,
  UTIME_OMIT,
  utimensAt,
} from '../linux/files.js';
import { getU64, u32 } from '../linux/memory.js';
import { ATTR_SIZE, Attr } from '../vfs/attr.js';
import { type Request, SETATTR, type SetAttr } from '../vfs/filesystem.js';
import { H, get as handleGet, handleOf, KIND } from '../vfs/handles.js';
import { F, FLAG, get, hasFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureUpper, openUpper } from './copy-up.js';
import { dropSetId } from './io.js';
import { keepAttr } from './kept.js';
import { attrOf, putIno, statNode } from './objects.js';
import { storeOverrideStat } from './override-stat.js';
import { isDir, locate, nodeOf, typeOfNode } from './places.js';
import { fileOfHandle } from './reopen.js';

export function setattr(o: Overlay, r: Request, set: SetAttr, out: number): number {
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  if (isUnreachable(slot)) {
    const times = SETATTR.ATIME | SETATTR.MTIME | SETATTR.CTIME | SETATTR.ATIME_NOW;
    const onlyTimes = (set.valid & ~(times | SETATTR.MTIME_NOW | SETATTR.FH)) === 0;
    return onlyTimes && typeOfNode(slot) === DT.REG ? answerGone(o, slot, out) : -E.STALE;
  }
  const resizes = (set.valid & SETATTR.SIZE) !== 0;
  const keepsTimes = resizes && isTruncateOfSameSize(o, slot, set);
  let e = ensureUpper(o, slot, !resizes ? 'metadata' : set.size === 0 ? 'nothing' : 'data');
  if (e < 0) return e;
  if (resizes) e = resize(o, slot, set, keepsTimes, r.gid);
  if (e >= 0 && set.valid & (SETATTR.UID | SETATTR.GID | SETATTR.MODE))
    e = changeMode(o, r, slot, set, out);
  if (e >= 0 && set.valid & (SETATTR.ATIME | SETATTR.MTIME)) e = changeTimes(o, slot, set);
  if (e < 0) return e;
  e = attrOf(o, slot, out);
  if (e < 0) return e;
  if (hasFlag(slot, FLAG.ORPHAN) && isDir(slot)) keepAttr(slot, out);
  return ATTR_SIZE;
}

/**
 * An object of the upper without a name, an open handle or a descriptor: nobody can see it any more, unless a predecessor
 * had a descriptor of it. A removed directory of a lower has another place than that.
 */
function isUnreachable(slot: number): boolean {
  if (!hasFlag(slot, FLAG.ORPHAN) || !hasFlag(slot, FLAG.UPPER) || get(slot, F.fd) !== 0) {
    return false;
  }
  return isDir(slot) ? get(slot, F.upper) === 0 : get(slot, F.handles) === 0;
}

/** The kernel's writeback cache still flushes the times of such a file, and would report a failure to syncfs(2). */
function answerGone(o: Overlay, slot: number, out: number): number {
  u32.fill(0, out >>> 2, (out + ATTR_SIZE) >>> 2);
  putIno(o, slot, out >>> 2);
  u32[(out + Attr.mode) >>> 2] = typeOfNode(slot) << 12;
  return ATTR_SIZE;
}

/** Of a file that keeps its size truncate(2) leaves the times alone; ftruncate(2), which names a handle, does not. */
function isTruncateOfSameSize(o: Overlay, slot: number, set: SetAttr): boolean {
  if (set.valid & SETATTR.FH || statNode(o, slot) < 0) return false;
  return getU64(statBuffer() + Statx.size) === set.size;
}

function resize(o: Overlay, slot: number, set: SetAttr, keepsTimes: boolean, gid: number): number {
  if (typeOfNode(slot) === DT.DIR) return -E.ISDIR;
  const handle = set.valid & SETATTR.FH ? handleOf(set.fhLo, set.fhHi) : 0;
  const usable =
    handle !== 0 &&
    (handleGet(handle, H.flags) & O.ACCMODE) !== O.RDONLY &&
    (handleGet(handle, H.kind) & KIND.LOWER) === 0;
  const fd = usable ? fileOfHandle(o, handle) : openUpper(o, slot, O.WRONLY | O.NONBLOCK);
  if (fd < 0) return fd;
  let e = set.valid & SETATTR.KILL_SUIDGID ? dropSetId(fd, gid) : 0;
  if (e >= 0) e = keepsTimes ? truncateOpen(fd, set.size) : ftruncate(fd, set.size);
  if (!usable) close(fd);
  return e;
}

/** The descriptor and name of an upper object, for the calls that take both. */
const at = { fd: 0, name: 0 };

function locateUpper(o: Overlay, slot: number): number {
  const p = locate(o, slot);
  if (p.fd >= 0) {
    at.fd = p.fd;
    at.name = emptyPath();
    return 0;
  }
  if (p.layer === undefined) return -E.STALE;
  const upper = o.upper as NonNullable<Overlay['upper']>;
  at.name = p.name;
  at.fd = upper.fd(p.dir);
  return at.fd < 0 ? at.fd : 0;
}

function changeMode(o: Overlay, r: Request, slot: number, set: SetAttr, out: number): number {
  let e = locateUpper(o, slot);
  if (e < 0) return e;
  const { config } = o;
  if (config.overrideStat !== undefined) return overrideMode(o, slot, set, out);
  if (set.valid & (SETATTR.UID | SETATTR.GID)) {
    const uid = set.valid & SETATTR.UID ? (config.uids?.store(set.uid) ?? set.uid) : 0xffffffff;
    const gid = set.valid & SETATTR.GID ? (config.gids?.store(set.gid) ?? set.gid) : 0xffffffff;
    const kept = r.uid === 0 ? -1 : keptBySetgid(o, r, slot);
    e = chownAt(at.fd, at.name, uid, gid);
    if (e >= 0 && kept >= 0) e = changeBits(kept);
    // Where every file appears to have one owner, giving it to that owner is no change.
    if (e === -E.PERM && (config.squashUid !== undefined || config.squashGid !== undefined)) e = 0;
  }
  if (e >= 0 && set.valid & SETATTR.MODE) {
    if (typeOfNode(slot) === DT.LNK) return -E.OPNOTSUPP;
    e = changeBits(set.mode & 0o7777);
  }
  return e;
}

function changeBits(mode: number): number {
  return at.name === emptyPath() ? chmodFd(at.fd, mode) : chmodAt(at.fd, at.name, mode);
}

/**
 * The kernel drops the set-id bits of what this process gives away, but judges by this process whether set-group-id
 * without group execution may stay: it may where the caller is of the file's group (setattr_should_drop_sgid).
 * @returns the mode without both bits, or -1 where the kernel's own doing is right.
 */
function keptBySetgid(o: Overlay, r: Request, slot: number): number {
  if (typeOfNode(slot) === DT.DIR || typeOfNode(slot) === DT.LNK) return -1;
  const mode = statAt(at.fd, at.name);
  if (mode < 0 || (mode & (S.ISGID | 0o010)) !== S.ISGID) return -1;
  const gid = o.config.gids?.store(r.gid) ?? r.gid;
  return gid === u32[(statBuffer() + Statx.gid) >>> 2] ? -1 : mode & 0o1777;
}

function overrideMode(o: Overlay, slot: number, set: SetAttr, out: number): number {
  const e = attrOf(o, slot, out);
  if (e < 0) return e;
  const r = locateUpper(o, slot);
  if (r < 0) return r;
  const k = out >>> 2;
  return storeOverrideStat(
    o,
    at.fd,
    at.name,
    set.valid & SETATTR.UID ? set.uid : (u32[k + (Attr.uid >>> 2)] as number),
    set.valid & SETATTR.GID ? set.gid : (u32[k + (Attr.gid >>> 2)] as number),
    set.valid & SETATTR.MODE ? set.mode : (u32[k + (Attr.mode >>> 2)] as number),
  );
}

function changeTimes(o: Overlay, slot: number, set: SetAttr): number {
  const e = locateUpper(o, slot);
  if (e < 0) return e;
  const { valid } = set;
  const atime =
    (valid & SETATTR.ATIME) === 0
      ? UTIME_OMIT
      : valid & SETATTR.ATIME_NOW
        ? UTIME_NOW
        : set.atimeNsec;
  const mtime =
    (valid & SETATTR.MTIME) === 0
      ? UTIME_OMIT
      : valid & SETATTR.MTIME_NOW
        ? UTIME_NOW
        : set.mtimeNsec;
  return utimensAt(
    at.fd,
    at.name,
    set.atimeLo,
    set.atimeHi,
    atime,
    set.mtimeLo,
    set.mtimeHi,
    mtime,
  );
}
