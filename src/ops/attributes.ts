// Owner, mode, xattrs and time of an object, as data that a journal holds, and their setting: exactly these, or an error.
// Used by apply for objects that stay what they are; what is made anew gets its own by tree/extract.ts.
// Follows: chown(2) (clears set-id bits and capabilities), setxattr(2), chmod(2), utimensat(2): in this order.

import { O, S, XATTR_SIZE_MAX } from '../linux/constants.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { getBytes, i32, putBytes, scratch, u8, u32 } from '../linux/memory.js';
import { getxattrAt, listxattrAt, removexattrAt, setxattrAt } from '../linux/xattr.js';
import { isRepeatedXattr, show, type TreeNode } from '../tree/tree.js';
import type { Held } from './held.js';

const { Statx } = files;

// This thread's scratch: the name of an xattr; a list of names, or a value.
const ATTR_AT = 0xc00;
const VALUE_AT = 0x10000;

export interface Attributes {
  /** st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds, and nanoseconds. */
  readonly mtime: number;
  readonly mtimeNsec: number;
  /** Full name and value (latin1). */
  readonly xattrs: readonly (readonly [string, string])[];
}

/** Those of a node. */
export function attributesOf(node: TreeNode): Attributes {
  const { mode, uid, gid, mtime, mtimeNsec } = node;
  const xattrs = [...(node.xattrs ?? [])].map(
    ([name, value]) => [name, Buffer.from(value).toString('latin1')] as const,
  );
  return { mode, uid, gid, mtime, mtimeNsec, xattrs };
}

/** @throws SysError. */
export function readAttributes(tree: Held, path: string): Attributes {
  return tree.at(path, (dir, name) => {
    const mode = files.statAt(dir, name);
    if (mode < 0) throw failed('stat', mode, tree, path);
    const at = files.statBuffer();
    const k = at >>> 2;
    const low = u32[(at + Statx.mtime) >>> 2] as number;
    const high = i32[((at + Statx.mtime) >>> 2) + 1] as number;
    const read = {
      mode,
      uid: u32[k + (Statx.uid >>> 2)] as number,
      gid: u32[k + (Statx.gid >>> 2)] as number,
      mtime: high * 0x1_0000_0000 + low,
      mtimeNsec: u32[((at + Statx.mtime) >>> 2) + 2] as number,
    };
    return { ...read, xattrs: readXattrs(tree, path, dir, name) };
  });
}

function readXattrs(tree: Held, path: string, dir: number, name: number): [string, string][] {
  const value = scratch + VALUE_AT;
  return listNames(tree, path, dir, name).map((attr) => {
    putBytes(scratch + ATTR_AT, attr);
    const n = getxattrAt(dir, name, scratch + ATTR_AT, value, XATTR_SIZE_MAX);
    if (n < 0) throw failed(`getxattr ${show(attr)} of`, n, tree, path);
    return [attr, getBytes(value, n)];
  });
}

function listNames(tree: Held, path: string, dir: number, name: number): string[] {
  const list = scratch + VALUE_AT;
  const length = listxattrAt(dir, name, list, XATTR_SIZE_MAX);
  if (length === 0 || length === -E.OPNOTSUPP) return [];
  if (length < 0) throw failed('listxattr', length, tree, path);
  const names = getBytes(list, length - 1).split('\0');
  return names.filter((attr) => !isRepeatedXattr(attr)).sort();
}

/**
 * Gives the object at `path`, which is of the type that `wanted` says, these attributes; what it has already is not set.
 * Marks of overlayfs that `wanted` does not have stay: nobody sees them through a stack.
 * @throws SysError when one cannot be set.
 */
export function setAttributes(tree: Held, path: string, wanted: Attributes): void {
  const now = readAttributes(tree, path);
  if ((now.mode & S.IFMT) !== (wanted.mode & S.IFMT)) throw failed('stat', E.STALE, tree, path);
  tree.at(path, (dir, name) => {
    const must = (op: string, r: number): void => {
      if (r < 0) throw failed(op, r, tree, path);
    };
    const isOwned = now.uid === wanted.uid && now.gid === wanted.gid;
    if (!isOwned) must('chown', files.chownAt(dir, name, wanted.uid, wanted.gid));
    const had = new Map(now.xattrs);
    for (const [attr, value] of wanted.xattrs) {
      // A change of owner takes capabilities away.
      const stays = had.get(attr) === value && (isOwned || attr !== 'security.capability');
      had.delete(attr);
      if (stays) continue;
      putBytes(scratch + ATTR_AT, attr);
      for (let i = 0; i < value.length; i++) u8[scratch + VALUE_AT + i] = value.charCodeAt(i);
      const r = setxattrAt(dir, name, scratch + ATTR_AT, scratch + VALUE_AT, value.length, 0);
      must(`setxattr ${show(attr)} of`, r);
    }
    for (const attr of had.keys()) {
      if (isMark(attr)) continue;
      putBytes(scratch + ATTR_AT, attr);
      const r = removexattrAt(dir, name, scratch + ATTR_AT);
      if (r !== -E.NODATA) must(`removexattr ${show(attr)} of`, r);
    }
    // chown(2) takes set-id bits away, and an ACL that goes or comes changes the group's.
    const { mode: bits } = readAttributes(tree, path);
    if ((wanted.mode & S.IFMT) !== S.IFLNK && bits !== wanted.mode) {
      const fd = files.openAt(dir, path === '' ? files.dotPath() : name, O.PATH | O.NOFOLLOW);
      must('open', fd);
      const r = files.chmodFd(fd, wanted.mode & 0o7777);
      files.close(fd);
      must('chmod', r);
    }
    must('utimensat', setTime(dir, name, wanted));
  });
}

function setTime(dir: number, name: number, { mtime, mtimeNsec }: Attributes): number {
  const high = Math.floor(mtime / 0x1_0000_0000);
  const low = mtime - high * 0x1_0000_0000;
  return files.utimensAt(dir, name, 0, 0, files.UTIME_OMIT, low, high, mtimeNsec);
}

/** Takes overlayfs's marks from an object. @throws SysError. */
export function removeMarks(tree: Held, path: string): void {
  tree.at(path, (dir, name) => {
    for (const attr of listNames(tree, path, dir, name)) {
      if (!isMark(attr)) continue;
      putBytes(scratch + ATTR_AT, attr);
      const r = removexattrAt(dir, name, scratch + ATTR_AT);
      if (r < 0 && r !== -E.NODATA) throw failed(`removexattr ${show(attr)} of`, r, tree, path);
    }
  });
}

/** Whether an xattr's name belongs to overlayfs (or fuse-overlayfs). */
export function isMark(attr: string): boolean {
  return (
    attr.startsWith('trusted.overlay.') ||
    attr.startsWith('user.overlay.') ||
    attr.startsWith('user.fuseoverlayfs.')
  );
}

function failed(op: string, errno: number, tree: Held, path: string): SysError {
  return new SysError(op, errno, `${tree.label}/${show(path).slice(1, -1)}`);
}
