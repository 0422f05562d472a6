// Mode, owner and device kept in an xattr instead of the inode, for servers that may not change owners.
// Called for every attribute answer and change when xattr_permissions is set; never otherwise.
// Follows: fuse-overlayfs's `user.fuseoverlayfs.override_stat` ("uid:gid:mode[:type[-major-minor]]", octal mode).

import type { Layer } from '../layer/layer.js';
import { emptyPath } from '../linux/files.js';
import { getBytes, putBytes, u32 } from '../linux/memory.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import { Attr } from '../vfs/attr.js';
import type { Overlay } from './context.js';
import { locate } from './places.js';
import { constant, XATTR_VALUE } from './work.js';

const names = new Map<string, number>();

function attrName(o: Overlay): number {
  const name = o.config.overrideStat as string;
  let at = names.get(name);
  if (at === undefined) {
    at = constant(name);
    names.set(name, at);
  }
  return at;
}

/** Replaces uid, gid and permission bits in the ATTR record at `out` by those in the xattr, if there is one. */
export function applyOverrideStat(o: Overlay, slot: number, out: number): void {
  const p = locate(o, slot);
  const n =
    p.fd >= 0
      ? getxattrAt(p.fd, emptyPath(), attrName(o), XATTR_VALUE, 256)
      : (p.layer as Layer).getxattr(p.dir, p.name, attrName(o), XATTR_VALUE, 256);
  if (n <= 0) return;
  const parsed = /^(\d+):(\d+):([0-7]+)/.exec(getBytes(XATTR_VALUE, n));
  if (parsed === null) return;
  const k = out >>> 2;
  const mode = u32[k + (Attr.mode >>> 2)] as number;
  u32[k + (Attr.uid >>> 2)] = Number(parsed[1]);
  u32[k + (Attr.gid >>> 2)] = Number(parsed[2]);
  u32[k + (Attr.mode >>> 2)] =
    (mode & 0o170000) | (Number.parseInt(parsed[3] as string, 8) & 0o7777);
}

/** Records owner and mode of an upper object below `dirfd`. @returns 0 or -errno. */
export function storeOverrideStat(
  o: Overlay,
  dirfd: number,
  name: number,
  uid: number,
  gid: number,
  mode: number,
): number {
  const length = putBytes(XATTR_VALUE, `${uid}:${gid}:${(mode & 0o7777).toString(8)}`);
  return setxattrAt(dirfd, name, attrName(o), XATTR_VALUE, length, 0);
}
