// What a filesystem may ask of its server: saved requests, notifications, backing files, other threads.
// One object a server; the upward half of the waist (vfs/filesystem.ts Host).
// Follows: fuse_notify() in fs/fuse/dev.c for which notification takes which lock.

import { E } from '../linux/errno.js';
import { pread, preadCached, write } from '../linux/files.js';
import { backingClose, backingOpen } from '../linux/fuse-dev.js';
import { scratch, u8, u32 } from '../linux/memory.js';
import { isBeingKilled } from '../linux/process.js';
import type { Deferred, ReadFile, Request } from '../vfs/filesystem.js';
import { replyBuffer, requestBuffer } from '../vfs/layout.js';
import {
  FuseInHeader,
  FuseNotifyDeleteOut,
  FuseNotifyInvalEntryOut,
  FuseNotifyInvalInodeOut,
  FuseNotifyStoreOut,
  FuseOutHeader,
  NOTIFY,
} from './abi.js';
import type { DispatchHost } from './dispatch.js';
import { formReply } from './job-record.js';
import type { Jobs } from './jobs.js';
import type { Session } from './session.js';

const HI = 0x1_0000_0000;
// This thread's scratch: messages written by the server's thread outside a reply.
const MESSAGE_AT = 0x2b000;

/** Bytes of a file that go along with its OPEN: four pages hold most sources, scripts and headers. */
const START_SIZE = 16 * 1024;
/** Milliseconds between two looks at whether callers that have had a signal are being killed by another one. */
const LOOK = 200;

// Behind the reply to OPEN, which is being formed; the data begin at a page.
const STORE_HEAD = FuseOutHeader.size + FuseNotifyStoreOut.size;
const START_AT = replyBuffer(0) + 8192;
const STORE_AT = START_AT - STORE_HEAD;

/** A request put aside: its bytes, until it is handled again or its caller was killed. */
class Saved {
  readonly bytes: Uint8Array;
  readonly key: number;
  readonly redo: boolean;
  readonly dropped: (() => void) | undefined;
  over = false;

  constructor(bytes: Uint8Array, key: number, redo: boolean, dropped?: () => void) {
    this.bytes = bytes;
    this.key = key;
    this.redo = redo;
    this.dropped = dropped;
  }
}

/** The number of a request, whether it is sent again (bit 63) or not. */
const keyOf = (lo: number, hi: number): number => (hi & 0x1fffff) * HI + lo;

export class ServerHost implements DispatchHost {
  session: Session | undefined;
  readonly jobs: Jobs;
  readonly #request: Request;
  readonly #fuseFd: number;
  readonly #saved = new Map<number, Saved>();
  readonly #ready: Saved[] = [];
  /** Keys of requests that were put aside and whose callers have had a signal that did not kill them. */
  readonly #signalled = new Set<number>();
  #nextLook = 0;
  #errands: { readonly step: () => boolean; readonly optional: boolean }[] = [];
  #leaves = false;
  /** No filesystem here has refused to tell what it holds in memory (tmpfs does: everything). */
  #cacheKnown = true;

  constructor(request: Request, fuseFd: number, jobs: Jobs) {
    this.#request = request;
    this.#fuseFd = fuseFd;
    this.jobs = jobs;
  }

  /** Answers a request that is not the current one, as a job of it has ended. @param result bytes copied, or -errno. */
  answer(slot: number, result: number): void {
    const message = scratch + MESSAGE_AT;
    write(this.#fuseFd, message, formReply(slot, result, message));
  }

  get passthrough(): boolean {
    return this.session?.passthrough ?? false;
  }

  get noOpendir(): boolean {
    return this.session?.noOpendir ?? false;
  }

  get writeback(): boolean {
    return this.session?.writeback ?? false;
  }

  defer(dropped?: () => void): Deferred {
    const at = requestBuffer(0);
    const r = this.#request;
    const key = keyOf(r.uniqueLo, r.uniqueHi);
    const saved = new Saved(u8.slice(at, at + (u32[at >>> 2] as number)), key, r.redo, dropped);
    this.#saved.set(key, saved);
    return saved;
  }

  resume(deferred: Deferred): void {
    const saved = deferred as Saved;
    if (!saved.over) this.#ready.push(saved);
  }

  refuse(deferred: Deferred, error: number): void {
    const saved = deferred as Saved;
    if (!saved.over) this.#answerError(saved, error);
  }

  #answerError(saved: Saved, error: number): void {
    saved.over = true;
    if (this.#saved.get(saved.key) === saved) this.#saved.delete(saved.key);
    const view = new DataView(saved.bytes.buffer, saved.bytes.byteOffset);
    const k = (scratch + MESSAGE_AT) >>> 2;
    u32[k] = FuseOutHeader.size;
    u32[k + 1] = error;
    u32[k + 2] = view.getUint32(FuseInHeader.at.unique, true);
    u32[k + 3] = view.getUint32(FuseInHeader.at.unique + 4, true);
    write(this.#fuseFd, scratch + MESSAGE_AT, FuseOutHeader.size);
  }

  /** The kernel sends what was put aside once more: nothing of it is to be handled here again. */
  dropSaved(): void {
    for (const saved of this.#saved.values()) saved.over = true;
    this.#saved.clear();
  }

  /** Requests that were put aside and are not answered. */
  get savedCount(): number {
    return this.#saved.size;
  }

  /** Whether a resumed request waits to be handled. */
  get hasReady(): boolean {
    return this.#ready.length > 0;
  }

  /** Of the request that takeReady() has given: Request.redo. */
  resumedRedo = false;

  /** Puts the next resumed request into requestBuffer(0). @returns its length, 0 when there is none left. */
  takeReady(): number {
    for (;;) {
      const saved = this.#ready.shift();
      if (saved === undefined) return 0;
      if (saved.over) continue;
      saved.over = true;
      if (this.#saved.get(saved.key) === saved) this.#saved.delete(saved.key);
      u8.set(saved.bytes, requestBuffer(0));
      this.resumedRedo = saved.redo;
      return saved.bytes.length;
    }
  }

  errand(step: () => boolean, optional = false): void {
    if (!(optional && this.#leaves)) this.#errands.push({ step, optional });
  }

  /** The server leaves: what it need not do is dropped. */
  dropErrands(): void {
    this.#leaves = true;
    this.#errands = this.#errands.filter(({ optional }) => !optional);
  }

  get hasErrand(): boolean {
    return this.#errands.length > 0;
  }

  /** One step of the oldest errand; the others take their turns after it. */
  runErrand(): void {
    const errand = this.#errands.shift();
    if (errand?.step() === true) this.#errands.push(errand);
  }

  /**
   * INTERRUPT. Only a request that was put aside can still be given up, and only for a caller that is being killed:
   * programs do not expect EINTR from a disk file because of some other signal.
   */
  interrupted(uniqueLo: number, uniqueHi: number): void {
    const saved = this.#saved.get(keyOf(uniqueLo, uniqueHi));
    if (saved === undefined || saved.over) return;
    if (!this.#giveUp(saved)) this.#signalled.add(saved.key);
  }

  #giveUp(saved: Saved): boolean {
    const view = new DataView(saved.bytes.buffer, saved.bytes.byteOffset);
    const header = FuseInHeader.decode(view);
    if (!isBeingKilled(header.pid)) return false;
    this.#answerError(saved, -E.INTR);
    saved.dropped?.();
    return true;
  }

  /** Milliseconds after which giveUpKilled() is to be called; -1: not at all. */
  get concern(): number {
    return this.#signalled.size > 0 ? LOOK : -1;
  }

  /**
   * The kernel tells of the first signal alone (request_wait_answer(), fs/fuse/dev.c): whoever has had one that did not kill it
   * could not be killed any more. Looks every LOOK milliseconds.
   */
  giveUpKilled(): void {
    const now = performance.now();
    if (now < this.#nextLook) return;
    this.#nextLook = now + LOOK;
    for (const key of this.#signalled) {
      const saved = this.#saved.get(key);
      if (saved === undefined || saved.over || this.#giveUp(saved)) this.#signalled.delete(key);
    }
  }

  /*
   * Notifications and locks. Dropping attributes takes no lock that a request holds, so it is written at once.
   * Dropping pages waits for pages under I/O (which may wait for a READ that only we answer), and dropping a name
   * takes the parent's i_rwsem (which a CREATE that is being handled here holds). Written by the server's thread,
   * either would wait for itself; a worker writes them, and waits while the server goes on.
   */
  invalInode(nodeLo: number, nodeHi: number, offset: number, length: number): void {
    const size = FuseOutHeader.size + FuseNotifyInvalInodeOut.size;
    const fill = (at: number): void => {
      const k = at >>> 2;
      header(k, size, NOTIFY.INVAL_INODE);
      u32[k + 4] = nodeLo;
      u32[k + 5] = nodeHi;
      u32[k + 6] = offset >>> 0;
      u32[k + 7] = Math.floor(offset / HI);
      u32[k + 8] = length >>> 0;
      u32[k + 9] = Math.floor(length / HI);
    };
    if (offset >= 0) {
      this.jobs.notify(size, fill);
      return;
    }
    fill(scratch + MESSAGE_AT);
    write(this.#fuseFd, scratch + MESSAGE_AT, size);
  }

  invalEntry(parentLo: number, parentHi: number, name: number, nameLen: number): void {
    const head = FuseOutHeader.size + FuseNotifyInvalEntryOut.size;
    const size = head + nameLen + 1;
    this.jobs.notify(size, (at) => {
      const k = at >>> 2;
      header(k, size, NOTIFY.INVAL_ENTRY);
      u32[k + 4] = parentLo;
      u32[k + 5] = parentHi;
      u32[k + 6] = nameLen;
      u32[k + 7] = 0;
      u8.copyWithin(at + head, name, name + nameLen);
      u8[at + size - 1] = 0;
    });
  }

  notifyDelete(
    parentLo: number,
    parentHi: number,
    nodeLo: number,
    nodeHi: number,
    name: number,
    nameLen: number,
  ): void {
    const head = FuseOutHeader.size + FuseNotifyDeleteOut.size;
    const size = head + nameLen + 1;
    this.jobs.notify(size, (at) => {
      const k = at >>> 2;
      header(k, size, NOTIFY.DELETE);
      u32[k + 4] = parentLo;
      u32[k + 5] = parentHi;
      u32[k + 6] = nodeLo;
      u32[k + 7] = nodeHi;
      u32[k + 8] = nameLen;
      u32[k + 9] = 0;
      u8.copyWithin(at + head, name, name + nameLen);
      u8[at + size - 1] = 0;
    });
  }

  storeStart(nodeLo: number, nodeHi: number, file: number, read?: ReadFile): void {
    // A practised request (rehearse.ts) has no number: nobody reads its file.
    if (this.#request.uniqueLo === 0 && this.#request.uniqueHi === 0) return;
    let n: number = -E.OPNOTSUPP;
    if (read !== undefined) n = read(file, START_AT, START_SIZE, 0);
    else if (this.#cacheKnown) {
      n = preadCached(file, START_AT, START_SIZE, 0);
      if (n === -E.OPNOTSUPP) this.#cacheKnown = false;
    }
    if (read === undefined && n === -E.OPNOTSUPP) n = pread(file, START_AT, START_SIZE, 0);
    if (n <= 0) return;
    const k = STORE_AT >>> 2;
    header(k, STORE_HEAD + n, NOTIFY.STORE);
    u32[k + 4] = nodeLo;
    u32[k + 5] = nodeHi;
    u32[k + 6] = 0;
    u32[k + 7] = 0;
    u32[k + 8] = n;
    u32[k + 9] = 0;
    write(this.#fuseFd, STORE_AT, STORE_HEAD + n);
  }

  backingOpen(fd: number): number {
    return backingOpen(this.#fuseFd, fd);
  }

  backingClose(id: number): void {
    backingClose(this.#fuseFd, id);
  }
}

function header(k: number, size: number, code: number): void {
  u32[k] = size;
  u32[k + 1] = code;
  u32[k + 2] = 0;
  u32[k + 3] = 0;
}
