// The data of a copy-up: at once, on another thread, or slice by slice between requests.
// Called by copy-up.ts once the target is staged; a copy that takes longer parks the request, and others that need its result.
// Follows: fs/overlayfs/copy_up.c (ovl_copy_up_file): shared blocks first, holes kept, synced before it is published.

import {
  awaitContent,
  closeFile,
  isContent,
  NOT_HERE,
  readFile,
  seekFile,
  wantSoon,
} from '../layer/layer.js';
import { SEEK } from '../linux/constants.js';
import { copyFile } from '../linux/copy.js';
import { E } from '../linux/errno.js';
import { cloneFile, ftruncate, pwrite } from '../linux/files.js';
import * as counters from '../vfs/counters.js';
import { JOB, PARKED } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import type { Overlay, PendingCopy } from './context.js';

/** Up to this size (bytes) the server copies data itself; more is done while it goes on. */
const INLINE_COPY = 4 * 1024 * 1024;
/** The same for what must be decompressed first. */
const INLINE_CONTENT = 512 * 1024;
/** The same for what nobody waits for: others shall not wait for it either. */
const INLINE_UNASKED = 256 * 1024;

// Content of images passes through here: no reply is formed while a file is copied up.
const SLICE_AT = replyBuffer(0) + 8192;
const SLICE_SIZE = 128 * 1024;
/** Bytes ahead of a copy that a loader is asked for. */
const AHEAD = 4 * 1024 * 1024;

/** Joins the requests that wait for a copy of `slot`'s data; or takes its failure. @returns PARKED or -errno. */
export function waitForCopy(o: Overlay, slot: number, pending: PendingCopy): number {
  if (pending.error !== 0) {
    pending.failures--;
    if (pending.failures <= 0) o.copies.delete(slot);
    return pending.error;
  }
  pending.waiting.push(o.host.defer());
  return PARKED;
}

/**
 * Copies `size` bytes, sharing blocks where the filesystem can; unbounded or syncing copies without anybody else waiting.
 * @param from a lower file as Layer.open() gives it; closed here. @returns what `then` returns, or PARKED.
 */
export function copyData(
  o: Overlay,
  slot: number,
  from: number,
  to: number,
  size: number,
  then: (result: number) => number,
): number {
  counters.add(counters.Counter.copyUpBytes, size);
  const content = isContent(from);
  const shared = !content && cloneFile(to, from) >= 0;
  // Shared blocks are on disk already: as in the kernel, a full clone is not synced.
  const inline = o.unasked ? INLINE_UNASKED : content ? INLINE_CONTENT : INLINE_COPY;
  if (shared || (size <= inline && !o.config.sync)) {
    const r = shared ? 0 : content ? copyContent(from, to, size) : copyFile(from, to, size);
    if (r !== NOT_HERE) {
      closeFile(from);
      return then(r);
    }
  }
  const waiting = o.unasked ? [] : [o.host.defer()];
  const pending: PendingCopy = { waiting, error: 0, failures: 0 };
  o.copies.set(slot, pending);
  counters.count(counters.Counter.parked);
  const done = (r: number): void => {
    closeFile(from);
    o.copies.delete(slot);
    const result = then(r);
    if (result < 0 && pending.waiting.length > 0) {
      // Each waiter runs once more and takes the error instead of trying again.
      pending.error = result;
      pending.failures = pending.waiting.length;
      o.copies.set(slot, pending);
    }
    for (const request of pending.waiting.splice(0)) o.host.resume(request);
    pending.after?.(result);
  };
  if (content) copyInTurns(o, from, to, size, done);
  else o.host.jobs.run(JOB.COPY_FILE, from, to, size, o.config.sync ? 1 : 0, 0, done);
  return PARKED;
}

/** Copies what an image holds, whose reader lives on this thread: a slice between two requests, and a pause for what is not here. */
function copyInTurns(
  o: Overlay,
  from: number,
  to: number,
  size: number,
  done: (result: number) => void,
): void {
  let at = ftruncate(to, size);
  let wanted = 0;
  const step = (): boolean => {
    if (at >= wanted && at < size) {
      wantSoon(from, at, AHEAD);
      wanted = at + AHEAD / 2;
    }
    const next = at >= 0 && at < size ? copySlice(from, to, at, size) : at;
    if (next === NOT_HERE) {
      awaitContent((result) => {
        if (result < 0) at = result;
        o.host.errand(step);
      });
      return false;
    }
    at = next;
    if (at >= 0 && at < size) return true;
    if (at >= 0 && o.config.sync) o.host.jobs.run(JOB.FSYNC, to, 0, 0, 0, 0, done);
    else done(Math.min(at, 0));
    return false;
  };
  o.host.errand(step);
}

/** All of it at once. @returns 0, -errno or NOT_HERE. */
function copyContent(from: number, to: number, size: number): number {
  let at = ftruncate(to, size);
  while (at >= 0 && at < size) at = copySlice(from, to, at, size);
  return Math.min(at, 0);
}

/** Copies the first data at or after offset `at` (bytes), holes left out. @returns where to go on, -errno or NOT_HERE. */
function copySlice(from: number, to: number, at: number, size: number): number {
  const start = seekFile(from, at, SEEK.DATA);
  if (start === -E.NXIO) return size;
  if (start < 0) return start;
  const n = readFile(from, SLICE_AT, Math.min(SLICE_SIZE, size - start), start);
  if (n < 0) return n;
  // An image whose file is shorter than it says.
  if (n === 0) return -E.IO;
  for (let done = 0; done < n; ) {
    const written = pwrite(to, SLICE_AT + done, n - done, start + done);
    if (written < 0) return written;
    done += written;
  }
  return start + n;
}
