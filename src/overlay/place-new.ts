// A new object comes to its name in the upper: in place by one system call, through the workdir where a whiteout stands in the way.
// Called by create.ts and link.ts; it appears with its owner, group and mode as on any filesystem.
// Follows: fs/overlayfs/dir.c (ovl_create_upper, ovl_create_over_whiteout) and inode_init_owner() for group inheritance.

import { AT, O, RENAME, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  chmodAt,
  chmodFd,
  chownAt,
  close,
  emptyPath,
  mkdirAt,
  openAt,
  renameAt,
  Statx,
  statAt,
  statBuffer,
  statFd,
  unlinkAt,
} from '../linux/files.js';
import { u8, u32 } from '../linux/memory.js';
import { setFsIds, setUmask } from '../linux/process.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import type { Request } from '../vfs/filesystem.js';
import { publishing } from '../vfs/journal.js';
import { F, FLAG, get, hasFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureUpperDir, noteUpperName } from './copy-up.js';
import { isWhiteout } from './objects.js';
import { storeOverrideStat } from './override-stat.js';
import { nodeOf } from './places.js';
import { LONG_NAME, TEMP_NAME, XATTR_VALUE } from './work.js';
import { tempName } from './workdir.js';

/** Makes the object called `name` below `dirfd`. @returns >= 0 (an fd where it opens one) or -errno. */
export type Make = (dirfd: number, name: number) => number;

/** What the last place() found out. */
export const placed = {
  /** A whiteout was replaced: something below would show through a plain directory. */
  overWhiteout: false,
};

/** Sets the umask of this process to the caller's, so that default ACLs and the mode meet as on any filesystem. */
export function takeUmask(o: Overlay, umask: number): void {
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
export function placeNew(
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
export function place(
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
export function own(
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

/** The parent of a new object, made upper; or -errno. */
export function parentFor(o: Overlay, r: Request): number {
  const parent = nodeOf(o, r);
  if (parent === 0) return -E.STALE;
  if (hasFlag(parent, FLAG.ORPHAN)) return -E.NOENT;
  const e = ensureUpperDir(o, parent);
  return e < 0 ? e : parent;
}

export function refusedName(o: Overlay, name: number, nameLen: number): boolean {
  return (
    o.config.aufsWhiteouts &&
    nameLen >= 4 &&
    u8[name] === 0x2e &&
    u8[name + 1] === 0x77 &&
    u8[name + 2] === 0x68 &&
    u8[name + 3] === 0x2e
  );
}
