// The descriptor: reads requests, writes replies, and waits well.
// Used by server.ts only. The fd is non-blocking, so that waiting can be polling first and sleeping later.
// Follows: fuse_dev_do_read() and fuse_dev_do_write() in fs/fuse/dev.c for the errnos.

import { E } from '../linux/errno.js';
import { read, setNonblocking, write } from '../linux/files.js';
import { pollIn, prefault } from '../linux/poll.js';
import { processors } from '../linux/process.js';
import { MESSAGE_SIZE, replyBuffer, requestBuffer } from '../vfs/layout.js';

const REQ = requestBuffer(0);
const REP = replyBuffer(0);

/** Microseconds of polling after a request before the thread sleeps; measured, see docs/decisions. */
export const SPIN_MICROSECONDS = 40;

/** Polling is worth it while the next request comes within the window; credit falls with each window in vain. */
const CREDIT_MAX = 8;
const CREDIT_LOSS = 2;
/** Every so many sleeps one window is tried although the credit is spent. */
const PROBE_EVERY = 16;

export class Channel {
  readonly fd: number;
  /** Replies the kernel refused, other than for a caller that is gone. */
  refused = 0;
  readonly #spin: number;
  #credit = CREDIT_MAX;
  #sleeps = 0;

  /**
   * @param spin microseconds of polling before sleep, 0: none. Without a second processor none is done: the client
   * could not run meanwhile.
   */
  constructor(fd: number, spin = SPIN_MICROSECONDS) {
    this.fd = fd;
    this.#spin = processors() > 1 ? spin / 1000 : 0;
    setNonblocking(fd, true);
    // A SIGKILL during the read's page fault would lose the request for a successor: no page may be missing.
    prefault(REQ, MESSAGE_SIZE);
  }

  /** Reads a request if there is one. @returns its length, or -errno (-EAGAIN: none). */
  tryRead(): number {
    for (;;) {
      const n = read(this.fd, REQ, MESSAGE_SIZE);
      // ENOENT: the request was interrupted while it was being read.
      if (n !== -E.INTR && n !== -E.NOENT) return n;
    }
  }

  /** Polls for a short while. @returns as tryRead(). */
  spin(): number {
    if (this.#spin === 0) return -E.AGAIN;
    if (this.#credit <= 0) {
      if (++this.#sleeps % PROBE_EVERY !== 0) return -E.AGAIN;
    }
    const until = performance.now() + this.#spin;
    do {
      for (let i = 0; i < 4; i++) {
        const n = this.tryRead();
        if (n !== -E.AGAIN) {
          if (this.#credit < CREDIT_MAX) this.#credit++;
          return n;
        }
      }
    } while (performance.now() < until);
    this.#credit = Math.max(0, this.#credit - CREDIT_LOSS);
    return -E.AGAIN;
  }

  /** Sleeps until the kernel or one of `others` has something. @returns their bit mask (bit 0: the kernel), or -errno. */
  sleep(others: readonly number[]): number {
    return pollIn([this.fd, ...others], -1);
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
