// What the server was doing when it died: one record of the request in hand, for the server that takes its place.
// Written by fuse/server.ts around each request and by filesystems before a change becomes visible; read at a succession.
// Layout: u32 words in the arena's header. Plain stores by the one server thread, in an order that is right at every instruction.

import { u32 } from '../linux/memory.js';
import { HEADER } from './layout.js';

/** What is known of the request in hand. */
export const JOURNAL = {
  /** None is being handled. */
  IDLE: 0,
  /** It is being handled, and has changed nothing that anybody could see. */
  STARTED: 1,
  /** Its change may have become visible. It lies whole in requestBuffer(0). */
  PUBLISHING: 2,
  /** Its reply lies whole in replyBuffer(0), and may not have been written. */
  DONE: 3,
  /** PUBLISHING, as a successor has found it and before it has begun to handle it again. */
  INHERITED: 4,
} as const;

/** u32 indices. `note`: eight words of the filesystem's own. */
const BASE = (HEADER + 0x1000) >>> 2;
const At = {
  state: BASE,
  uniqueLo: BASE + 1,
  uniqueHi: BASE + 2,
  length: BASE + 3,
  /** The request that the last server had in hand when it ended, and what such ends add up to (DEATH). */
  victimLo: BASE + 4,
  victimHi: BASE + 5,
  deaths: BASE + 6,
  note: BASE + 8,
} as const;

/** Bit 63 of a request's number: the kernel sends it again (FUSE_UNIQUE_RESEND). */
export const RESENT = 0x8000_0000;
const WITHOUT_RESENT = 0x7fff_ffff;

/** A request is about to be handled. Number 0 is nobody's (practice): it leaves no trace. */
export function begin(lo: number, hi: number): void {
  if (lo === 0 && hi === 0) return;
  u32[At.state] = JOURNAL.IDLE;
  u32[At.uniqueLo] = lo;
  u32[At.uniqueHi] = hi & WITHOUT_RESENT;
  u32[At.state] = JOURNAL.STARTED;
}

/**
 * The next system call makes a change of the request visible. Called by a filesystem directly before it; whatever came
 * before may be done again by a successor. Outside of a request (practice, errands) it does nothing.
 */
export function publishing(): void {
  if (u32[At.state] === JOURNAL.STARTED) u32[At.state] = JOURNAL.PUBLISHING;
}

/** Whether the request in hand was not answered; of a predecessor, before inherit(). */
export function unfinished(): boolean {
  const state = u32[At.state] as number;
  return state !== JOURNAL.IDLE && state !== JOURNAL.DONE;
}

/** Number of the request in hand, or of the one before, low half. */
export function requestInHand(): number {
  return u32[At.uniqueLo] as number;
}

/** The reply of `length` bytes lies in replyBuffer(0). */
export function done(length: number): void {
  if (u32[At.state] === JOURNAL.IDLE) return;
  u32[At.length] = length;
  u32[At.state] = JOURNAL.DONE;
}

/** The reply was written, or is somebody else's to write. */
export function idle(): void {
  u32[At.state] = JOURNAL.IDLE;
}

/** What a filesystem needs in order to recognise its own change: word `k`, from 0 to 7. To be written before publishing(). */
export function note(k: number, value: number): void {
  u32[At.note + k] = value;
}

/** The word that was noted for the request in hand; of use only where Request.redo. Unsigned. */
export function noted(k: number): number {
  return u32[At.note + k] as number;
}

/** What an end of a server tells about the request that it had in hand: killed from outside, nearly nothing. */
const DEATH = { byItself: 34, killed: 1 } as const;

/** From here on the request is to blame: three servers that crashed, or a hundred that were killed. */
export const POISON = 100;

/** What a predecessor left. */
export interface Inheritance {
  /** IDLE, STARTED, INHERITED (it lies in requestBuffer(0)) or DONE (its reply lies in replyBuffer(0)). */
  readonly state: number;
  /** Number of the request without RESENT. */
  readonly lo: number;
  readonly hi: number;
  /** DONE: bytes of the reply. */
  readonly length: number;
  /** STARTED, INHERITED: what the deaths of servers in a row with this very request in hand add up to, in DEATH. */
  readonly deaths: number;
}

/**
 * Reads the journal of a predecessor, and counts a death of its request. To be called once by each successor, before
 * begin(). A successor that dies before it comes to the request again is not counted.
 * @param killed the predecessor has not ended by itself.
 */
export function inherit(killed = false): Inheritance {
  const state = u32[At.state] as number;
  const lo = u32[At.uniqueLo] as number;
  const hi = u32[At.uniqueHi] as number;
  const length = u32[At.length] as number;
  if (state === JOURNAL.STARTED || state === JOURNAL.PUBLISHING) {
    const again = u32[At.victimLo] === lo && u32[At.victimHi] === hi;
    const death = killed ? DEATH.killed : DEATH.byItself;
    u32[At.deaths] = (again ? (u32[At.deaths] as number) : 0) + death;
    u32[At.victimLo] = lo;
    u32[At.victimHi] = hi;
    u32[At.state] = state === JOURNAL.STARTED ? JOURNAL.IDLE : JOURNAL.INHERITED;
  }
  const deaths = u32[At.deaths] as number;
  return {
    state: state === JOURNAL.PUBLISHING ? JOURNAL.INHERITED : state,
    lo,
    hi,
    length,
    deaths,
  };
}

/** The INHERITED request is about to be handled again. */
export function resume(): void {
  u32[At.state] = JOURNAL.PUBLISHING;
}
