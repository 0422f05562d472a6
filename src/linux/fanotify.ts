// fanotify with pre-content events: whoever reads a marked file waits until the owner of the group says that it may.
// Used by lazy/fanotify/: content is written to a sparse file when it is first read, without FUSE. Needs CAP_SYS_ADMIN and Linux 6.14.
// Follows: fanotify_init(2), fanotify_mark(2), fanotify(7), include/uapi/linux/fanotify.h of Linux 6.18 (the same numbers on every architecture).

import { i32, struct, u8, u16, u32, u64 } from '../bytes/struct.js';
import { O } from './constants.js';
import { E } from './errno.js';
import { func, ret } from './libc.js';
import { addressOf } from './native-memory.js';

const P = 'uint64_t';
const c = {
  fanotify_init: func('int fanotify_init(uint32_t flags, uint32_t event_f_flags)'),
  fanotify_mark: func(
    `int fanotify_mark(int fd, uint32_t flags, uint64_t mask, int dirfd, ${P} path)`,
  ),
  read: func(`int64_t read(int fd, ${P} buf, size_t n)`),
  write: func(`int64_t write(int fd, ${P} buf, size_t n)`),
  poll: func(`int poll(${P} fds, uint64_t n, int timeout)`),
};

const FAN_CLOEXEC = 1;
const FAN_NONBLOCK = 2;
const FAN_CLASS_PRE_CONTENT = 8;
const FAN_UNLIMITED_QUEUE = 0x10;
const FAN_MARK_ADD = 1;
const FAN_MARK_REMOVE = 2;
const FAN_PRE_ACCESS = 0x0010_0000;
const FAN_EVENT_INFO_TYPE_RANGE = 6;
const FAN_ALLOW = 1;
const FAN_DENY = 2;

/** struct fanotify_event_metadata with the struct fanotify_event_info_range behind it: all that this class of group says. */
const Event = struct('fanotify_event', 48, {
  event_len: [0, u32],
  vers: [4, u8],
  reserved: [5, u8],
  metadata_len: [6, u16],
  mask: [8, u64],

  /** An open file in the table of whoever read the event. Its number is what the event is answered by. */
  fd: [16, i32],
  /** Of whoever waits, in the PID namespace of the reader. */
  pid: [20, i32],
  info_type: [24, u8],
  info_pad: [25, u8],
  info_len: [26, u16],
  range_pad: [28, u32],

  offset: [32, u64],
  count: [40, u64],
});

/** Bytes that hold one event, and never two. */
export const EVENT_SIZE = 64;

/** A reader that waits for bytes of a marked file. */
export interface PreContentEvent {
  readonly fd: number;
  readonly pid: number;
  /** Bytes of the file; without a range the whole of it. */
  readonly at: number;
  readonly length: number;
}

/**
 * A group whose events are permissions to read.
 * @returns a descriptor that does not block (close-on-exec), or -errno: EPERM without privilege, EINVAL where the kernel has no such
 * events, EMFILE when there are too many groups (fs.fanotify.max_user_groups).
 */
export function preContentGroup(): number {
  const flags = FAN_CLASS_PRE_CONTENT | FAN_UNLIMITED_QUEUE | FAN_CLOEXEC | FAN_NONBLOCK;
  return ret(c.fanotify_init(flags, O.RDONLY | O.LARGEFILE | O.CLOEXEC));
}

/**
 * From now on reads through descriptors that are opened after this wait for an answer; those opened before never do.
 * @param file any descriptor of the file. @returns 0 or -errno: EOPNOTSUPP or EINVAL where the filesystem or kernel cannot.
 */
export function markPreContent(group: number, file: number): number {
  return ret(c.fanotify_mark(group, FAN_MARK_ADD, FAN_PRE_ACCESS, file, 0));
}

/** Reads of the file wait no more. @returns 0 or -errno. */
export function unmarkPreContent(group: number, file: number): number {
  return ret(c.fanotify_mark(group, FAN_MARK_REMOVE, FAN_PRE_ACCESS, file, 0));
}

/**
 * Reads one event into native memory. The memory must be present for writing: where the kernel has to wait for a page while
 * the process is killed, the waiting reader gets EPERM.
 * @param address of EVENT_SIZE bytes. @returns bytes, or -errno (EAGAIN: there is none).
 */
export function readEvent(group: number, address: number): number {
  return ret(c.read(group, address, EVENT_SIZE));
}

/** @param bytes what readEvent() wrote. @returns undefined when there is no event in it. */
export function decodeEvent(bytes: DataView): PreContentEvent | undefined {
  const event = Event.decode(bytes);
  if (event.event_len === 0) return undefined;
  const { fd, pid } = event;
  const hasRange = event.event_len >= Event.size && event.info_type === FAN_EVENT_INFO_TYPE_RANGE;
  if (!hasRange) return { fd, pid, at: 0, length: Number.MAX_SAFE_INTEGER };
  const clamp = (value: bigint): number =>
    value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
  return { fd, pid, at: clamp(event.offset), length: clamp(event.count) };
}

/**
 * Answers the event of that number, the oldest where there are several.
 * @param errno 0: the reader may go on; else what its read fails with: EIO, EBUSY, EAGAIN, EPERM.
 * @returns 8 or -errno (ENOENT: it was answered, or its reader has been killed).
 */
export function answerEvent(group: number, fd: number, errno: number): number {
  const response = Uint32Array.of(fd >>> 0, errno === 0 ? FAN_ALLOW : FAN_DENY | (errno << 24));
  return ret(c.write(group, addressOf(new Uint8Array(response.buffer)), 8));
}

const POLLIN = 1;

/**
 * Waits until one of `fds` is readable, or broken.
 * @returns which of them.
 */
export function waitForAny(fds: readonly number[]): readonly boolean[] {
  const set = new Uint32Array(2 * fds.length);
  fds.forEach((fd, i) => {
    set[2 * i] = fd;
    set[2 * i + 1] = POLLIN;
  });
  const r = ret(c.poll(addressOf(new Uint8Array(set.buffer)), fds.length, -1));
  if (r < 0 && r !== -E.INTR) return fds.map(() => true);
  return fds.map((_, i) => r > 0 && (set[2 * i + 1] as number) >>> 16 !== 0);
}
