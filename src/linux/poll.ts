// Waiting and waking: poll(2), pipes, sched_yield(2).
// Called by fuse/channel.ts when the request queue is empty, and by fuse/jobs.ts to wake worker threads.
// Follows: poll(2), pipe2(2), sched_yield(2). Results are >= 0 or -errno.

import { O } from './constants.js';
import { func, ret } from './libc.js';
import { base, i32, scratch, u32 } from './memory.js';

const P = 'uint64_t';
const c = {
  poll: func(`int poll(${P} fds, uint64_t n, int timeout)`),
  pipe2: func(`int pipe2(${P} fds, int flags)`),
  schedYield: func('int sched_yield()'),
  read: func(`int64_t read(int fd, ${P} buf, size_t n)`),
  write: func(`int64_t write(int fd, ${P} buf, size_t n)`),
};

export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, NVAL: 32 } as const;

// Scratch of this thread, above what files.ts and xattr.ts use. 0: struct pollfd[8]; 64: fd pair; 72: a word of a pipe.
const AT = 0x28000;
const POLL_MAX = 8;

/**
 * Waits until one of `fds` is readable or broken.
 * @param timeout milliseconds, -1: for ever.
 * @returns a bit mask of the positions in `fds` that have something, 0 after the timeout, or -errno.
 */
export function pollIn(fds: readonly number[], timeout: number): number {
  const n = Math.min(fds.length, POLL_MAX);
  const k = (scratch + AT) >>> 2;
  for (let i = 0; i < n; i++) {
    u32[k + 2 * i] = (fds[i] as number) >>> 0;
    u32[k + 2 * i + 1] = POLL.IN;
  }
  const r = ret(c.poll(base + scratch + AT, n, timeout));
  if (r <= 0) return r;
  let mask = 0;
  for (let i = 0; i < n; i++) if ((u32[k + 2 * i + 1] as number) >>> 16 !== 0) mask |= 1 << i;
  return mask;
}

/** Whether the other side is gone for good: an unmounted or aborted connection of FUSE. */
export function isBroken(fd: number): boolean {
  return (
    pollIn([fd], 0) === 1 && (((u32[((scratch + AT) >>> 2) + 1] as number) >>> 16) & POLL.ERR) !== 0
  );
}

/** Whether the other end of a socket or pipe is closed. */
export function isHungUp(fd: number): boolean {
  return (
    pollIn([fd], 0) === 1 && (((u32[((scratch + AT) >>> 2) + 1] as number) >>> 16) & POLL.HUP) !== 0
  );
}

/** Lets another thread that waits for this processor run; returns at once when there is none. */
export function yieldProcessor(): void {
  c.schedYield();
}

/**
 * read(2) for a polling loop: -1 stands for every failure, so that one in vain costs one crossing into C.
 */
export function pollRead(fd: number, at: number, n: number): number {
  return c.read(fd, base + at, n);
}

/** @returns [read end, write end], close-on-exec, or -errno. @param flags O_NONBLOCK for both ends. */
export function pipe(flags = 0): [number, number] | number {
  const at = scratch + AT + 64;
  const r = ret(c.pipe2(base + at, flags | O.CLOEXEC));
  if (r < 0) return r;
  return [u32[at >>> 2] as number, u32[(at >>> 2) + 1] as number];
}

/** Writes one u32 to a pipe; writes of up to 4096 bytes never mix. */
export function writeWord(fd: number, value: number): number {
  u32[(scratch + AT + 72) >>> 2] = value;
  return ret(c.write(fd, base + scratch + AT + 72, 4));
}

/** Reads one u32 from a pipe. @returns it, -errno, or -EPIPE (-32) at the end. */
export function readWord(fd: number): number {
  const r = ret(c.read(fd, base + scratch + AT + 72, 4));
  if (r < 0) return r;
  return r === 4 ? (u32[(scratch + AT + 72) >>> 2] as number) : -32;
}

/** Maps the pages of a byte range of the arena now, for writing, and changes nothing there (see fuse/channel.ts on why). */
export function prefault(at: number, length: number): void {
  for (let page = at & -4096; page < at + length; page += 4096) Atomics.add(i32, page >>> 2, 0);
}
