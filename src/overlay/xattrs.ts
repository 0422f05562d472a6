// Users' extended attributes: read where the object is, changed after copy-up; the overlay's own never show.
// Called for GETXATTR, LISTXATTR, SETXATTR and REMOVEXATTR.
// Follows: fs/overlayfs/xattrs.c; a name that looks like the overlay's own is stored in its escaped form.

import { S, XATTR_SIZE_MAX } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { chmodAt, chmodFd, emptyPath, Statx, statBuffer } from '../linux/files.js';
import { getBytes, u8, u32 } from '../linux/memory.js';
import { getxattrAt, listxattrAt, removexattrAt, setxattrAt } from '../linux/xattr.js';
import type { Request } from '../vfs/filesystem.js';
import { publishing } from '../vfs/journal.js';
import { clearFlag, FLAG, hasFlag, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureUpper } from './copy-up.js';
import { beforePassthroughWrite } from './io.js';
import { statNode } from './objects.js';
import { isDir, locate, nodeOf } from './places.js';
import { LONG_NAME, XATTR_LIST } from './work.js';

/** Filesystems let an ACL be removed that is not there, and kernel overlayfs asks the upper's only. */
const isAcl = (name: number, nameLen: number) =>
  getBytes(name, nameLen).startsWith('system.posix_acl_');

const CAPABILITY = 'security.capability';

const isAccessAcl = (name: number, nameLen: number) =>
  getBytes(name, nameLen) === 'system.posix_acl_access';

/**
 * Set-group-id goes before somebody who is not of the file's group changes its ACL (ovl_set_acl of fs/overlayfs/inode.c).
 * @param gid the caller's group; undefined when the kernel has seen that it is another. @returns 0, PARKED or -errno.
 */
function dropGroupId(o: Overlay, slot: number, gid: number | undefined): number {
  const mode = statNode(o, slot);
  if (mode < 0 || (mode & S.ISGID) === 0) return mode < 0 ? mode : 0;
  if (gid === u32[(statBuffer() + Statx.gid) >>> 2]) return 0;
  const e = ensureUpper(o, slot, 'metadata');
  if (e < 0) return e;
  const bits = mode & 0o7777 & ~S.ISGID;
  const p = locate(o, slot);
  if (p.fd >= 0) return chmodFd(p.fd, bits);
  if (p.layer === undefined || o.upper === undefined) return -E.STALE;
  const fd = o.upper.fd(p.dir);
  if (fd < 0) return fd;
  return isDir(slot) ? chmodFd(fd, bits) : chmodAt(fd, p.name, bits);
}

/** The name to use on the layers for a user's name; itself unless it must be escaped. */
function storedName(o: Overlay, name: number, nameLen: number): number {
  if (!o.marks.isOwn(name)) return name;
  o.marks.escape(name, nameLen, LONG_NAME);
  return LONG_NAME;
}

export function getxattr(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  out: number,
  size: number,
): number {
  if (!o.config.xattrs) return -E.NOSYS;
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  if (nameLen === CAPABILITY.length && getBytes(name, nameLen) === CAPABILITY) {
    beforePassthroughWrite(o, r, slot);
    if (hasFlag(slot, FLAG.NO_CAPABILITY)) return -E.NODATA;
  }
  const attr = storedName(o, name, nameLen);
  const p = locate(o, slot);
  if (p.fd >= 0) return getxattrAt(p.fd, emptyPath(), attr, out, size);
  if (p.layer === undefined) return -E.STALE;
  return p.layer.getxattr(p.dir, p.name, attr, out, size);
}

export function listxattr(o: Overlay, r: Request, out: number, size: number): number {
  if (!o.config.xattrs) return -E.NOSYS;
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  const p = locate(o, slot);
  let length: number;
  if (p.fd >= 0) length = listxattrAt(p.fd, emptyPath(), XATTR_LIST, XATTR_SIZE_MAX);
  else if (p.layer === undefined) return -E.STALE;
  else length = p.layer.listxattr(p.dir, p.name, XATTR_LIST, XATTR_SIZE_MAX);
  if (length <= 0) return length;
  length = o.marks.filterList(XATTR_LIST, length, o.config.userxattr, r.uid !== 0);
  if (size === 0) return length;
  if (length > size) return -E.RANGE;
  u8.copyWithin(out, XATTR_LIST, XATTR_LIST + length);
  return length;
}

export function setxattr(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  value: number,
  size: number,
  flags: number,
): number {
  if (!o.config.xattrs) return -E.NOSYS;
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  const e = r.killPriv && isAccessAcl(name, nameLen) ? dropGroupId(o, slot, undefined) : 0;
  if (e < 0) return e;
  return change(o, r, name, nameLen, (fd, at, attr) => {
    const set = setxattrAt(fd, at, attr, value, size, flags);
    return set === -E.EXIST && r.redo && hasValue(fd, at, attr, value, size) ? 0 : set;
  });
}

function hasValue(fd: number, at: number, attr: number, value: number, size: number): boolean {
  const n = getxattrAt(fd, at, attr, XATTR_LIST, XATTR_SIZE_MAX);
  if (n !== size) return false;
  for (let i = 0; i < n; i++) if (u8[XATTR_LIST + i] !== u8[value + i]) return false;
  return true;
}

export function removexattr(o: Overlay, r: Request, name: number, nameLen: number): number {
  if (!o.config.xattrs) return -E.NOSYS;
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  if (r.uid !== 0 && isAccessAcl(name, nameLen)) {
    const e = dropGroupId(o, slot, r.gid);
    if (e < 0) return e;
  }
  // What is not there needs no copy-up to be refused.
  const there = getxattr(o, r, name, nameLen, XATTR_LIST, 0);
  if (there === -E.NODATA && hasFlag(slot, FLAG.UPPER) && isAcl(name, nameLen)) return 0;
  if (there === -E.NODATA && r.redo) return 0;
  if (there < 0) return there;
  return change(o, r, name, nameLen, removexattrAt);
}

function change(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  apply: (fd: number, at: number, attr: number) => number,
): number {
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  let e = ensureUpper(o, slot, 'metadata');
  if (e < 0) return e;
  clearFlag(slot, FLAG.NO_CAPABILITY);
  const attr = storedName(o, name, nameLen);
  publishing();
  const p = locate(o, slot);
  if (p.fd >= 0) return apply(p.fd, emptyPath(), attr);
  if (p.layer === undefined || o.upper === undefined) return -E.STALE;
  const fd = o.upper.fd(p.dir);
  e = fd < 0 ? fd : apply(fd, p.name, attr);
  if (e >= 0 && isDir(slot)) noteDefaultAcl(o, slot);
  return e;
}

/** New objects inherit a default ACL by staging in a folder that has it; the node remembers whether there is one. */
function noteDefaultAcl(o: Overlay, slot: number): void {
  const p = locate(o, slot);
  const n = p.layer?.getxattr(p.dir, p.name, o.marks.aclDefault, XATTR_LIST, 0) ?? 0;
  if (n > 0) setFlag(slot, FLAG.DEFAULT_ACL);
  else clearFlag(slot, FLAG.DEFAULT_ACL);
}
