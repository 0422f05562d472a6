// Copy-up: an object of a lower layer gets its own copy in the upper, so that it can be changed.
// Called first by every operation that changes something; staged in the workdir, published by one rename.
// Follows: fs/overlayfs/copy_up.c: data, xattrs, owner, mode, times, origin, index; parents first.

import { closeFile, type Layer } from '../layer/layer.js';
import { AT, DT, O, S, XATTR_SIZE_MAX } from '../linux/constants.js';
import { encodeDevice } from '../linux/device.js';
import { E } from '../linux/errno.js';
import {
  chmodAt,
  chownAt,
  close,
  duplicate,
  emptyPath,
  fsync,
  ftruncate,
  linkAt,
  linkFd,
  mkdirAt,
  mknodAt,
  openAt,
  renameAt,
  reopenFd,
  Statx,
  statBuffer,
  statFd,
  symlinkAt,
  unlinkAt,
  utimensFromStat,
} from '../linux/files.js';
import { cstrlen, getU64, u8, u16, u32 } from '../linux/memory.js';
import { getxattrAt, removexattrAt, setxattrAt } from '../linux/xattr.js';
import * as counters from '../vfs/counters.js';
import { H, get as handleGet, put as handlePut, KIND } from '../vfs/handles.js';
import { nameAt, nameLength } from '../vfs/names.js';
import { clearFlag, F, FLAG, get, handleGeneration, hasFlag, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { copyData, waitForCopy } from './copy-data.js';
import { DirIndex } from './dir-index.js';
import { dropMetadata } from './forget.js';
import { hiddenName } from './kept.js';
import { markLowerLinks, storeUnionLinks } from './links.js';
import { statNode } from './objects.js';
import { encodeOrigin, indexName, tellsEverywhere } from './origin.js';
import { writeOwnNumber } from './own-number.js';
import { isDir, locateLower, locateMetadata, resolve, typeOfNode } from './places.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import {
  INDEX_NAME,
  ORIGIN,
  PATH,
  SAVED_STAT,
  TEMP_NAME,
  XATTR_LIST,
  XATTR_VALUE,
} from './work.js';
import { tempName } from './workdir.js';

/** How much of a file's data a change needs. */
export type Need = 'metadata' | 'data' | 'nothing';

/**
 * Makes sure that the node's object lies in the upper layer.
 * @param need `data`: the content too; `metadata`: content may stay below where metacopy is on; `nothing`: the caller truncates.
 * @returns 0, PARKED (the request runs again from its start) or -errno.
 */
export function ensureUpper(o: Overlay, slot: number, need: Need): number {
  if (o.upper === undefined) return -E.ROFS;
  if (isDir(slot))
    return isUnnamedLowerDir(slot) ? copyUpOrphanDir(o, slot) : ensureUpperDir(o, slot);
  const pending = o.copies.get(slot);
  if (pending !== undefined) return waitForCopy(o, slot, pending);
  if (!hasFlag(slot, FLAG.UPPER)) return copyUpFile(o, slot, need);
  if (need !== 'metadata' && hasFlag(slot, FLAG.METACOPY)) return copyUpData(o, slot, need);
  return 0;
}

/** As ensureUpper(), for a directory: its own inode only, never what is in it. */
export function ensureUpperDir(o: Overlay, slot: number): number {
  if (get(slot, F.upper) !== 0) return 0;
  if (o.upper === undefined) return -E.ROFS;
  if (hasFlag(slot, FLAG.ORPHAN)) return -E.NOENT;
  const parent = get(slot, F.parent);
  const r = ensureUpperDir(o, parent);
  if (r < 0) return r;
  return copyUpDir(o, slot, parent);
}

function saveStat(): void {
  u8.copyWithin(SAVED_STAT, statBuffer(), statBuffer() + 256);
}

function copyUpDir(o: Overlay, slot: number, parent: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dir = stackAt(slot, 0);
  const layer = layerFor(o, dir);
  const { workFd } = o.config;
  const temp = tempName(o);
  let r = stageDir(o, layer, dir, temp);
  if (r < 0) return r;
  markOrigin(o, slot, layer, dir, emptyPath(), workFd, temp);
  const name = nameAt(get(slot, F.name));
  setFlag(slot, FLAG.COPIED);
  r = publish(o, parent, temp, name, true);
  if (r < 0) {
    unlinkAt(workFd, temp, AT.REMOVEDIR);
    return r;
  }
  const record = upper.enter(get(parent, F.upper), name, nameLength(get(slot, F.name)));
  if (record === 0) return -E.NOMEM;
  put(slot, F.upper, record);
  setFlag(slot, FLAG.UPPER | FLAG.IMPURE);
  const acl = layer.getxattr(dir, emptyPath(), o.marks.aclDefault, XATTR_VALUE, 0);
  if (acl > 0) setFlag(slot, FLAG.DEFAULT_ACL);
  counters.count(counters.Counter.copyUps);
  return 0;
}

/** Makes an empty directory in the workdir with the metadata of a lower one; nothing stays there on failure. */
function stageDir(o: Overlay, layer: Layer, dir: number, temp: number): number {
  const mode = layer.statDir(dir);
  if (mode < 0) return mode;
  saveStat();
  const { workFd } = o.config;
  let r = mkdirAt(workFd, temp, 0o700);
  if (r < 0) return r;
  r = copyXattrs(o, layer, dir, emptyPath(), workFd, temp);
  if (r >= 0) r = applyStat(o, workFd, temp, DT.DIR);
  if (r < 0) unlinkAt(workFd, temp, AT.REMOVEDIR);
  return r;
}

/** Whether a directory was removed while it lay in lowers only: somebody may still have it open. */
function isUnnamedLowerDir(slot: number): boolean {
  return hasFlag(slot, FLAG.ORPHAN) && get(slot, F.upper) === 0;
}

/** A directory that was removed while open, and is now changed: its copy never gets a name, and nothing enters it. */
function copyUpOrphanDir(o: Overlay, slot: number): number {
  if (get(slot, F.fd) !== 0) return 0;
  if (stackLength(slot) === 0) return -E.STALE;
  const dir = stackAt(slot, 0);
  const { workFd } = o.config;
  const temp = tempName(o);
  const r = stageDir(o, layerFor(o, dir), dir, temp);
  if (r < 0) return r;
  const fd = openAt(workFd, temp, O.PATH | O.NOFOLLOW);
  unlinkAt(workFd, temp, AT.REMOVEDIR);
  if (fd < 0) return fd;
  put(slot, F.fd, fd + 1);
  return 0;
}

/** Owner, mode and times of the saved struct statx onto a staged object. */
function applyStat(o: Overlay, dirfd: number, name: number, type: number): number {
  const r = applyOwner(o, dirfd, name);
  return r < 0 ? r : applyModeAndTimes(dirfd, name, type);
}

function applyOwner(o: Overlay, dirfd: number, name: number): number {
  const uid = u32[(SAVED_STAT + Statx.uid) >>> 2] as number;
  const gid = u32[(SAVED_STAT + Statx.gid) >>> 2] as number;
  const r = chownAt(dirfd, name, uid, gid);
  // Without privilege an owner that cannot be had is left as the server's own, as a plain copy would.
  return r === -E.PERM && !o.config.privileged ? 0 : r;
}

function applyModeAndTimes(dirfd: number, name: number, type: number): number {
  const mode = (u16[(SAVED_STAT + Statx.mode) >>> 1] as number) & 0o7777;
  const r = type === DT.LNK ? 0 : chmodAt(dirfd, name, mode);
  return r < 0 ? r : utimensFromStat(dirfd, name, SAVED_STAT);
}

/** Gives a staged directory the metadata of an upper directory that it is to replace. */
export function copyDirMetadata(o: Overlay, slot: number, dirfd: number, name: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const mode = statNode(o, slot);
  if (mode < 0) return mode;
  saveStat();
  const dir = get(slot, F.upper);
  if (dir === 0) return 0;
  const r = copyXattrs(o, upper, dir, emptyPath(), dirfd, name);
  return r < 0 ? r : applyStat(o, dirfd, name, DT.DIR);
}

/** Copies every xattr but the overlay's own. @returns 0 or -errno. */
export function copyXattrs(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  dirfd: number,
  to: number,
): number {
  const length = layer.listxattr(dir, name, XATTR_LIST, XATTR_SIZE_MAX);
  if (length < 0) return length === -E.OPNOTSUPP || length === -E.NOSYS ? 0 : length;
  const end = XATTR_LIST + length;
  for (let attr = XATTR_LIST; attr < end; attr += cstrlen(attr) + 1) {
    if (o.marks.isOwn(attr) && !o.marks.isEscaped(attr)) continue;
    const size = layer.getxattr(dir, name, attr, XATTR_VALUE, XATTR_SIZE_MAX);
    // Gone or unreadable since it was listed: nothing to copy.
    if (size === -E.NODATA || size === -E.OPNOTSUPP) continue;
    if (size < 0) return size;
    const r = setxattrAt(dirfd, to, attr, XATTR_VALUE, size, 0);
    if (r < 0 && mustCopy(o, attr, r)) return r;
  }
  return 0;
}

/** Whether losing this xattr is worse than failing: security labels and ACLs, as in ovl_must_copy_xattr(). */
function mustCopy(o: Overlay, attr: number, error: number): boolean {
  if (error === -E.PERM && !o.config.privileged) return false;
  if (error !== -E.OPNOTSUPP && error !== -E.PERM) return true;
  const first = u8[attr];
  // "security." and "system."
  return first === 0x73;
}

/**
 * Writes the origin mark, empty where the filesystem has no handles, and beside it the number where that does not tell it.
 * An object that takes no xattrs (a symlink, for user.*) goes without.
 */
function markOrigin(
  o: Overlay,
  slot: number,
  layer: Layer,
  dir: number,
  name: number,
  dirfd: number,
  to: number,
): void {
  const length = Math.max(0, encodeOrigin(layer, dir, name));
  if (setxattrAt(dirfd, to, o.marks.origin, ORIGIN, length, 0) < 0) return;
  const told = tellsEverywhere(o.config.lowers, length, get(slot, F.inoLo), get(slot, F.inoHi));
  // The copy is born again; its handles are not to change.
  if (!told || o.exporting !== undefined) {
    writeOwnNumber(o, slot, handleGeneration(slot), dirfd, to);
  }
}

/** Marks an upper directory as holding copied-up objects, once. */
export function markImpure(o: Overlay, parent: number): void {
  if (hasFlag(parent, FLAG.IMPURE_SET) || o.upper === undefined) return;
  setFlag(parent, FLAG.IMPURE | FLAG.IMPURE_SET);
  u8[XATTR_VALUE] = 0x79;
  setxattrAt(o.upper.fd(get(parent, F.upper)), emptyPath(), o.marks.impure, XATTR_VALUE, 1, 0);
}

/** Moves a staged object to its place; the parent's times stay as they were, for nothing visible has changed. */
function publish(
  o: Overlay,
  parent: number,
  temp: number,
  name: number,
  directory: boolean,
): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const parentDir = get(parent, F.upper);
  const dirfd = upper.fd(parentDir);
  if (dirfd < 0) return dirfd;
  markImpure(o, parent);
  const kept = keepTimes(dirfd);
  // A directory must find nothing in its place; a file may replace what an earlier attempt left.
  const r = renameAt(o.config.workFd, temp, dirfd, name, directory ? 1 : 0);
  if (r < 0) return r;
  restoreTimes(dirfd, kept);
  noteUpperName(o, parent, name);
  return 0;
}

/** Tells a directory's index that its upper has this name now. */
export function noteUpperName(o: Overlay, parent: number, name: number): void {
  o.exporting?.nameAdded(parent);
  const listing = o.snapshots.get(parent);
  if (listing !== undefined) listing.stale = true;
  const index = o.indexes.get(parent);
  if (index !== undefined) index.upperNames.add(DirIndex.hash(name, cstrlen(name)));
}

const timesKept = new Uint8Array(256);

function keepTimes(dirfd: number): boolean {
  if (statFd(dirfd) < 0) return false;
  timesKept.set(u8.subarray(statBuffer(), statBuffer() + 256));
  return true;
}

function restoreTimes(dirfd: number, kept: boolean): void {
  if (!kept) return;
  u8.set(timesKept, statBuffer());
  utimensFromStat(dirfd, emptyPath(), statBuffer());
}

/** Does something to what is in an upper directory that nobody shall see by its times. */
export function keepingTimes(dirfd: number, act: () => number): number {
  const mode = statFd(dirfd);
  if (mode < 0) return mode;
  const stat = u8.slice(statBuffer(), statBuffer() + 256);
  const r = act();
  u8.set(stat, statBuffer());
  utimensFromStat(dirfd, emptyPath(), statBuffer());
  return r;
}

/** What a staged copy needs to be finished once its data is there. */
interface Staged {
  readonly slot: number;
  readonly temp: string;
  /** struct statx of the lower object. */
  readonly stat: Uint8Array;
  /** Descriptor of the staged regular file, or -1. */
  readonly fd: number;
  readonly withData: boolean;
}

/** The first copy-up of a file, symlink or special file. */
function copyUpFile(o: Overlay, slot: number, need: Need): number {
  const orphan = hasFlag(slot, FLAG.ORPHAN);
  if (!orphan) {
    const r = ensureUpperDir(o, get(slot, F.parent));
    if (r < 0) return r;
  }
  const metadata = locateMetadata(o, slot);
  const layer = metadata.layer as Layer;
  const { dir, name } = metadata;
  const mode = layer.stat(dir, name);
  if (mode < 0) return mode;
  saveStat();
  const type = typeOfNode(slot);
  const { workFd } = o.config;
  const temp = tempName(o);
  if (type !== DT.REG) {
    const r = stageSpecial(o, layer, dir, name, type, mode, temp);
    if (r < 0) return r;
    return finish(o, { slot, temp: tempText(), stat: savedStat(), fd: -1, withData: true });
  }
  const fd = openAt(workFd, temp, O.RDWR | O.CREAT | O.EXCL, 0o600);
  if (fd < 0) return fd;
  const size = getU64(SAVED_STAT + Statx.size);
  const withData = !(need === 'metadata' && o.config.metacopy && size > 0 && !orphan);
  const staged: Staged = { slot, temp: tempText(), stat: savedStat(), fd, withData };
  if (size === 0 || need === 'nothing') return finish(o, staged);
  if (!withData) {
    const r = ftruncate(fd, size);
    return r < 0 ? abandon(o, staged, r) : finish(o, staged);
  }
  const data = locateLower(o, slot);
  const from = (data.layer as Layer).open(data.dir, data.name);
  if (from < 0) return abandon(o, staged, from);
  return copyData(o, slot, from, fd, size, (r) =>
    r < 0 ? abandon(o, staged, r) : finish(o, staged),
  );
}

function tempText(): string {
  let s = '';
  for (let at = TEMP_NAME; u8[at] !== 0; at++) s += String.fromCharCode(u8[at] as number);
  return s;
}

function savedStat(): Uint8Array {
  return u8.slice(SAVED_STAT, SAVED_STAT + 256);
}

function stageSpecial(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  type: number,
  mode: number,
  temp: number,
): number {
  if (type !== DT.LNK) {
    const s = SAVED_STAT >>> 2;
    const dev = encodeDevice(u32[s + 32] as number, u32[s + 33] as number);
    return mknodAt(o.config.workFd, temp, mode & S.IFMT, dev);
  }
  const length = layer.readlink(dir, name, PATH, 4096);
  if (length < 0) return length;
  u8[PATH + length] = 0;
  return symlinkAt(PATH, o.config.workFd, temp);
}

/** Gives up a staged copy. @returns `error`. */
function abandon(o: Overlay, staged: Staged, error: number): number {
  putTemp(staged);
  unlinkAt(o.config.workFd, TEMP_NAME);
  if (staged.fd >= 0) close(staged.fd);
  return error;
}

function putTemp(staged: Staged): void {
  for (let i = 0; i < staged.temp.length; i++) u8[TEMP_NAME + i] = staged.temp.charCodeAt(i);
  u8[TEMP_NAME + staged.temp.length] = 0;
}

/** Metadata, origin, index, then the rename that publishes; and the node and its open handles follow. */
function finish(o: Overlay, staged: Staged): number {
  const { slot } = staged;
  const { workFd } = o.config;
  putTemp(staged);
  u8.set(staged.stat, SAVED_STAT);
  const orphan = hasFlag(slot, FLAG.ORPHAN);
  // The mark of a metacopy must name this one, which is also where the kernel starts to look for the data.
  const place = locateMetadata(o, slot);
  const layer = place.layer as Layer;
  const { dir, name } = place;
  // The owner first: chown(2) takes capabilities away.
  let r = applyOwner(o, workFd, TEMP_NAME);
  if (r >= 0) r = copyXattrs(o, layer, dir, name, workFd, TEMP_NAME);
  if (r >= 0) r = applyModeAndTimes(workFd, TEMP_NAME, typeOfNode(slot));
  const links = u32[(SAVED_STAT + Statx.nlink) >>> 2] as number;
  const indexed = hasFlag(slot, FLAG.LOWER_LINKS) && !orphan;
  // Without an index each name would be a file of its own, with the number of all; but of a layer that goes all names follow.
  const goes = layer.index === o.config.detaching?.index;
  if (r >= 0 && !orphan && (links === 1 || indexed || goes)) {
    markOrigin(o, slot, layer, dir, name, workFd, TEMP_NAME);
  }
  if (r >= 0 && !staged.withData) r = markMetacopy(o, workFd);
  if (r >= 0 && staged.fd >= 0 && o.config.sync && !staged.withData) r = fsync(staged.fd);
  if (r < 0) return abandon(o, staged, r);
  // Before it is there: whoever finds it must not take its number for another object's.
  setFlag(slot, FLAG.COPIED);
  if (orphan) return finishOrphan(o, staged);
  if (indexed) {
    markLowerLinks(o, slot, workFd, TEMP_NAME, links);
    indexLink(o, slot, layer, dir, name);
  }
  const parent = get(slot, F.parent);
  r = ensureUpperDir(o, parent);
  if (r >= 0) r = publish(o, parent, TEMP_NAME, nameAt(get(slot, F.name)), false);
  if (r < 0) return abandon(o, staged, r);
  dropMetadata(o, slot);
  setFlag(slot, FLAG.UPPER);
  if (staged.withData) clearFlag(slot, FLAG.METACOPY);
  else setFlag(slot, FLAG.METACOPY);
  if (indexed) {
    setFlag(slot, FLAG.INDEXED);
    storeUnionLinks(o, slot);
  } else if (links > 1) {
    materialiseAliases(o, slot);
  }
  counters.count(counters.Counter.copyUps);
  r = staged.withData ? switchHandles(slot, staged.fd) : 0;
  if (staged.fd >= 0) close(staged.fd);
  return r;
}

/** A file that was unlinked while open, and is now written to: its copy has a name in the workdir only. */
function finishOrphan(o: Overlay, staged: Staged): number {
  putTemp(staged);
  const { slot } = staged;
  const { workFd } = o.config;
  const fd = openAt(workFd, TEMP_NAME, O.PATH | O.NOFOLLOW);
  if (fd < 0) return abandon(o, staged, fd);
  setFlag(slot, FLAG.HIDDEN);
  const r = renameAt(workFd, TEMP_NAME, workFd, hiddenName(slot));
  if (r < 0) {
    clearFlag(slot, FLAG.HIDDEN);
    close(fd);
    return abandon(o, staged, r);
  }
  dropMetadata(o, slot);
  put(slot, F.fd, fd + 1);
  setFlag(slot, FLAG.UPPER);
  clearFlag(slot, FLAG.METACOPY);
  const switched = switchHandles(slot, staged.fd);
  if (staged.fd >= 0) close(staged.fd);
  return switched;
}

/** Marks the staged file as metadata only: its data is found under the same name below, as long as it stays there. */
function markMetacopy(o: Overlay, workFd: number): number {
  return setxattrAt(workFd, TEMP_NAME, o.marks.metacopy, XATTR_VALUE, 0, 0);
}

/** The index entry of a lower object with several names; best effort, as an index that is lost only splits the names. */
function indexLink(o: Overlay, slot: number, layer: Layer, dir: number, name: number): void {
  const length = encodeOrigin(layer, dir, name);
  if (length < 0) {
    clearFlag(slot, FLAG.LOWER_LINKS);
    return;
  }
  indexName(length);
  linkAt(o.config.workFd, TEMP_NAME, o.config.indexFd, INDEX_NAME);
}

/** Without an index, the names of a lower object that are known get their links in the upper right away. */
function materialiseAliases(o: Overlay, slot: number): void {
  for (let alias = get(slot, F.upper); alias !== 0; alias = get(alias, F.children)) {
    ensureNameUpper(o, alias);
  }
}

/**
 * Makes sure that this very name (a node's own, or an alias) exists in the upper directory.
 * The object must be upper already. @returns 0 or -errno.
 */
export function ensureNameUpper(o: Overlay, nameSlot: number): number {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const target = resolve(nameSlot);
  const own = target === nameSlot;
  if (own ? get(target, F.fd) === 0 : hasFlag(nameSlot, FLAG.UPPER)) return 0;
  const parent = get(nameSlot, F.parent);
  let r = ensureUpperDir(o, parent);
  if (r < 0) return r;
  const name = nameAt(get(nameSlot, F.name));
  const fd = get(target, F.fd) - 1;
  const dirfd = upper.fd(get(parent, F.upper));
  // The name was there before: nothing that is seen changes.
  const kept = keepTimes(dirfd);
  if (fd >= 0) {
    r = linkFd(fd, dirfd, name);
  } else {
    const from = upper.fd(get(get(target, F.parent), F.upper));
    r = linkAt(from, nameAt(get(target, F.name)), dirfd, name);
  }
  restoreTimes(dirfd, kept);
  if (r < 0 && r !== -E.EXIST) return r;
  markImpure(o, parent);
  noteUpperName(o, parent, name);
  if (own) {
    close(fd);
    put(target, F.fd, 0);
  } else {
    setFlag(nameSlot, FLAG.UPPER);
  }
  storeUnionLinks(o, target);
  return 0;
}

/** Descriptors that were opened on the lower object go over to the copy, so that they see what is written to it. */
function switchHandles(slot: number, copy: number): number {
  for (let h = get(slot, F.handles); h !== 0; h = handleGet(h, H.next)) {
    const kind = handleGet(h, H.kind);
    if ((kind & KIND.LOWER) === 0) continue;
    const fd = duplicate(copy);
    if (fd < 0) return fd;
    closeFile(handleGet(h, H.fd) - 1);
    handlePut(h, H.fd, fd + 1);
    handlePut(h, H.kind, kind & ~KIND.LOWER);
  }
  return 0;
}

/** The data of a metacopy file follows its metadata into the upper. */
function copyUpData(o: Overlay, slot: number, need: Need): number {
  const mode = statNode(o, slot);
  if (mode < 0) return mode;
  const stat = u8.slice(statBuffer(), statBuffer() + 256);
  const size = getU64(statBuffer() + Statx.size);
  const to = openUpper(o, slot, O.RDWR);
  if (to < 0) return to;
  const capability = readCapability(o, to);
  const then = (r: number): number => {
    let result = r;
    // Without its mark the file shows what it holds, which must be right by then.
    if (result >= 0 && need === 'nothing') result = ftruncate(to, 0);
    if (result >= 0) result = writeCapability(o, to, capability);
    if (result >= 0) {
      // Writing the data has changed the times, which belong to the metadata.
      u8.set(stat, statBuffer());
      utimensFromStat(to, emptyPath(), statBuffer());
      result = removeMark(o, slot, to);
    }
    if (result >= 0) {
      clearFlag(slot, FLAG.METACOPY);
      result = switchHandles(slot, to);
    }
    close(to);
    return result < 0 ? result : 0;
  };
  if (need === 'nothing' || size === 0) return then(0);
  const place = locateLower(o, slot);
  const from = place.layer === undefined ? -E.IO : place.layer.open(place.dir, place.name);
  if (from < 0) {
    close(to);
    return from;
  }
  return copyData(o, slot, from, to, size, then);
}

/** security.capability of a file, which any write takes away; undefined when it has none. */
function readCapability(o: Overlay, fd: number): Uint8Array | undefined {
  const n = getxattrAt(fd, emptyPath(), o.marks.capability, XATTR_VALUE, XATTR_SIZE_MAX);
  return n < 0 ? undefined : u8.slice(XATTR_VALUE, XATTR_VALUE + n);
}

function writeCapability(o: Overlay, fd: number, value: Uint8Array | undefined): number {
  if (value === undefined) return 0;
  u8.set(value, XATTR_VALUE);
  return setxattrAt(fd, emptyPath(), o.marks.capability, XATTR_VALUE, value.length, 0);
}

function removeMark(o: Overlay, slot: number, fd: number): number {
  if (hasFlag(slot, FLAG.ORPHAN)) return 0;
  const r = removexattrAt(fd, emptyPath(), o.marks.metacopy);
  removexattrAt(fd, emptyPath(), o.marks.redirect);
  return r === -E.NODATA ? 0 : r;
}

/** Opens an upper object's file with the given flags. */
export function openUpper(o: Overlay, slot: number, flags: number): number {
  const fd = get(slot, F.fd);
  if (fd !== 0) return reopenFd(fd - 1, flags);
  if (hasFlag(slot, FLAG.ORPHAN)) {
    // A handle that is still the lower's leads nowhere (io.ts fdToChange()).
    if (hasFlag(slot, FLAG.METACOPY) && hasFlag(slot, FLAG.HIDDEN)) {
      return openAt(o.config.workFd, hiddenName(slot), flags | O.NOFOLLOW);
    }
    const handle = get(slot, F.handles);
    return handle === 0 ? -E.STALE : reopenFd(handleGet(handle, H.fd) - 1, flags);
  }
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(get(slot, F.parent), F.upper));
  return dirfd < 0 ? dirfd : openAt(dirfd, nameAt(get(slot, F.name)), flags | O.NOFOLLOW);
}
