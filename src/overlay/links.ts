// Link counts of lower objects with several names: how many names the union has, kept through copy-up and remounts.
// Read by lookup, changed by copy-up, link, unlink and rename.
// Follows: overlay.nlink of fs/overlayfs/inode.c: "U" or "L", a signed difference to the upper or lower inode's own count.

import type { Layer } from '../layer/layer.js';
import { emptyPath } from '../linux/files.js';
import { getBytes, putBytes } from '../linux/memory.js';
import { getxattrAt, setxattrAt } from '../linux/xattr.js';
import { nameAt } from '../vfs/names.js';
import { F, FLAG, get, hasFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { statNlink, statNode } from './objects.js';
import { locate, locateLower } from './places.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { XATTR_VALUE } from './work.js';

/** Sets the union link count of an upper node from its xattr; `real` is the inode's own count, without a name in the workdir. */
export function readUnionLinks(o: Overlay, slot: number, real: number): void {
  const p = locate(o, slot);
  const n =
    p.fd >= 0
      ? getxattrAt(p.fd, emptyPath(), o.marks.nlink, XATTR_VALUE, 32)
      : (p.layer as Layer).getxattr(p.dir, p.name, o.marks.nlink, XATTR_VALUE, 32);
  if (n < 2) return;
  const text = getBytes(XATTR_VALUE, n);
  const difference = Number.parseInt(text.slice(1), 10);
  if (Number.isNaN(difference)) return;
  if (text[0] === 'U') {
    o.links.set(slot, Math.max(1, real + difference));
  } else if (statLower(o, slot)) {
    o.links.set(slot, Math.max(1, statNlink() + difference));
  }
}

/** Attributes of the lower object to statBuffer(): of a file found by its upper name it has the same name below. */
function statLower(o: Overlay, slot: number): boolean {
  if (get(slot, F.lower) !== 0) {
    const lower = locateLower(o, slot);
    return (lower.layer as Layer).stat(lower.dir, lower.name) > 0;
  }
  const parent = get(slot, F.parent);
  for (let i = 0; parent !== 0 && i < stackLength(parent); i++) {
    const dir = stackAt(parent, i);
    if (layerFor(o, dir).stat(dir, nameAt(get(slot, F.name))) > 0) return true;
  }
  return false;
}

/** Puts the mark's text at XATTR_VALUE. @param of the upper or the lower inode's own count. @returns its length in bytes. */
function putDifference(of: 'U' | 'L', difference: number): number {
  return putBytes(XATTR_VALUE, `${of}${difference < 0 ? '' : '+'}${difference}`);
}

/**
 * Writes the union link count of an object that is being copied up, staged as `name` below `dirfd`: by the lower's own
 * count, for its own is not settled before it has all its names.
 */
export function markLowerLinks(
  o: Overlay,
  slot: number,
  dirfd: number,
  name: number,
  own: number,
): void {
  const length = putDifference('L', (o.links.get(slot) ?? own) - own);
  setxattrAt(dirfd, name, o.marks.nlink, XATTR_VALUE, length, 0);
}

/** Writes the union link count of an indexed upper node; after every change of it or of the inode's own count. */
export function storeUnionLinks(o: Overlay, slot: number): void {
  const links = o.links.get(slot);
  if (links === undefined || !hasFlag(slot, FLAG.INDEXED)) return;
  if (statNode(o, slot) < 0) return;
  // A name in the workdir is none, and goes with the last close.
  const own = statNlink() - (hasFlag(slot, FLAG.HIDDEN) ? 1 : 0);
  const length = putDifference('U', links - own);
  const p = locate(o, slot);
  if (p.fd >= 0) setxattrAt(p.fd, emptyPath(), o.marks.nlink, XATTR_VALUE, length, 0);
  else if (p.layer !== undefined && o.upper !== undefined) {
    setxattrAt(o.upper.fd(p.dir), p.name, o.marks.nlink, XATTR_VALUE, length, 0);
  }
}

/** One name more or less of an object whose union count is kept. */
export function changeUnionLinks(o: Overlay, slot: number, by: number): void {
  const links = o.links.get(slot);
  if (links === undefined) return;
  o.links.set(slot, Math.max(0, links + by));
  storeUnionLinks(o, slot);
}
