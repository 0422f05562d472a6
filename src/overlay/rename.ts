// Rename: files and directories of any layer, over others, exchanged; redirects, opaque marks and whiteouts as needed.
// The upper's own rename is the one publish point; everything before it changes nothing that is visible.
// Follows: fs/overlayfs/dir.c (ovl_rename).

import { RENAME, S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { mkdirAt, mknodAt, renameAt, unlinkAt } from '../linux/files.js';
import { getBytes } from '../linux/memory.js';
import { ABSENT, type Request } from '../vfs/filesystem.js';
import { publishing } from '../vfs/journal.js';
import { clearFlag, F, FLAG, get, hasFlag, moveName, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import {
  copyDirMetadata,
  ensureNameUpper,
  ensureUpper,
  ensureUpperDir,
  markImpure,
  noteUpperName,
} from './copy-up.js';
import { keepForSuccessor, keepNothing } from './hide.js';
import { markOpaque } from './place-new.js';
import { isDir, nodeBy, nodeOf, resolve } from './places.js';
import { isEmptyDir, listingChanged } from './readdir.js';
import { setDataRedirect, setDirRedirect } from './redirects.js';
import {
  closeKept,
  coversLower,
  forgetName,
  keepCount,
  keepReachable,
  nameRecord,
  noteLinks,
} from './remove.js';
import { finishRename, noteExchange, type Side } from './rename-again.js';
import { stackLength } from './stacks.js';
import { TEMP_NAME_2 } from './work.js';
import { removeTree, tempName } from './workdir.js';

export function rename(
  o: Overlay,
  r: Request,
  name: number,
  nameLen: number,
  newParentLo: number,
  newParentHi: number,
  newName: number,
  newNameLen: number,
  flags: number,
): number {
  const from: Side = { parent: nodeOf(o, r), name, nameLen, record: 0 };
  const to: Side = {
    parent: nodeBy(o, newParentLo, newParentHi),
    name: newName,
    nameLen: newNameLen,
    record: 0,
  };
  if (from.parent === 0 || to.parent === 0) return -E.STALE;
  if (flags & ~(RENAME.NOREPLACE | RENAME.EXCHANGE | RENAME.WHITEOUT)) return -E.INVAL;
  if (hasFlag(to.parent, FLAG.ORPHAN)) return -E.NOENT;
  const exchange = (flags & RENAME.EXCHANGE) !== 0;
  if (r.redo && finishRename(o, from, to, exchange)) return 0;
  from.record = nameRecord(o, from.parent, name, nameLen);
  if (from.record < 0) return from.record === ABSENT ? -E.NOENT : from.record;
  to.record = nameRecord(o, to.parent, newName, newNameLen);
  if (to.record < 0) {
    if (to.record !== ABSENT) return to.record;
    to.record = 0;
  }
  if (flags & RENAME.NOREPLACE && to.record !== 0) return -E.EXIST;
  if (exchange && to.record === 0) return -E.NOENT;
  if (to.record !== 0 && resolve(from.record) === resolve(to.record)) return 0;
  const e = prepare(o, from, to, exchange);
  if (e < 0) return e;
  return exchange ? exchangeNames(o, from, to) : moveObject(o, from, to);
}

/** Checks, copies up and marks both sides; nothing visible changes. @returns 0, PARKED or -errno. */
function prepare(o: Overlay, from: Side, to: Side, exchange: boolean): number {
  if (!mayMove(o, from.record)) return -E.XDEV;
  if (exchange && !mayMove(o, to.record)) return -E.XDEV;
  if (!exchange && to.record !== 0 && isDir(resolve(to.record))) {
    if (!isDir(resolve(from.record))) return -E.ISDIR;
    const empty = isEmptyDir(o, to.record);
    if (empty <= 0) return empty < 0 ? empty : -E.NOTEMPTY;
  }
  let e = ensureUpperDir(o, from.parent);
  if (e >= 0) e = ensureUpperDir(o, to.parent);
  if (e >= 0) e = ensureUpper(o, resolve(from.record), 'metadata');
  if (e >= 0 && exchange) e = ensureUpper(o, resolve(to.record), 'metadata');
  if (e >= 0 && !exchange && to.record !== 0) e = keepCount(o, to.record);
  if (e < 0) return e;
  if (!isDir(resolve(from.record))) e = ensureNameUpper(o, from.record);
  if (e >= 0 && exchange && !isDir(resolve(to.record))) e = ensureNameUpper(o, to.record);
  if (e >= 0) e = markForMove(o, from, to);
  if (e >= 0 && exchange) e = markForMove(o, to, from);
  return e;
}

/** A directory with something below it can only be moved where redirects are made. */
function mayMove(o: Overlay, record: number): boolean {
  return o.config.redirectCreate || !isDir(resolve(record)) || stackLength(record) === 0;
}

/** Redirect, opaque and impure marks that make the object mean the same in its new place. */
function markForMove(o: Overlay, side: Side, other: Side): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const slot = resolve(side.record);
  let e = 0;
  if (isDir(slot)) {
    if (stackLength(slot) > 0) {
      e = setDirRedirect(o, slot);
    } else if (!hasFlag(slot, FLAG.OPAQUE) && stackLength(other.parent) > 0) {
      e = markOpaque(o, upper.fd(get(side.parent, F.upper)), side.name);
      if (e >= 0) setFlag(slot, FLAG.OPAQUE);
    }
  } else if (hasFlag(slot, FLAG.METACOPY)) {
    e = setDataRedirect(o, side.parent, upper.fd(get(side.parent, F.upper)), side.name);
  }
  if (e >= 0 && hasFlag(side.parent, FLAG.IMPURE)) markImpure(o, other.parent);
  return e < 0 ? e : 0;
}

function exchangeNames(o: Overlay, from: Side, to: Side): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const fromFd = upper.fd(get(from.parent, F.upper));
  const toFd = upper.fd(get(to.parent, F.upper));
  noteExchange(from, to, fromFd);
  publishing();
  const e = renameAt(fromFd, from.name, toFd, to.name, RENAME.EXCHANGE);
  if (e < 0) return e;
  moveRecord(o, from.record, to);
  moveRecord(o, to.record, from);
  return 0;
}

function moveObject(o: Overlay, from: Side, to: Side): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const covers = coversLower(o, from.parent, from.record, from.name, from.nameLen);
  const kept = to.record !== 0 && keepReachable(o, to.record);
  if (to.record !== 0) keepForSuccessor(o, to.record);
  noteLinks(o, to.record);
  publishing();
  let fromFd = upper.fd(get(from.parent, F.upper));
  let toFd = upper.fd(get(to.parent, F.upper));
  let e = renameInUpper(fromFd, from.name, toFd, to.name, covers);
  if (e === -E.NOTEMPTY || (e === -E.EXIST && to.record !== 0)) {
    // The directory in the way shows nothing, but holds whiteouts: an empty, opaque one takes its place first.
    e = clearHidden(o, to, toFd);
    fromFd = upper.fd(get(from.parent, F.upper));
    toFd = upper.fd(get(to.parent, F.upper));
    if (e >= 0) e = renameInUpper(fromFd, from.name, toFd, to.name, covers);
  }
  if (e < 0) {
    if (to.record !== 0) keepNothing(o, to.record);
    if (kept) closeKept(to.record);
    return e;
  }
  if (covers) {
    setFlag(from.parent, FLAG.WHITEOUTS);
    noteUpperName(o, from.parent, from.name);
  }
  if (to.record !== 0) forgetName(o, to.record);
  moveRecord(o, from.record, to);
  return 0;
}

/** renameat2 in the upper; leaves a whiteout behind where asked, and goes over a whiteout where one is in the way. */
function renameInUpper(
  fromFd: number,
  from: number,
  toFd: number,
  to: number,
  whiteout: boolean,
): number {
  let e = renameAt(fromFd, from, toFd, to, whiteout ? RENAME.WHITEOUT : 0);
  if (e === -E.INVAL && whiteout) {
    // This filesystem knows no RENAME_WHITEOUT: two steps, the whiteout second.
    e = renameAt(fromFd, from, toFd, to, 0);
    if (e >= 0) mknodAt(fromFd, from, S.IFCHR, 0);
  }
  if (e !== -E.NOTDIR) return e;
  // A directory over a whiteout: they change places, and the whiteout stays only where it is needed.
  e = renameAt(fromFd, from, toFd, to, RENAME.EXCHANGE);
  if (e >= 0 && !whiteout) unlinkAt(fromFd, from);
  return e;
}

/** Replaces the directory at `to` by an empty opaque one with the same attributes, and removes the old one. */
function clearHidden(o: Overlay, to: Side, toFd: number): number {
  const { workFd } = o.config;
  const temp = tempName(o, TEMP_NAME_2);
  let e = mkdirAt(workFd, temp, 0o700);
  if (e < 0) return e;
  e = copyDirMetadata(o, to.record, workFd, temp);
  if (e >= 0) e = markOpaque(o, workFd, temp);
  if (e >= 0) e = renameAt(workFd, temp, toFd, to.name, RENAME.EXCHANGE);
  const text = getBytes(temp, 16).replace(/\0.*$/s, '');
  removeTree(workFd, text);
  return e < 0 ? e : 0;
}

/** Gives the record another place; a file's lower object keeps the name it has there. */
function moveRecord(o: Overlay, record: number, place: Side): void {
  const left = get(record, F.parent);
  listingChanged(o, left);
  const keeps =
    !hasFlag(record, FLAG.ALIAS) &&
    !isDir(record) &&
    get(record, F.lower) !== 0 &&
    get(record, F.lowerName) === 0;
  const ref = moveName(record, place.parent, place.name, place.nameLen, keeps);
  if (ref !== 0) put(record, F.lowerName, ref);
  noteUpperName(o, place.parent, place.name);
  clearFlag(record, FLAG.FRESH);
  if (stackLength(place.parent) === 0) setFlag(record, FLAG.FRESH);
  if (isDir(record) && !hasFlag(record, FLAG.ALIAS)) {
    const upper = o.upper as NonNullable<Overlay['upper']>;
    upper.moved(get(record, F.upper), get(place.parent, F.upper), place.name, place.nameLen);
  }
  o.filling?.moved(record);
}
