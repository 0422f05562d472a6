// New objects: create, mkdir, mknod, symlink and unnamed files.
// Called by filesystem.ts; place-new.ts puts them in the upper, here they become nodes.
// Follows: fs/overlayfs/dir.c (ovl_create_object, ovl_create_tmpfile).

import { DT, O, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  close,
  dotPath,
  emptyPath,
  mkdirAt,
  mknodAt,
  openAt,
  statAt,
  statFd,
  symlinkAt,
  unlinkAt,
} from '../linux/files.js';
import { attrFromStat, Entry } from '../vfs/attr.js';
import type { OpenReply, Request } from '../vfs/filesystem.js';
import { KIND } from '../vfs/handles.js';
import { allocNode, F, FLAG, findName, get, hasFlag, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { dropNode, freeUnused } from './forget.js';
import { hideFile } from './hide.js';
import { attachHandle } from './io.js';
import { answerEntry } from './lookup.js';
import { newNode } from './new-node.js';
import { finishAttr, isWhiteout, setInoFromStat } from './objects.js';
import {
  type Make,
  markOpaque,
  own,
  parentFor,
  placed,
  placeNew,
  refusedName,
  takeUmask,
} from './place-new.js';
import { openAllowing, serverFlags } from './reopen.js';
import { stackLength } from './stacks.js';

/**
 * Whether a predecessor has made what request `r` wants, and what may have stood below is hidden.
 * @param type S_IFMT bits of it. @returns 1 or 0, or -errno.
 */
function isMade(o: Overlay, r: Request, parent: number, name: number, type: number): number {
  if (!r.redo) return 0;
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  const mode = statAt(dirfd, name);
  if (mode < 0 || isWhiteout(mode) || (mode & S.IFMT) !== type) return 0;
  placed.overWhiteout = stackLength(parent) > 0;
  if (type !== S.IFDIR || !placed.overWhiteout) return 1;
  const marked = markOpaque(o, dirfd, name);
  return marked < 0 ? marked : 1;
}

/** Opens a file that a predecessor has made; its mode may forbid what its creator may do. */
function openMade(o: Overlay, parent: number, name: number, flags: number): number {
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  const fd = openAt(dirfd, name, flags | O.NOFOLLOW);
  if (fd !== -E.ACCES) return fd;
  const path = openAt(dirfd, name, O.PATH | O.NOFOLLOW);
  if (path < 0) return path;
  const opened = openAllowing(path, flags);
  close(path);
  return opened;
}

/** The node of a new upper object whose attributes are in statBuffer(). @returns slot or -errno. */
function newUpperNode(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  mode: number,
  attr: number,
): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  attrFromStat(attr);
  const stale = findName(parent, name, nameLen);
  if (stale !== 0) dropNode(o, stale);
  const slot = newNode(parent, name, nameLen, (mode & S.IFMT) >>> 12);
  if (slot < 0) return slot;
  setInoFromStat(slot, upper);
  o.exporting?.born();
  setFlag(slot, FLAG.UPPER | FLAG.NO_CAPABILITY | (placed.overWhiteout ? 0 : FLAG.FRESH));
  if ((mode & S.IFMT) === S.IFDIR) {
    put(slot, F.upper, upper.enter(get(parent, F.upper), name, nameLen));
    if (placed.overWhiteout) setFlag(slot, FLAG.OPAQUE);
    if (hasFlag(parent, FLAG.DEFAULT_ACL)) setFlag(slot, FLAG.DEFAULT_ACL);
  }
  finishAttr(o, slot, attr);
  return o.exporting === undefined ? slot : o.exporting.settle(slot, parent);
}

/** Everything but regular files opened at once: makes, owns, and answers the entry. */
function makeNode(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  dir: boolean,
  wantedMode: number,
  out: number,
  make: Make,
): number {
  if (refusedName(o, name, nameLen)) return -E.PERM;
  const parent = parentFor(o, r);
  if (parent < 0) return parent;
  takeUmask(o, r.umask);
  let e = isMade(o, r, parent, name, dir ? S.IFDIR : wantedMode & S.IFMT);
  if (e === 0) e = placeNew(o, r, parent, name, nameLen, dir, make);
  if (e < 0) return e;
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  const mode = statAt(dirfd, name);
  if (mode < 0) return mode;
  e = own(o, r, parent, dirfd, name, wantedMode & ~r.umask);
  if (e < 0) {
    unlinkAt(dirfd, name, dir ? 0x200 : 0);
    return e;
  }
  const slot = newUpperNode(o, parent, name, nameLen, mode, out + Entry.attr);
  return slot < 0 ? slot : answerEntry(slot, out);
}

export function mkdir(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  mode: number,
  out: number,
): number {
  return makeNode(o, r, name, nameLen, true, mode, out, (dirfd, at) =>
    mkdirAt(dirfd, at, mode & 0o7777),
  );
}

export function mknod(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  mode: number,
  rdev: number,
  out: number,
): number {
  if ((mode & S.IFMT) === S.IFCHR && rdev === 0) return -E.PERM;
  return makeNode(o, r, name, nameLen, false, mode, out, (dirfd, at) =>
    mknodAt(dirfd, at, mode, rdev),
  );
}

export function symlink(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  target: number,
  out: number,
): number {
  return makeNode(o, r, name, nameLen, false, S.IFLNK | 0o777, out, (dirfd, at) =>
    symlinkAt(target, dirfd, at),
  );
}

/** CREATE: makes and opens a regular file. */
export function create(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  flags: number,
  mode: number,
  out: number,
  reply: OpenReply,
): number {
  if (refusedName(o, name, nameLen)) return -E.PERM;
  const parent = parentFor(o, r);
  if (parent < 0) return parent;
  takeUmask(o, r.umask);
  const openFlags = serverFlags(o, flags) | O.CREAT | O.EXCL | O.NOFOLLOW;
  const made = isMade(o, r, parent, name, S.IFREG);
  const fd =
    made > 0
      ? openMade(o, parent, name, serverFlags(o, flags))
      : placeNew(o, r, parent, name, nameLen, false, (dirfd, at) =>
          openAt(dirfd, at, openFlags, mode & 0o7777),
        );
  if (fd < 0) {
    return fd === -E.EXIST && (flags & O.EXCL) === 0 ? -E.STALE : fd;
  }
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  const type = statFd(fd);
  let e = type < 0 ? type : own(o, r, parent, dirfd, name, mode & ~r.umask);
  if (e >= 0) e = newUpperNode(o, parent, name, nameLen, type, out + Entry.attr);
  if (e < 0) {
    close(fd);
    unlinkAt(dirfd, name);
    return e;
  }
  const slot = e;
  const opened = attachHandle(o, slot, fd, flags, KIND.MADE, reply, type);
  if (opened < 0) {
    close(fd);
    return opened;
  }
  return answerEntry(slot, out);
}

/** TMPFILE: an unnamed regular file, in the filesystem of the upper. */
export function tmpfile(
  o: Overlay,
  r: Request,
  flags: number,
  mode: number,
  out: number,
  reply: OpenReply,
): number {
  const parent = parentFor(o, r);
  if (parent < 0) return parent;
  takeUmask(o, r.umask);
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  if (dirfd < 0) return dirfd;
  // O_EXCL is the kernel's affair: nobody but it is asked for another name.
  const fd = openAt(dirfd, dotPath(), O.RDWR | O.TMPFILE, mode & 0o7777);
  if (fd < 0) return fd;
  const made = statFd(fd);
  let e = made < 0 ? made : own(o, r, parent, fd, emptyPath(), mode & ~r.umask);
  const slot = allocNode(DT.REG);
  if (slot === 0) e = -E.NOMEM;
  if (e < 0) {
    close(fd);
    return e;
  }
  statFd(fd);
  attrFromStat(out + Entry.attr);
  setInoFromStat(slot, o.upper as NonNullable<Overlay['upper']>);
  o.exporting?.born();
  setFlag(slot, FLAG.UPPER | FLAG.ORPHAN | FLAG.FRESH);
  o.exporting?.settle(slot, parent);
  finishAttr(o, slot, out + Entry.attr);
  hideFile(o, slot, fd);
  const opened = attachHandle(o, slot, fd, flags, KIND.MADE, reply, made);
  if (opened < 0) {
    close(fd);
    freeUnused(o, slot);
    return opened;
  }
  return answerEntry(slot, out);
}
