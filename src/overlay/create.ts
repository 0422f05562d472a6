// New objects: create, mkdir, mknod, symlink, link and unnamed files; over whiteouts where one stands in the way.
// Tried in place first (one system call); only a whiteout needs staging in the workdir.
// Follows: fs/overlayfs/dir.c (ovl_create_upper, ovl_create_over_whiteout) and inode_init_owner() for group inheritance.

import { AT, DT, O, RENAME, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  chmodAt,
  chmodFd,
  chownAt,
  close,
  dotPath,
  emptyPath,
  linkAt,
  linkFd,
  mkdirAt,
  mknodAt,
  openAt,
  renameAt,
  Statx,
  statAt,
  statBuffer,
  statFd,
  symlinkAt,
  unlinkAt,
} from '../linux/files.js';
import { u8, u32 } from '../linux/memory.js';
import { setFsIds, setUmask } from '../linux/process.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import { attrFromStat, Entry } from '../vfs/attr.js';
import { type OpenReply, PARKED, type Request } from '../vfs/filesystem.js';
import { KIND } from '../vfs/handles.js';
import { publishing } from '../vfs/journal.js';
import { nameAt } from '../vfs/names.js';
import {
  allocNode,
  F,
  FLAG,
  findName,
  freeNode,
  get,
  hasFlag,
  insertIno,
  insertName,
  put,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import {
  ensureNameUpper,
  ensureUpper,
  ensureUpperDir,
  markImpure,
  noteUpperName,
  openUpper,
} from './copy-up.js';
import { dropNode, freeUnused } from './forget.js';
import { hideFile, keepNothing } from './hide.js';
import { attachHandle } from './io.js';
import { changeUnionLinks } from './links.js';
import { answerEntry } from './lookup.js';
import { addAlias } from './new-node.js';
import { attrOf, finishAttr, isWhiteout, setInoFromStat, statNode } from './objects.js';
import { storeOverrideStat } from './override-stat.js';
import { isDir, nodeOf, resolve } from './places.js';
import { setDataRedirect } from './redirects.js';
import { openAllowing, serverFlags } from './reopen.js';
import { stackLength } from './stacks.js';
import { LONG_NAME, TEMP_NAME, XATTR_VALUE } from './work.js';
import { tempName } from './workdir.js';

/** Makes the object called `name` below `dirfd`. @returns >= 0 (an fd where it opens one) or -errno. */
type Make = (dirfd: number, name: number) => number;

/** What the last place() found out. */
const placed = {
  /** A whiteout was replaced: something below would show through a plain directory. */
  overWhiteout: false,
};

/** Sets the umask of this process to the caller's, so that default ACLs and the mode meet as on any filesystem. */
function takeUmask(o: Overlay, umask: number): void {
  if (o.umask === umask) return;
  setUmask(umask);
  o.umask = umask;
}

/** The caller's ids as they are on disk. */
const owner = { uid: 0, gid: 0 };

function takeOwner(o: Overlay, r: Request): void {
  owner.uid = o.config.uids === undefined ? r.uid : o.config.uids.store(r.uid);
  owner.gid = o.config.gids === undefined ? r.gid : o.config.gids.store(r.gid);
}

const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

/** Whether what this process makes in the caller's name has to change hands. */
function isForeign(o: Overlay): boolean {
  if (!o.config.privileged || o.config.overrideStat !== undefined) return false;
  return owner.uid !== self.uid || owner.gid !== self.gid;
}

/**
 * Makes a new object in an upper directory, replacing a whiteout if there is one. It appears with its owner: made in
 * place under the caller's ids where these may, else staged.
 * @returns what `make` returned, or -errno (EEXIST when something visible is there).
 */
function placeNew(
  o: Overlay,
  r: Request,
  parent: number,
  name: number,
  nameLen: number,
  dir: boolean,
  make: Make,
): number {
  takeOwner(o, r);
  const settle = (dirfd: number, at: number): number => {
    const mode = statAt(dirfd, at);
    return mode < 0 ? mode : own(o, r, parent, dirfd, at, mode & 0o7777);
  };
  if (!isForeign(o)) return place(o, parent, name, nameLen, dir, make, settle);
  const foreign: Make = (dirfd, at) => {
    setFsIds(owner.uid, owner.gid);
    const made = make(dirfd, at);
    setFsIds(self.uid, self.gid);
    return made;
  };
  const made = place(o, parent, name, nameLen, dir, foreign, settle, make);
  if (made !== -E.ACCES && made !== -E.PERM) return made;
  // A device, or a directory that only a supplementary group of the caller may write to.
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(parent, F.upper));
  const staged = placeStaged(o, parent, dirfd, name, dir, false, make, settle);
  if (staged >= 0) noteUpperName(o, parent, name);
  return staged;
}

/**
 * Makes an object in an upper directory, replacing a whiteout if there is one.
 * @param settle finishes a staged object before it is published. @param stage makes it there, where it differs.
 * @returns what `make` returned, or -errno (EEXIST when something visible is there).
 */
function place(
  o: Overlay,
  parent: number,
  name: number,
  nameLen: number,
  dir: boolean,
  make: Make,
  settle: Make = () => 0,
  stage: Make = make,
): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(parent, F.upper));
  if (dirfd < 0) return dirfd;
  placed.overWhiteout = false;
  if (o.config.aufsWhiteouts) placed.overWhiteout = removeAufsWhiteout(dirfd, name, nameLen, dir);
  publishing();
  let r = make(dirfd, name);
  if (r === -E.EXIST) {
    const mode = statAt(dirfd, name);
    if (mode < 0) return mode;
    if (!isWhiteout(mode)) return -E.EXIST;
    placed.overWhiteout = true;
    r = placeStaged(o, parent, dirfd, name, dir, true, stage, settle);
  } else if (r >= 0 && dir && placed.overWhiteout) {
    const marked = markOpaque(o, dirfd, name);
    if (marked < 0) return marked;
  }
  if (r >= 0) noteUpperName(o, parent, name);
  return r;
}

/** `.wh.NAME` beside the new object would hide nothing any more, but stays confusing: it goes. */
function removeAufsWhiteout(dirfd: number, name: number, nameLen: number, _dir: boolean): boolean {
  if (nameLen > 251) return false;
  u8.set([0x2e, 0x77, 0x68, 0x2e], LONG_NAME);
  u8.copyWithin(LONG_NAME + 4, name, name + nameLen + 1);
  return unlinkAt(dirfd, LONG_NAME) >= 0;
}

/** Sets the opaque mark on a directory of the upper layer. */
export function markOpaque(o: Overlay, dirfd: number, name: number): number {
  u8[XATTR_VALUE] = 0x79;
  return setxattrAt(dirfd, name, o.marks.opaque, XATTR_VALUE, 1, 0);
}

/** Stages the object in the workdir and puts it in its place, or in that of a whiteout, by one rename. */
function placeStaged(
  o: Overlay,
  parent: number,
  dirfd: number,
  name: number,
  dir: boolean,
  replaces: boolean,
  make: Make,
  settle: Make,
): number {
  const { workFd } = o.config;
  const inherits = hasFlag(parent, FLAG.SETGID | FLAG.DEFAULT_ACL);
  const folder = inherits ? stagingFolder(o, dirfd) : workFd;
  if (folder < 0) return folder;
  const temp = tempName(o);
  const made = make(folder, temp);
  let r = made;
  if (r >= 0) {
    r = settle(folder, temp);
    if (r >= 0 && dir && placed.overWhiteout) r = markOpaque(o, folder, temp);
    if (r >= 0) {
      publishing();
      const over = dir ? RENAME.EXCHANGE : 0;
      r = renameAt(folder, temp, dirfd, name, replaces ? over : RENAME.NOREPLACE);
    }
    if (r < 0) {
      if (!dir && made > 0) close(made);
      unlinkAt(folder, temp, dir ? AT.REMOVEDIR : 0);
    } else if (dir && replaces) {
      unlinkAt(folder, temp);
    }
  }
  if (inherits) dropStagingFolder(o, folder);
  return r < 0 ? r : made;
}

/** Its name, kept because tempName() is used again while it exists. */
let stagingName = '';

/** A folder in the workdir that hands down group and default ACL as the real parent does. */
function stagingFolder(o: Overlay, parentFd: number): number {
  const mode = statFd(parentFd);
  if (mode < 0) return mode;
  const gid = u32[(statBuffer() + Statx.gid) >>> 2] as number;
  const { workFd } = o.config;
  const temp = tempName(o);
  stagingName = '';
  for (let at = temp; u8[at] !== 0; at++) stagingName += String.fromCharCode(u8[at] as number);
  let r = mkdirAt(workFd, temp, 0o700);
  if (r < 0) return r;
  const acl = getxattrAt(parentFd, emptyPath(), o.marks.aclDefault, XATTR_VALUE, 65536);
  if (acl > 0) r = setxattrAt(workFd, temp, o.marks.aclDefault, XATTR_VALUE, acl, 0);
  if (r >= 0 && mode & S.ISGID) {
    chownAt(workFd, temp, 0xffffffff, gid);
    r = chmodAt(workFd, temp, 0o2700);
  }
  return r < 0 ? r : openAt(workFd, temp, O.PATH | O.DIRECTORY);
}

function dropStagingFolder(o: Overlay, fd: number): void {
  close(fd);
  for (let i = 0; i < stagingName.length; i++) u8[TEMP_NAME + i] = stagingName.charCodeAt(i);
  u8[TEMP_NAME + stagingName.length] = 0;
  unlinkAt(o.config.workFd, TEMP_NAME, 0x200);
}

/** Gives a new object to the caller; statBuffer() holds its attributes, and holds the right ones again afterwards. */
function own(
  o: Overlay,
  r: Request,
  parent: number,
  dirfd: number,
  name: number,
  mode: number,
): number {
  const s = statBuffer() >>> 2;
  const { config } = o;
  if (config.overrideStat !== undefined) {
    return storeOverrideStat(o, dirfd, name, r.uid, r.gid, mode);
  }
  takeOwner(o, r);
  const { uid, gid: wanted } = owner;
  const haveUid = u32[s + 5] as number;
  const haveGid = u32[s + 6] as number;
  // A set-group-id directory has handed its group down already.
  const gid = hasFlag(parent, FLAG.SETGID) ? haveGid : wanted;
  if (uid === haveUid && gid === haveGid) return 0;
  const made = statMode16();
  const changed = chownAt(dirfd, name, uid, gid);
  if (changed < 0) return changed === -E.PERM && !config.privileged ? 0 : changed;
  if (made & (S.ISUID | S.ISGID) && (made & S.IFMT) !== S.IFLNK && (made & S.IFMT) !== S.IFDIR) {
    // chown has cleared what the caller asked for.
    const bits = made & 0o7777;
    const restored = name === emptyPath() ? chmodFd(dirfd, bits) : chmodAt(dirfd, name, bits);
    if (restored < 0) return restored;
  }
  return statAt(dirfd, name) < 0 ? -E.IO : 0;
}

function statMode16(): number {
  const at = statBuffer() + Statx.mode;
  return (u8[at] as number) | ((u8[at + 1] as number) << 8);
}

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
  const slot = allocNode((mode & S.IFMT) >>> 12);
  if (slot === 0) return -E.NOMEM;
  if (!insertName(slot, parent, name, nameLen)) {
    freeNode(slot);
    return -E.NOMEM;
  }
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

/** The parent of a new object, made upper; or -errno. */
function parentFor(o: Overlay, r: Request): number {
  const parent = nodeOf(o, r);
  if (parent === 0) return -E.STALE;
  if (hasFlag(parent, FLAG.ORPHAN)) return -E.NOENT;
  const e = ensureUpperDir(o, parent);
  return e < 0 ? e : parent;
}

function refusedName(o: Overlay, name: number, nameLen: number): boolean {
  return (
    o.config.aufsWhiteouts &&
    nameLen >= 4 &&
    u8[name] === 0x2e &&
    u8[name + 1] === 0x77 &&
    u8[name + 2] === 0x68 &&
    u8[name + 3] === 0x2e
  );
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

/** LINK: another name for an object, which is copied up first. */
export function link(
  o: Overlay,
  r: Request,
  old: number,
  name: number,
  nameLen: number,
  out: number,
): number {
  if (old === 0) return -E.STALE;
  if (isDir(old)) return -E.PERM;
  if (refusedName(o, name, nameLen)) return -E.PERM;
  let e = ensureUpper(o, old, 'metadata');
  if (e < 0) return e === PARKED ? PARKED : e;
  const parent = parentFor(o, r);
  if (parent < 0) return parent;
  const unnamed = hasFlag(old, FLAG.ORPHAN);
  if (hasFlag(old, FLAG.METACOPY) && !unnamed) {
    // Under its new name nothing lies below it.
    e = redirectLinked(o, old);
    if (e < 0) return e;
  }
  const source = unnamed ? openUpper(o, old, O.PATH) : -1;
  if (unnamed && source < 0) return source;
  const linked = isLinked(o, r, parent, old, name);
  e = linked
    ? 0
    : place(o, parent, name, nameLen, false, (dirfd, at) => {
        if (source >= 0) return linkFd(source, dirfd, at);
        const fd = get(old, F.fd) - 1;
        if (fd >= 0) return linkFd(fd, dirfd, at);
        const upper = o.upper as NonNullable<Overlay['upper']>;
        const from = upper.fd(get(get(old, F.parent), F.upper));
        return linkAt(from, nameAt(get(old, F.name)), dirfd, at);
      });
  if (source >= 0) close(source);
  if (e < 0) return e;
  // Its number may be another object's, which lookup only finds out where the directory says that there are such.
  const copied = hasFlag(old, FLAG.INDEXED) || get(old, F.lower) !== 0;
  if (copied || (!unnamed && hasFlag(get(old, F.parent), FLAG.IMPURE))) markImpure(o, parent);
  // A link that was found is counted.
  if (!linked) changeUnionLinks(o, old, 1);
  o.filling?.moved(old);
  const stale = findName(parent, name, nameLen);
  if (linked && stale !== 0 && resolve(stale) === old) {
    e = attrOf(o, old, out + Entry.attr);
    return e < 0 ? e : answerEntry(old, out);
  }
  if (stale !== 0) dropNode(o, stale);
  if (unnamed) return nameUnnamed(o, parent, old, name, nameLen, out);
  insertIno(old);
  const slot = addAlias(
    o,
    parent,
    old,
    name,
    nameLen,
    placed.overWhiteout ? FLAG.UPPER : FLAG.UPPER | FLAG.FRESH,
    out + Entry.attr,
  );
  return slot < 0 ? slot : answerEntry(slot, out);
}

/** Whether a predecessor has made this link. */
function isLinked(o: Overlay, r: Request, parent: number, old: number, name: number): boolean {
  if (!r.redo || statNode(o, old) < 0) return false;
  const ino = (statBuffer() + Statx.ino) >>> 2;
  const lo = u32[ino];
  const hi = u32[ino + 1];
  const dirfd = (o.upper as NonNullable<Overlay['upper']>).fd(get(parent, F.upper));
  placed.overWhiteout = stackLength(parent) > 0;
  return statAt(dirfd, name) >= 0 && u32[ino] === lo && u32[ino + 1] === hi;
}

/** Marks a metacopy file with where its data is to be looked for, under whichever of its names. */
function redirectLinked(o: Overlay, old: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const e = ensureNameUpper(o, old);
  if (e < 0) return e;
  const parent = get(old, F.parent);
  return setDataRedirect(o, parent, upper.fd(get(parent, F.upper)), nameAt(get(old, F.name)));
}

/** An O_TMPFILE gets its first name, or an unlinked file a new one. */
function nameUnnamed(
  o: Overlay,
  parent: number,
  slot: number,
  name: number,
  nameLen: number,
  out: number,
): number {
  if (!insertName(slot, parent, name, nameLen)) return -E.NOMEM;
  keepNothing(o, slot);
  const fd = get(slot, F.fd);
  if (fd !== 0) {
    close(fd - 1);
    put(slot, F.fd, 0);
  }
  clearOrphan(slot);
  if (!placed.overWhiteout) setFlag(slot, FLAG.FRESH);
  const r = attrOf(o, slot, out + Entry.attr);
  return r < 0 ? r : answerEntry(slot, out);
}

function clearOrphan(slot: number): void {
  put(slot, F.flags, get(slot, F.flags) & ~(FLAG.ORPHAN | FLAG.FRESH));
}
