// Open files: open, read, write, and what is done through a descriptor.
// The kernel reads and writes past this server where passthrough is possible; the rest ends in pread and pwrite here.
// Follows: fs/fuse/iomode.c (cached and passthrough opens exclude each other, one backing id an inode).

import {
  awaitContent,
  closeFile,
  isContent,
  isFileHere,
  NOT_HERE,
  readFile,
  seekFile,
} from '../layer/layer.js';
import { O, S, SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import {
  fallocate as allocate,
  chmodFd,
  copyFileRange as copyRange,
  pwrite,
  Statx,
  statBuffer,
  statFd,
} from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { mayWriteTo } from '../linux/process.js';
import { JOB, OPEN, type OpenReply, PARKED, type Request } from '../vfs/filesystem.js';
import { allocHandle, freeHandle, H, get as handleGet, handleOf, KIND } from '../vfs/handles.js';
import { F, FLAG, get, hasFlag, nodeidHi, nodeidLo, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { ensureUpper, openUpper } from './copy-up.js';
import { dropContent, freeUnused } from './forget.js';
import { inoOf } from './objects.js';
import { isDir, locateLower, nodeOf } from './places.js';
import { fileOfHandle, openLower, serverFlags } from './reopen.js';

export function open(o: Overlay, r: Request, flags: number, reply: OpenReply): number {
  // Answered once: the kernel opens and closes by itself from then on, and keeps pages.
  if (o.immutable) return -E.NOSYS;
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  if (isDir(slot)) return -E.ISDIR;
  const truncates = (flags & O.TRUNC) !== 0;
  const writes = (flags & O.ACCMODE) !== O.RDONLY || truncates;
  // touch(1) opens for writing what it does not write to: content that must come first comes with the first write.
  if (writes && (truncates || !awaitsContent(o, slot))) {
    const e = ensureUpper(o, slot, truncates ? 'nothing' : 'data');
    if (e < 0) return e;
  }
  const upper = hasFlag(slot, FLAG.UPPER) && !hasFlag(slot, FLAG.METACOPY);
  let fd: number;
  if (upper) {
    const own = serverFlags(o, flags) | (flags & O.TRUNC);
    fd = openUpper(o, slot, own | (flags & O.NOATIME));
    // The kernel has checked that the caller may leave the atime alone; this server may lack the capability.
    if (fd === -E.PERM && flags & O.NOATIME) fd = openUpper(o, slot, own);
    // Opened for reading only, by a caller that may, of a file that this server may not write: as it is.
    if (fd === -E.ACCES && o.host.writeback && (flags & O.ACCMODE) === O.WRONLY) {
      fd = openUpper(o, slot, O.WRONLY);
    }
  } else {
    fd = openLower(o, slot);
  }
  if (fd < 0) return fd;
  // The server may keep set-id bits when it truncates; the caller may not.
  let e = r.killPriv ? takeSetId(o, slot, fd, r.gid) : 0;
  const alone = get(slot, F.handles) === 0;
  if (e >= 0) e = attachHandle(o, slot, fd, flags, upper ? 0 : KIND.LOWER, reply);
  if (e < 0) {
    closeFile(fd);
    return e;
  }
  // A lower's content never changes, so its pages are right for as long as the kernel keeps them.
  if (alone && !upper && reply.backingId === 0 && !hasFlag(slot, FLAG.STORED)) {
    setFlag(slot, FLAG.STORED);
    if (reply.flags & OPEN.KEEP_CACHE) {
      o.host.storeStart(r.nodeLo, r.nodeHi, fd, isContent(fd) ? readFile : undefined);
    }
  }
  return 0;
}

/** Whether the file's data lies below, and not all of it is here. */
function awaitsContent(o: Overlay, slot: number): boolean {
  if (hasFlag(slot, FLAG.UPPER) && !hasFlag(slot, FLAG.METACOPY)) return false;
  const place = locateLower(o, slot);
  if (place.layer?.contentOnly !== true) return false;
  const file = place.layer.open(place.dir, place.name);
  if (file < 0) return false;
  const here = isFileHere(file);
  closeFile(file);
  return !here;
}

/**
 * The descriptor of the upper behind a handle that is about to be written through: opened before all of its content was here,
 * it may still be the lower's.
 * @returns it, PARKED or -errno.
 */
function fdToChange(o: Overlay, fhLo: number, fhHi: number): number {
  const fd = fdOf(o, fhLo, fhHi);
  if (fd < 0 || !isContent(fd)) return fd;
  const node = nodeOfHandle(fhLo, fhHi);
  const e = ensureUpper(o, hasFlag(node, FLAG.INHERITED) ? o.settle(node) : node, 'data');
  if (e < 0) return e;
  const now = fdOf(o, fhLo, fhHi);
  return isContent(now) ? -E.IO : now;
}

/**
 * Makes the handle and chooses how the kernel reads and writes: past this server, or through its page cache.
 * @param mode the file's, where the caller knows it.
 */
export function attachHandle(
  o: Overlay,
  slot: number,
  fd: number,
  flags: number,
  kind: number,
  reply: OpenReply,
  mode = -1,
): number {
  const backing = passthroughId(o, slot, fd, flags, kind, mode);
  const handle = allocHandle(slot, fd, flags, backing > 0 ? kind | KIND.PASSTHROUGH : kind);
  if (handle === 0) return -E.MFILE;
  reply.fhLo = handle;
  reply.fhHi = handleGet(handle, H.generation);
  reply.backingId = backing;
  if (backing > 0) {
    if ((flags & O.ACCMODE) !== O.RDONLY) setFlag(slot, FLAG.WRITTEN_BELOW);
    if ((flags & O.ACCMODE) === O.RDWR) setFlag(slot, FLAG.MAPPABLE);
    reply.flags = OPEN.PASSTHROUGH | OPEN.NOFLUSH;
  } else {
    // Pages stay valid from one open to the next, for every change goes through them; unless one went past them.
    reply.flags = OPEN.NOFLUSH | (hasFlag(slot, FLAG.WRITTEN_BELOW) ? 0 : OPEN.KEEP_CACHE);
    if (get(slot, F.handles) === handle && handleGet(handle, H.next) === 0) {
      put(slot, F.flags, get(slot, F.flags) & ~FLAG.WRITTEN_BELOW);
    }
  }
  return 0;
}

/** The backing id for this open, or 0 for the page cache. */
function passthroughId(
  o: Overlay,
  slot: number,
  fd: number,
  flags: number,
  kind: number,
  mode: number,
): number {
  if (!o.host.passthrough || !o.config.passthrough) return 0;
  // See beforePassthroughWrite().
  if (!o.config.xattrs && (flags & O.ACCMODE) !== O.RDONLY) return 0;
  if (isContent(fd)) return 0;
  // A lower file of a writable stack may be copied up while it is open; its backing could not follow.
  if (kind & KIND.LOWER && o.upper !== undefined) return 0;
  const first = get(slot, F.handles);
  const shared = get(slot, F.backing);
  if (first !== 0) return handleGet(first, H.kind) & KIND.PASSTHROUGH ? shared : 0;
  if (shared !== 0) return shared;
  // With HANDLE_KILLPRIV_V2 the kernel leaves dropping set-id bits to whoever writes, so writes had better come here.
  if ((mode < 0 ? statFd(fd) : mode) & (S.ISUID | S.ISGID)) return 0;
  const id = o.host.backingOpen(fd);
  if (id <= 0) return 0;
  put(slot, F.backing, id);
  return id;
}

/** RELEASE: the last close of an open. */
export function release(o: Overlay, fhLo: number, fhHi: number): number {
  const handle = handleOf(fhLo, fhHi);
  // A predecessor has done it.
  if (handle === 0) return 0;
  const slot = handleGet(handle, H.node);
  const fd = handleGet(handle, H.fd) - 1;
  const last = handleGet(handle, H.next) === 0 && handleGet(handle, H.prev) === 0;
  const unnamed = FLAG.ORPHAN | FLAG.UPPER;
  const asked = (get(slot, F.flags) & (unnamed | FLAG.INHERITED)) === unnamed;
  if (last && asked && get(slot, F.fd) === 0 && fd >= 0) {
    // The kernel may still ask for attributes of an unlinked file that it has forgotten to close; keep it reachable.
    if (get(slot, F.nlookup) !== 0) {
      const kept = openUpper(o, slot, O.PATH);
      if (kept >= 0) put(slot, F.fd, kept + 1);
    }
  }
  if (fd >= 0) closeFile(fd);
  freeHandle(handle);
  if (last && get(slot, F.backing) !== 0) {
    // Forgotten first: a successor must not use what is closed.
    const backing = get(slot, F.backing);
    put(slot, F.backing, 0);
    o.host.backingClose(backing);
  }
  freeUnused(o, slot);
  return 0;
}

/** Contents kept of an immutable stack: more than are read at the same time, mostly. */
const CONTENTS = 64;

/** What to read for a READ or LSEEK of an immutable stack, or -errno. */
function contentOf(o: Overlay, r: Request): number {
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  const kept = o.contents.get(slot);
  if (kept !== undefined) return kept;
  if (isDir(slot)) return -E.ISDIR;
  const content = openLower(o, slot);
  if (content < 0) return content;
  for (const oldest of o.contents.keys()) {
    if (o.contents.size < CONTENTS) break;
    dropContent(o, oldest);
  }
  o.contents.set(slot, content);
  return content;
}

/** The descriptor or content behind an open file, or -errno. */
function fileOf(o: Overlay, r: Request, fhLo: number, fhHi: number): number {
  return o.immutable ? contentOf(o, r) : fdOf(o, fhLo, fhHi);
}

/** The descriptor behind an open file, or -errno. */
function fdOf(o: Overlay, fhLo: number, fhHi: number): number {
  const handle = handleOf(fhLo, fhHi);
  return handle === 0 ? -E.BADF : fileOfHandle(o, handle);
}

export function read(
  o: Overlay,
  r: Request,
  fhLo: number,
  fhHi: number,
  out: number,
  size: number,
  offset: number,
): number {
  const fd = fileOf(o, r, fhLo, fhHi);
  if (fd < 0) return fd;
  let done = 0;
  // A short read means the end of the file to the kernel, so it must be one.
  while (done < size) {
    const n = readFile(fd, out + done, size - done, offset + done);
    // Never a part: what is missing would look like the end.
    if (n === NOT_HERE) return parkForContent(o);
    if (n < 0) return n;
    if (n === 0) break;
    done += n;
  }
  return done;
}

/** The current request is handled again when the content is here that it has just missed, or answered that it does not come. */
function parkForContent(o: Overlay): number {
  let forget = (): void => {};
  const saved = o.host.defer(() => forget());
  forget = awaitContent((result) => {
    if (result < 0) o.host.refuse(saved, result);
    else o.host.resume(saved);
  });
  return PARKED;
}

export function write(
  o: Overlay,
  fhLo: number,
  fhHi: number,
  data: number,
  size: number,
  offset: number,
  killPriv: boolean,
  gid: number,
): number {
  const fd = fdToChange(o, fhLo, fhHi);
  if (fd < 0) return fd;
  if (killPriv) {
    const e = takeSetId(o, nodeOfHandle(fhLo, fhHi), fd, gid);
    if (e < 0) return e;
  }
  return pwrite(fd, data, size, offset);
}

/**
 * Clears set-user-id, and set-group-id where the group may execute, as the kernel does for writers without privilege.
 * @returns 1 when there was something to clear, 0 or -errno.
 */
export function dropSetId(fd: number, gid: number): number {
  const mode = statFd(fd);
  if (mode < 0) return mode;
  let kept = mode & 0o7777 & ~S.ISUID;
  // Without group execution the bit goes when the caller is not of the file's group (setattr_should_drop_sgid).
  const foreign = gid !== (u32[(statBuffer() + Statx.gid) >>> 2] as number);
  if (mode & S.ISGID && (mode & 0o010 || foreign)) kept &= ~S.ISGID;
  return kept === (mode & 0o7777) ? 0 : chmodFd(fd, kept) || 1;
}

const nodeOfHandle = (fhLo: number, fhHi: number) => handleGet(handleOf(fhLo, fhHi), H.node);

/** dropSetId(), and the kernel learns of it: it starts programs with the mode that it remembers. @returns 0 or -errno. */
function takeSetId(o: Overlay, slot: number, fd: number, gid: number): number {
  const e = dropSetId(fd, gid);
  if (e > 0) o.host.invalInode(nodeidLo(slot), nodeidHi(slot), -1, 0);
  return e < 0 ? e : 0;
}

/** As takeSetId(), for requests that do not say whether the caller may keep the bits: root may. */
function takeSetIdFrom(o: Overlay, r: Request, fhLo: number, fhHi: number, fd: number): number {
  return r.uid === 0 ? 0 : takeSetId(o, nodeOfHandle(fhLo, fhHi), fd, r.gid);
}

/**
 * Called when the kernel asks for the capabilities of a file: before a write that it does not hand to this server, it
 * does so in the writer's name, as long as the file has set-id bits (file_remove_privs of fs/inode.c).
 */
export function beforePassthroughWrite(o: Overlay, r: Request, slot: number): void {
  if (get(slot, F.backing) === 0 || r.uid === 0) return;
  for (let h = get(slot, F.handles); h !== 0; h = handleGet(h, H.next)) {
    if ((handleGet(h, H.flags) & O.ACCMODE) === O.RDONLY) continue;
    const fd = fileOfHandle(o, h);
    if (fd < 0) return;
    if ((statFd(fd) & (S.ISUID | S.ISGID)) === 0) return;
    // Anybody may ask; only who has the file open for writing is about to write.
    if (mayWriteTo(r.pid, inoOf(o, slot))) takeSetId(o, slot, fd, r.gid);
    return;
  }
}

export function fsync(o: Overlay, fhLo: number, fhHi: number, dataOnly: boolean): number {
  if (!o.config.fsync) return 0;
  const fd = fdOf(o, fhLo, fhHi);
  if (fd < 0) return fd;
  const handle = handleOf(fhLo, fhHi);
  if (handleGet(handle, H.kind) & KIND.LOWER) {
    // Nothing was written through a lower's descriptor; but its metadata may have changed, and lie in the upper.
    const changed = !dataOnly && hasFlag(handleGet(handle, H.node), FLAG.UPPER);
    return changed ? syncfs(o) : 0;
  }
  return o.host.jobs.parkReply(JOB.FSYNC, fd, dataOnly ? 1 : 0, 0, 0, 0);
}

/** Above this length (bytes) an allocation runs on another thread. */
const INLINE_LENGTH = 4 * 1024 * 1024;

export function fallocate(
  o: Overlay,
  r: Request,
  fhLo: number,
  fhHi: number,
  offset: number,
  length: number,
  mode: number,
): number {
  const fd = fdToChange(o, fhLo, fhHi);
  if (fd < 0) return fd;
  const e = takeSetIdFrom(o, r, fhLo, fhHi, fd);
  if (e < 0) return e;
  if (length <= INLINE_LENGTH) return allocate(fd, mode, offset, length);
  return o.host.jobs.parkReply(JOB.FALLOCATE, fd, mode, offset, length, 0);
}

export function lseek(
  o: Overlay,
  r: Request,
  fhLo: number,
  fhHi: number,
  offset: number,
  whence: number,
): number {
  const fd = fileOf(o, r, fhLo, fhHi);
  if (fd < 0) return fd;
  if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -E.INVAL;
  return seekFile(fd, offset, whence);
}

export function copyFileRange(
  o: Overlay,
  r: Request,
  fhLo: number,
  fhHi: number,
  offset: number,
  outFhLo: number,
  outFhHi: number,
  outOffset: number,
  length: number,
): number {
  // The kernel then reads and writes.
  if (o.immutable) return -E.OPNOTSUPP;
  const from = fdOf(o, fhLo, fhHi);
  if (from < 0) return from;
  const to = fdToChange(o, outFhLo, outFhHi);
  if (to < 0) return to;
  if (isContent(from)) return -E.OPNOTSUPP;
  const e = takeSetIdFrom(o, r, outFhLo, outFhHi, to);
  if (e < 0) return e;
  if (length <= INLINE_LENGTH) return copyRange(from, offset, to, outOffset, length);
  return o.host.jobs.parkReply(JOB.COPY_RANGE, from, offset, to, outOffset, length);
}

/** SYNCFS and fsync of a directory: the upper's filesystem as a whole. */
export function syncfs(o: Overlay): number {
  if (!o.config.fsync || o.upper === undefined) return 0;
  return o.host.jobs.parkReply(JOB.SYNCFS, o.config.workFd, 0, 0, 0, 0);
}
