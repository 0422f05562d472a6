// The descriptor: reads requests, writes replies, and waits well.
// Used by server.ts only. The fd is non-blocking, so that waiting can be polling first and sleeping later.
// Follows: fuse_dev_do_read() and fuse_dev_do_write() in fs/fuse/dev.c for the errnos.

import { E } from '../linux/errno.js';
import { read, setNonblocking, write } from '../linux/files.js';
import { pollIn, pollRead, prefault, yieldProcessor } from '../linux/poll.js';
import { processors } from '../linux/process.js';
import { MESSAGE_SIZE, replyBuffer, requestBuffer } from '../vfs/layout.js';

const REQ = requestBuffer(0);
const REP = replyBuffer(0);

/*
 * How it waits. Woken by the scheduler, a request takes 5 to 40 us longer than one that finds the server running, on a
 * machine with other things to do; and a client that works through files asks again within microseconds. So after a
 * request the server polls for a while. sched_yield() before each try is what makes this free on a busy processor: the
 * client, if it waits for this one, runs first and has asked when the call returns.
 * Measured (us a stat with two requests; median of 150 bursts; 2 processors, others at work; blocking read, polling,
 * polling with yield): client asks at once 37, 26, 24; after 5 us 25, 27, 23; after 20 us 69, 38, 28. Idle machine: all 11.
 */

/** Microseconds of polling after a request before the thread sleeps. 20 gave 48 us in the last column, 100 no gain. */
export const SPIN_MICROSECONDS = 50;

/** Polling is worth it while the next request comes within the window; credit falls with each window in vain. */
const CREDIT_MAX = 8;
const CREDIT_LOSS = 2;
/** Every so many sleeps one window is tried although the credit is spent. */
const PROBE_EVERY = 16;
/** After a request that was there at once, so many times the next is looked for before yielding. */
const EAGER = 8;

export class Channel {
  readonly fd: number;
  /** Replies the kernel refused, other than for a caller that is gone. */
  refused = 0;
  /** Milliseconds. */
  readonly #spin: number;
  #credit = CREDIT_MAX;
  #sleeps = 0;
  #eager = EAGER;
  #prompt = 0;

  /**
   * @param spin microseconds of polling before sleep, 0: none. Without a second processor none is done: whoever else
   * wants to run has only this one.
   */
  constructor(fd: number, spin = SPIN_MICROSECONDS) {
    this.fd = fd;
    this.#spin = processors() > 1 ? spin / 1000 : 0;
    setNonblocking(fd, true);
    // A SIGKILL during the read's page fault would lose the request for a successor: no page may be missing.
    prefault(REQ, MESSAGE_SIZE);
  }

  /**
   * Reads a request, polling for one for a short while.
   * @param busy there is something better to do than to poll.
   * @returns its length, or -errno (-EAGAIN: none, sleep).
   */
  next(busy: boolean): number {
    if (busy) return this.#read();
    // Several clients keep the queue filled; a single one has not asked yet when its reply was just written.
    if (this.#eager > 0 || this.#spin === 0) {
      const n = this.#read();
      if (n !== -E.AGAIN) {
        this.#eager = EAGER;
        return n;
      }
      this.#eager--;
    }
    if (this.#spin === 0) return -E.AGAIN;
    if (this.#credit <= 0 && ++this.#sleeps % PROBE_EVERY !== 0) {
      return this.#eager > 0 ? -E.AGAIN : this.#read();
    }
    return this.#poll();
  }

  #poll(): number {
    const until = performance.now() + this.#spin;
    let tries = 0;
    do {
      for (let i = 0; i < 4; i++) {
        yieldProcessor();
        const n = pollRead(this.fd, REQ, MESSAGE_SIZE);
        if (n > 0) {
          if (this.#credit < CREDIT_MAX) this.#credit++;
          // Found at the first try, it was perhaps there before yielding: look so now and then.
          if (tries === 0 && i === 0 && (++this.#prompt & 15) === 0) this.#eager = 1;
          return n;
        }
      }
      tries++;
    } while (performance.now() < until);
    this.#credit = Math.max(0, this.#credit - CREDIT_LOSS);
    // The failures so far said nothing about why; the last try does.
    return this.#read();
  }

  #read(): number {
    for (;;) {
      const n = read(this.fd, REQ, MESSAGE_SIZE);
      // ENOENT: the request was interrupted while it was being read.
      if (n !== -E.INTR && n !== -E.NOENT) return n;
    }
  }

  /**
   * Sleeps until the kernel or one of `others` has something.
   * @param timeout milliseconds, -1: for ever.
   * @returns their bit mask (bit 0: the kernel), 0 after the timeout, or -errno.
   */
  sleep(others: readonly number[], timeout: number): number {
    return pollIn([this.fd, ...others], timeout);
  }

  /** Sends the reply of `length` bytes in replyBuffer(0). @returns whether it reached its caller. */
  reply(length: number): boolean {
    for (;;) {
      const r = write(this.fd, REP, length);
      if (r === length) return true;
      if (r === -E.INTR || r === -E.AGAIN) continue;
      if (r !== -E.NOENT && r !== -E.NODEV) this.refused++;
      return false;
    }
  }
}
