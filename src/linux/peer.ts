// Who is at the other end of a Unix socket, and advisory locks on whole files.
// Called by supervisor/: only its own user may talk to it, and there is one of it; stack/claim.ts locks work directories, store/ stores and images.
// Follows: unix(7) SO_PEERCRED (struct ucred), flock(2).

import { E } from './errno.js';
import { func, ret } from './libc.js';
import { base, scratch, u32 } from './memory.js';

const c = {
  getsockopt: func(
    'int getsockopt(int fd, int level, int option, uint64_t value, uint64_t length)',
  ),
  flock: func('int flock(int fd, int operation)'),
};

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

// Scratch of this thread: struct ucred (pid, uid, gid), then its length.
const AT = 0x2e000;

/** User id of the peer, as this user namespace sees it, or -errno. */
export function peerUid(socket: number): number {
  const k = (scratch + AT) >>> 2;
  u32[k + 4] = 12;
  const at = base + scratch + AT;
  const r = ret(c.getsockopt(socket, SOL_SOCKET, SO_PEERCRED, at, at + 16));
  return r < 0 ? r : (u32[k + 1] as number);
}

/**
 * Takes the lock of an open file or directory without waiting; it ends with the last descriptor of this opening.
 * @param shared beside others that share it. @returns 0, or -errno (-EAGAIN: someone has it).
 */
export function lockFile(fd: number, shared = false): number {
  return ret(c.flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB));
}

/** How long the server of a mount that has just been unmounted may take to end: tries, and milliseconds between them. */
const TRIES = 30;
const PAUSE = 50;

/** As lockFile(), but waits for whoever is about to give the lock up: 1.5 s at most, during which this thread does nothing. */
export function lockFileSoon(fd: number): number {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let r = lockFile(fd);
  for (let i = 0; r === -E.AGAIN && i < TRIES; i++) {
    Atomics.wait(sleeper, 0, 0, PAUSE);
    r = lockFile(fd);
  }
  return r;
}
