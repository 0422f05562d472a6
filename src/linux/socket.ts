// Socket pairs and the passing of descriptors over them.
// Called by linux/mount.ts (fusermount3 hands over its fd so) and supervisor/; cold paths only.
// Follows: socketpair(2), recvmsg(2), unix(7) SCM_RIGHTS, cmsg(3).

import { E } from './errno.js';
import { close } from './files.js';
import { func, ret } from './libc.js';
import { base, i32, scratch, u8, u32 } from './memory.js';
import { pollIn } from './poll.js';

const P = 'uint64_t';
const c = {
  socketpair: func(`int socketpair(int domain, int type, int protocol, ${P} fds)`),
  recvmsg: func(`int64_t recvmsg(int fd, ${P} msg, int flags)`),
  sendmsg: func(`int64_t sendmsg(int fd, ${P} msg, int flags)`),
  socket: func('int socket(int domain, int type, int protocol)'),
  connect: func(`int connect(int fd, ${P} address, uint32_t length)`),
  setsockopt: func(`int setsockopt(int fd, int level, int option, ${P} value, uint32_t length)`),
};

// A typed array is passed as its address, as in file-source.ts.
type Transfer = (fd: number, bytes: Uint8Array, n: number, flags: number) => number;
const send = func(
  'int64_t send(int fd, const void *bytes, size_t n, int flags)',
) as unknown as Transfer;
const recv = func('int64_t recv(int fd, void *bytes, size_t n, int flags)') as unknown as Transfer;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MSG_PEEK = 2;
const SO_PEEK_OFF = 42;
const SOCK_NONBLOCK = 0o4000;
/** struct sockaddr_un: a family of 2 bytes, a path with its NUL. */
const ADDRESS_SIZE = 110;
const PATH_MAX = 107;

/** Descriptors of one message; the kernel takes up to 253 (SCM_MAX_FD). */
export const FDS_MAX = 64;

// Scratch of this thread: 0: msghdr (56 bytes); 64: iovec; 80: fd pair; 96: control (16 bytes and the fds); 512: address; 1024: data.
const AT = 0x29000;
const IOV = 64;
const PAIR = 80;
const CONTROL = 96;
const ADDRESS = 512;
const DATA = 1024;
const CONTROL_HEAD = 16;
const CONTROL_SIZE = CONTROL_HEAD + 4 * FDS_MAX;
const DATA_SIZE = 1024;

/** @returns two connected stream sockets, close-on-exec, or -errno. */
export function socketpair(): [number, number] | number {
  const at = scratch + AT + PAIR;
  const r = ret(c.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, base + at));
  if (r < 0) return r;
  return [u32[at >>> 2] as number, u32[(at >>> 2) + 1] as number];
}

function put64(at: number, value: number): void {
  u32[at >>> 2] = value >>> 0;
  u32[(at >>> 2) + 1] = Math.floor(value / 0x1_0000_0000);
}

function header(dataLength: number, controlLength: number): number {
  const at = scratch + AT;
  u8.fill(0, at, at + 56);
  put64(at + IOV, base + at + DATA);
  put64(at + IOV + 8, dataLength);
  put64(at + 16, base + at + IOV);
  put64(at + 24, 1);
  put64(at + 32, controlLength === 0 ? 0 : base + at + CONTROL);
  put64(at + 40, controlLength);
  return at;
}

/**
 * Receives one message that carries a descriptor (close-on-exec here).
 * @returns the fd; -EPIPE-like -ENODATA when the peer closed or sent none; or -errno.
 */
export function receiveFd(socket: number): number {
  const fds = receiveSome(socket, DATA_SIZE);
  return typeof fds === 'number' ? fds : (fds[0] as number);
}

/** @param size most bytes of data to take along. @returns the descriptors of one message, -ENODATA where it has none, or -errno. */
function receiveSome(socket: number, size: number, flags = 0): number[] | number {
  const at = header(size, CONTROL_SIZE);
  u8.fill(0, at + CONTROL, at + CONTROL + CONTROL_SIZE);
  const r = ret(c.recvmsg(socket, base + at, MSG_CMSG_CLOEXEC | flags));
  if (r < 0) return r;
  const k = (at + CONTROL) >>> 2;
  const count = ((u32[k] as number) - CONTROL_HEAD) >> 2;
  if (count < 1 || u32[k + 2] !== SOL_SOCKET || u32[k + 3] !== SCM_RIGHTS) return -E.NODATA;
  return Array.from(i32.subarray(k + 4, k + 4 + count));
}

/** Sends one byte that carries `fd`. @returns 0 or -errno. */
export function sendFd(socket: number, fd: number): number {
  return sendSome(socket, [fd]);
}

function sendSome(socket: number, fds: readonly number[]): number {
  const size = CONTROL_HEAD + 4 * fds.length;
  const at = header(1, (size + 7) & ~7);
  u8[at + DATA] = 0;
  const k = (at + CONTROL) >>> 2;
  put64(at + CONTROL, size);
  u32[k + 2] = SOL_SOCKET;
  u32[k + 3] = SCM_RIGHTS;
  fds.forEach((fd, i) => {
    i32[k + 4 + i] = fd;
  });
  const r = ret(c.sendmsg(socket, base + at, MSG_NOSIGNAL));
  return Math.min(r, 0);
}

/** Sends any number of descriptors, a byte for each FDS_MAX of them. @returns 0 or -errno. */
export function sendFds(socket: number, fds: readonly number[]): number {
  for (let i = 0; i < fds.length; i += FDS_MAX) {
    const r = sendSome(socket, fds.slice(i, i + FDS_MAX));
    if (r < 0) return r;
  }
  return 0;
}

/**
 * Receives what sendFds() sends: `count` descriptors, close-on-exec here.
 * @param patience milliseconds to wait for each message on a non-blocking socket.
 * @returns them; -ENODATA when the peer closed or sent something else, -EAGAIN when it did not send in time, or -errno.
 */
export function receiveFds(socket: number, count: number, patience: number): number[] | number {
  const fds: number[] = [];
  while (fds.length < count) {
    const ready = pollIn([socket], patience);
    if (ready === -E.INTR) continue;
    if (ready <= 0) return ready === 0 ? -E.AGAIN : ready;
    const some = receiveSome(socket, 1);
    if (some === -E.INTR) continue;
    if (typeof some === 'number') return some;
    fds.push(...some);
  }
  return fds;
}

/** peekFds() begins with the oldest message again. @returns 0 or -errno. */
export function peekFromStart(socket: number): number {
  const at = scratch + AT + PAIR;
  i32[at >>> 2] = 0;
  return ret(c.setsockopt(socket, SOL_SOCKET, SO_PEEK_OFF, base + at, 4));
}

/**
 * As receiveFds(), without waiting; the messages stay where they are, and the next call looks at those behind them.
 * @returns duplicates; -EAGAIN when there are fewer.
 */
export function peekFds(socket: number, count: number): number[] | number {
  const fds: number[] = [];
  while (fds.length < count) {
    const some = receiveSome(socket, 1, MSG_PEEK | MSG_DONTWAIT);
    if (typeof some === 'number') {
      for (const fd of fds) close(fd);
      return some;
    }
    fds.push(...some);
  }
  return fds;
}

/** Drops the oldest messages of sendFds(), with what they carry. */
export function dropMessages(socket: number, count: number): void {
  // What a message carries is dropped where there is no room for it (unix(7)).
  const byte = new Uint8Array(1);
  for (let i = 0; i < count; i++) if (receiveBytes(socket, byte) < 0) return;
}

/**
 * Connects to a Unix stream socket without waiting.
 * @returns a non-blocking socket, close-on-exec; -EAGAIN when its listener has too many waiting, or -errno.
 */
export function connectUnix(path: string): number {
  const name = Buffer.from(path);
  if (name.length > PATH_MAX) return -E.NAMETOOLONG;
  const fd = ret(c.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd < 0) return fd;
  const at = scratch + AT + ADDRESS;
  u8.fill(0, at, at + ADDRESS_SIZE);
  u8[at] = AF_UNIX;
  u8.set(name, at + 2);
  const r = ret(c.connect(fd, base + at, ADDRESS_SIZE));
  if (r >= 0) return fd;
  close(fd);
  return r;
}

/** Sends without waiting. @returns bytes taken, or -errno (-EAGAIN: none). */
export function sendBytes(socket: number, bytes: Uint8Array): number {
  return ret(send(socket, bytes, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/** Receives without waiting. @returns bytes, 0 when the peer has closed, or -errno (-EAGAIN: none). */
export function receiveBytes(socket: number, out: Uint8Array): number {
  return ret(recv(socket, out, out.length, MSG_DONTWAIT));
}
