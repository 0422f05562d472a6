// Another name for an object: LINK, also of files that have none.
// Called by filesystem.ts; the object is copied up first, and its new name is placed by place-new.ts.
// Follows: fs/overlayfs/dir.c (ovl_link).

import { O } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { close, linkAt, linkFd, Statx, statAt, statBuffer } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { Entry } from '../vfs/attr.js';
import { PARKED, type Request } from '../vfs/filesystem.js';
import { nameAt } from '../vfs/names.js';
import {
  F,
  FLAG,
  findName,
  get,
  hasFlag,
  insertIno,
  insertName,
  put,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureNameUpper, ensureUpper, markImpure, openUpper } from './copy-up.js';
import { dropNode } from './forget.js';
import { keepNothing } from './hide.js';
import { changeUnionLinks } from './links.js';
import { answerEntry } from './lookup.js';
import { addAlias } from './new-node.js';
import { attrOf, statNode } from './objects.js';
import { parentFor, place, placed, refusedName } from './place-new.js';
import { isDir, resolve } from './places.js';
import { setDataRedirect } from './redirects.js';
import { stackLength } from './stacks.js';

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
