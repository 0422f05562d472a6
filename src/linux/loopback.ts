// Brings the loopback interface of a new network namespace up.
// Called by sandbox/enter.ts, which has the right to.
// Follows: netdevice(7) SIOCSIFFLAGS, struct ifreq: name 16 bytes, flags u16.

import { close, ioctlAt } from './files.js';
import { func, ret } from './libc.js';
import { putBytes, scratch, u16 } from './memory.js';

const socket = func('int socket(int domain, int type, int protocol)');

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 0o2000002;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
// Scratch of this thread: struct ifreq, 40 bytes.
const AT = 0x2e300;

/** @returns 0 or -errno (EPERM, EAFNOSUPPORT). */
export function raiseLoopback(): number {
  const fd = ret(socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0));
  if (fd < 0) return fd;
  putBytes(scratch + AT, 'lo');
  u16[(scratch + AT + 16) >>> 1] = IFF_UP;
  const r = ioctlAt(fd, SIOCSIFFLAGS, scratch + AT);
  close(fd);
  return r;
}
