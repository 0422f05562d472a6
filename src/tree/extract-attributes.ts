// Owner, xattrs, mode and time of an extracted file, in the order in which none undoes another.
// Called by extract, with a descriptor where there is one.
// Follows: chown(2) (clears set-id bits and capabilities), setxattr(2), chmod(2), utimensat(2).

import { O, S } from '../linux/constants.js';
import { E, errnoName, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { putBytes, scratch, u8 } from '../linux/memory.js';
import { setxattrAt } from '../linux/xattr.js';
import { show, type TreeNode } from './tree.js';

// This thread's scratch: the name of an xattr, and its value.
const ATTR_AT = 0xc00;
const VALUE_AT = 0x10000;

/** What the process that extracts may and will do. */
export interface Privileges {
  readonly owners: boolean;
  /** Its own ids: what files get when owners are not set. */
  readonly uid: number;
  readonly gid: number;
}

type Warn = (problem: string) => void;

/**
 * @param dir descriptor of the file itself with an empty `name`, or of the directory that it is in.
 * @param name arena offset. @throws SysError when the file system cannot take an attribute that this process may set.
 */
export function applyAttributes(
  dir: number,
  name: number,
  node: TreeNode,
  privileges: Privileges,
  warn: Warn,
): void {
  const type = node.mode & S.IFMT;
  let mode = node.mode & 0o7777;
  if (privileges.owners) {
    const r = files.chownAt(dir, name, node.uid, node.gid);
    if (r === -E.PERM || r === -E.INVAL) {
      warn(`owners cannot be set (${errnoName(r)}); set-id bits were taken away`);
      mode &= 0o1777;
    } else if (r < 0) throw new SysError('chown', r);
  } else if (node.uid !== privileges.uid || node.gid !== privileges.gid) {
    mode &= 0o1777;
  }
  for (const [attr, value] of node.xattrs ?? []) setXattr(dir, name, attr, value, warn);
  if (type !== S.IFLNK) setMode(dir, name, mode);
  setTime(dir, name, node);
}

function setXattr(dir: number, name: number, attr: string, value: Uint8Array, warn: Warn): void {
  putBytes(scratch + ATTR_AT, attr.slice(0, 256));
  u8.set(value.subarray(0, 0x10000), scratch + VALUE_AT);
  const r = setxattrAt(dir, name, scratch + ATTR_AT, scratch + VALUE_AT, value.length, 0);
  if (r === -E.PERM || r === -E.OPNOTSUPP || r === -E.INVAL) {
    warn(
      `xattrs ${show(`${attr.split('.')[0]}.*`)} cannot be set here (${errnoName(r)}); left out`,
    );
  } else if (r < 0) throw new SysError(`setxattr ${show(attr)}`, r);
}

function setMode(dir: number, name: number, mode: number): void {
  if (u8[name] === 0) {
    const r = files.chmodFd(dir, mode);
    if (r < 0) throw new SysError('chmod', r);
    return;
  }
  // By descriptor: chmod by name would follow a symlink that somebody put in its place.
  const fd = files.openAt(dir, name, O.PATH | O.NOFOLLOW);
  if (fd < 0) throw new SysError('open', fd);
  const r = files.chmodFd(fd, mode);
  files.close(fd);
  if (r < 0) throw new SysError('chmod', r);
}

/** The time of last change; that of last access is left alone. */
function setTime(dir: number, name: number, node: TreeNode): void {
  const high = Math.floor(node.mtime / 0x1_0000_0000);
  const low = node.mtime - high * 0x1_0000_0000;
  const omit = files.UTIME_OMIT;
  const r = files.utimensAt(dir, name, 0, 0, omit, low, high, node.mtimeNsec);
  if (r < 0) throw new SysError('utimensat', r);
}
