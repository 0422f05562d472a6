// A node's attributes: read where its object lies, shown as the mount shows them.
// Called for LOOKUP, GETATTR, READDIRPLUS and after every change.
// Attribute rules follow fs/overlayfs/inode.c (ovl_getattr): nlink of merged directories is 1, st_ino is the origin's.

import type { Layer } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { Statx, statBuffer, statFd } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { ATTR_SIZE, Attr, attrFromStat } from '../vfs/attr.js';
import { clearFlag, F, FLAG, get, put, setFlag, TYPE_MASK } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { keptAttr } from './kept.js';
import { fold, number, shown } from './numbers.js';
import { applyOverrideStat } from './override-stat.js';
import { isDir, locate, locateLower } from './places.js';
import { stackLength } from './stacks.js';

/** Attributes of the node's object to statBuffer(). @returns st_mode or -errno. */
export function statNode(o: Overlay, slot: number): number {
  const p = locate(o, slot);
  if (p.fd >= 0) return statFd(p.fd);
  const { layer } = p;
  if (layer === undefined) return -E.STALE;
  return isDir(slot) ? layer.statDir(p.dir) : layer.stat(p.dir, p.name);
}

/** The number that the object in statBuffer(), which came from `layer`, shows: into `shown`. */
export function numberFromStat(layer: Layer): void {
  const s = (statBuffer() + Statx.ino) >>> 2;
  number(layer.key, u32[s] as number, u32[s + 1] as number);
}

/** Sets a new node's st_ino from the struct statx in statBuffer(), which came from `layer`. */
export function setInoFromStat(slot: number, layer: Layer): void {
  numberFromStat(layer);
  put(slot, F.inoLo, shown.lo);
  put(slot, F.inoHi, shown.hi);
}

/** Writes the node's st_ino as u64 to the words at `k`. */
export function putIno(o: Overlay, slot: number, k: number): void {
  const lo = get(slot, F.inoLo);
  const hi = get(slot, F.inoHi);
  u32[k] = o.config.ino32 ? fold(lo, hi) : lo;
  u32[k + 1] = o.config.ino32 ? 0 : hi;
}

/** The node's st_ino. */
export function inoOf(o: Overlay, slot: number): bigint {
  const lo = get(slot, F.inoLo);
  const hi = get(slot, F.inoHi);
  return o.config.ino32 ? BigInt(fold(lo, hi)) : (BigInt(hi) << 32n) | BigInt(lo);
}

/** The ATTR record at `out` from statBuffer(), as the mount shows node `slot`. */
export function showAttr(o: Overlay, slot: number, out: number): void {
  attrFromStat(out);
  finishAttr(o, slot, out);
}

/** Replaces what differs between the object's own attributes (at `out`) and what the mount shows. */
export function finishAttr(o: Overlay, slot: number, out: number): void {
  const k = out >>> 2;
  const { config } = o;
  putIno(o, slot, k);
  const flags = get(slot, F.flags);
  if ((flags & TYPE_MASK) === DT.DIR) {
    const mode = u32[k + (Attr.mode >>> 2)] as number;
    if (mode & 0o2000) setFlag(slot, FLAG.SETGID);
    else if (flags & FLAG.SETGID) clearFlag(slot, FLAG.SETGID);
    const lowers = stackLength(slot);
    if (config.staticNlink || lowers > 1 || (lowers === 1 && get(slot, F.upper) !== 0)) {
      u32[k + (Attr.nlink >>> 2)] = 1;
    }
    // Removed here, while the directory of a lower stays.
    if (flags & FLAG.ORPHAN) u32[k + (Attr.nlink >>> 2)] = 0;
  } else {
    const links = flags & (FLAG.LOWER_LINKS | FLAG.INDEXED) ? o.links.get(slot) : undefined;
    if (links !== undefined) u32[k + (Attr.nlink >>> 2)] = links;
    else if ((flags & (FLAG.ORPHAN | FLAG.UPPER)) === FLAG.ORPHAN || flags & FLAG.HIDDEN) {
      // Unlinked here, while the lower object keeps its name; or a name in the workdir, which is none.
      u32[k + (Attr.nlink >>> 2)] = Math.max(0, (u32[k + (Attr.nlink >>> 2)] as number) - 1);
    }
    if (flags & FLAG.METACOPY) showDataBlocks(o, slot, out);
  }
  if (config.overrideStat !== undefined) applyOverrideStat(o, slot, out);
  if (config.squashUid !== undefined) u32[k + (Attr.uid >>> 2)] = config.squashUid;
  else if (config.uids !== undefined) {
    u32[k + (Attr.uid >>> 2)] = config.uids.show(u32[k + (Attr.uid >>> 2)] as number);
  }
  if (config.squashGid !== undefined) u32[k + (Attr.gid >>> 2)] = config.squashGid;
  else if (config.gids !== undefined) {
    u32[k + (Attr.gid >>> 2)] = config.gids.show(u32[k + (Attr.gid >>> 2)] as number);
  }
}

/** Blocks of a metacopy file are those of its data. */
function showDataBlocks(o: Overlay, slot: number, out: number): void {
  const p = locateLower(o, slot);
  if (p.layer === undefined || p.layer.stat(p.dir, p.name) < 0) return;
  const s = (statBuffer() + Statx.blocks) >>> 2;
  u32[(out + Attr.blocks) >>> 2] = u32[s] as number;
  u32[((out + Attr.blocks) >>> 2) + 1] = u32[s + 1] as number;
}

/** statNode() and showAttr() in one. @returns ATTR_SIZE or -errno. */
export function attrOf(o: Overlay, slot: number, out: number): number {
  const mode = statNode(o, slot);
  if (mode < 0) {
    // A directory that was removed in a predecessor's time.
    if (mode === -E.STALE && keptAttr(slot, out)) return ATTR_SIZE;
    return mode === -E.NOENT ? -E.STALE : mode;
  }
  showAttr(o, slot, out);
  return ATTR_SIZE;
}

/** Whether the struct statx in statBuffer() is a whiteout: a character device 0/0. */
export function isWhiteout(mode: number): boolean {
  const s = statBuffer() >>> 2;
  return (mode & 0o170000) === 0o020000 && u32[s + 32] === 0 && u32[s + 33] === 0;
}

/** st_nlink in statBuffer(). */
export function statNlink(): number {
  return u32[(statBuffer() + Statx.nlink) >>> 2] as number;
}
