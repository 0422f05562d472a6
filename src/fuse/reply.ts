// The forms of replies: a header, and what the result of a filesystem's method becomes.
// Used by dispatch.ts after each method; everything lies in replyBuffer(0), results are lengths to be written.
// Follows: fuse_dev_do_write() in fs/fuse/dev.c for what the kernel accepts.

import { E } from '../linux/errno.js';
import { u32 } from '../linux/memory.js';
import { ATTR_SIZE, ENTRY_SIZE, Entry } from '../vfs/attr.js';
import { Counter, count } from '../vfs/counters.js';
import { ABSENT, OPEN, type OpenReply, PARKED, type Request } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import { FuseAttrOut, FuseOutHeader as OutHeader } from './abi.js';

const REP = replyBuffer(0);
const R = REP >>> 2;
const O = (REP + OutHeader.size) >>> 2;
const HI = 0x1_0000_0000;

/** What the kernel accepts beside PASSTHROUGH (FOPEN_PASSTHROUGH_MASK); anything else there is EIO for the caller. */
const PASSTHROUGH_FLAGS =
  OPEN.PASSTHROUGH | OPEN.DIRECT_IO | OPEN.PARALLEL_DIRECT_WRITES | OPEN.NOFLUSH;

/** A request for a log line. */
export function describe(r: Request): string {
  return `request opcode ${r.opcode} unique ${r.uniqueHi * HI + r.uniqueLo} node ${r.nodeHi * HI + r.nodeLo} uid ${r.uid} pid ${r.pid}`;
}

/** Makes the replies of one server. */
export class Reply {
  /** How long names and attributes stay valid: seconds as two halves, nanoseconds. */
  readonly validity: readonly [lo: number, hi: number, nsec: number];
  readonly #request: Request;
  readonly #log: (line: string) => void;
  readonly #open: OpenReply = { fhLo: 0, fhHi: 0, flags: 0, backingId: 0 };
  readonly #validLo: number;
  readonly #validHi: number;
  readonly #validNsec: number;
  /** Whether names that do not exist are remembered by the kernel. */
  readonly #negative: boolean;

  /** @param timeout seconds that names and attributes stay valid, fractions allowed. */
  constructor(request: Request, timeout: number, log: (line: string) => void) {
    this.#request = request;
    this.#log = log;
    const time = Math.max(0, timeout);
    const seconds = Math.floor(time);
    this.#validLo = seconds >>> 0;
    this.#validHi = Math.min(Math.floor(seconds / HI), 0x7fffffff);
    this.#validNsec = Math.min(Math.floor((time - seconds) * 1e9), 999_999_999);
    this.#negative = time > 0;
    this.validity = [this.#validLo, this.#validHi, this.#validNsec];
  }

  /** A successful reply with `size` bytes of payload, which lie there already. */
  bytes(size: number): number {
    const length = OutHeader.size + size;
    u32[R] = length;
    u32[R + 1] = 0;
    u32[R + 2] = this.#request.uniqueLo;
    u32[R + 3] = this.#request.uniqueHi;
    return length;
  }

  /** @param errno positive. */
  error(errno: number): number {
    if (errno === E.IO) count(Counter.errors);
    u32[R] = OutHeader.size;
    u32[R + 1] = -errno;
    u32[R + 2] = this.#request.uniqueLo;
    u32[R + 3] = this.#request.uniqueHi;
    return OutHeader.size;
  }

  /** What a method returned below zero (or nothing at all, which is a bug and EIO). */
  failed(result: number): number {
    if (result === PARKED) return 0;
    if (result === ABSENT) return this.error(E.NOENT);
    // The kernel refuses a reply with an errno of 512 or more.
    if (result < 0 && result > -512) return this.error(-result);
    this.#log(`${describe(this.#request)}: the filesystem returned ${result}`);
    return this.error(E.IO);
  }

  /** For methods whose reply has no payload. */
  done(result: number): number {
    return result >= 0 ? this.bytes(0) : this.failed(result);
  }

  /** For methods that make or find a node: an entry lies there. */
  made(result: number): number {
    return result >= 0 ? this.entry(ENTRY_SIZE) : this.failed(result);
  }

  /** A count as 32 bits (fuse_write_out, fuse_getxattr_out). */
  size(result: number): number {
    if (!(result >= 0)) return this.failed(result);
    u32[O] = result;
    u32[O + 1] = 0;
    return this.bytes(8);
  }

  /** A count or offset as 64 bits. */
  number(result: number): number {
    if (!(result >= 0)) return this.failed(result);
    u32[O] = result >>> 0;
    u32[O + 1] = Math.floor(result / HI);
    return this.bytes(8);
  }

  /** A value of an attribute, or its length when the caller had no room. */
  value(result: number, size: number): number {
    if (!(result >= 0)) return this.failed(result);
    if (size === 0) return this.size(result);
    return result <= size ? this.bytes(result) : this.error(E.RANGE);
  }

  /** Attributes lie there: adds how long they stay valid. */
  attr(): number {
    u32[O] = this.#validLo;
    u32[O + 1] = this.#validHi;
    u32[O + 2] = this.#validNsec;
    u32[O + 3] = 0;
    return this.bytes(FuseAttrOut.at.attr + ATTR_SIZE);
  }

  /** An entry lies there: adds how long it stays valid. @param size of the payload, what follows the entry included. */
  entry(size: number): number {
    const k = O + Entry.entry_valid / 4;
    u32[k] = this.#validLo;
    u32[k + 1] = this.#validHi;
    u32[k + 2] = this.#validLo;
    u32[k + 3] = this.#validHi;
    u32[k + 4] = this.#validNsec;
    u32[k + 5] = this.#validNsec;
    return this.bytes(size);
  }

  /** No such name: as an entry with nodeid 0 that the kernel may remember, or as ENOENT. */
  absent(): number {
    if (!this.#negative) return this.error(E.NOENT);
    u32.fill(0, O, O + ENTRY_SIZE / 4);
    return this.entry(ENTRY_SIZE);
  }

  /** The record that open methods fill, emptied. */
  freshOpen(): OpenReply {
    const o = this.#open;
    o.fhLo = 0;
    o.fhHi = 0;
    o.flags = 0;
    o.backingId = 0;
    return o;
  }

  /** Puts that record at an arena offset, as fuse_open_out. */
  putOpen(at: number): void {
    const o = this.#open;
    const k = at >>> 2;
    u32[k] = o.fhLo;
    u32[k + 1] = o.fhHi;
    u32[k + 2] = o.flags & OPEN.PASSTHROUGH ? o.flags & PASSTHROUGH_FLAGS : o.flags;
    u32[k + 3] = o.backingId;
  }
}
