// Answers every request of a mount with EIO: for programs on a mount whose server cannot be replaced, which would wait for ever.
// Started by mount.ts with /dev/fuse as fd 3; knows no filesystem, so that nothing which broke the server breaks it.
// Follows: struct fuse_in_header, fuse_out_header and fuse_attr_out of include/uapi/linux/fuse.h.

import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { read, setNonblocking, write } from '../linux/files.js';
import { mapMemory, SCRATCH_END, u32 } from '../linux/memory.js';
import { pollIn } from '../linux/poll.js';
import { exitNow } from '../linux/process.js';
import { SERVER_FDS } from './protocol.js';

/** No request is larger: 1 MiB of data and its arguments. */
const REQUEST_SIZE = 0x110000;
const REQUEST = SCRATCH_END;
const REPLY = REQUEST + REQUEST_SIZE;

/** u32 indices of a request's header. */
const OPCODE = (REQUEST >>> 2) + 1;
const UNIQUE = (REQUEST >>> 2) + 2;
const NODEID = (REQUEST >>> 2) + 4;

const HEADER_SIZE = 16;
const ATTR_OUT_SIZE = 104;
/** u32 indices of a fuse_attr_out behind the header. */
const ATTR = (REPLY + HEADER_SIZE + 16) >>> 2;

const GETATTR = 3;
const ROOT = 1;
/** The kernel then asks by GETATTR. */
const STATX = 52;
/** FORGET, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET: nobody waits for an answer. */
const UNANSWERED: readonly number[] = [2, 36, 41, 42];

/** Leaves the reply to the request at REPLY. @returns its bytes, 0: none. */
function reply(): number {
  const opcode = u32[OPCODE] as number;
  if (UNANSWERED.includes(opcode)) return 0;
  const k = REPLY >>> 2;
  // So that the mount point can be looked at and unmounted.
  const isRoot = opcode === GETATTR && u32[NODEID] === ROOT && u32[NODEID + 1] === 0;
  const length = isRoot ? HEADER_SIZE + ATTR_OUT_SIZE : HEADER_SIZE;
  u32.fill(0, k, k + length / 4);
  u32[k] = length;
  u32[k + 1] = isRoot ? 0 : opcode === STATX ? -E.NOSYS : -E.IO;
  u32[k + 2] = u32[UNIQUE] as number;
  u32[k + 3] = u32[UNIQUE + 1] as number;
  if (isRoot) {
    u32[ATTR] = ROOT;
    u32[ATTR + 15] = S.IFDIR | 0o555;
    u32[ATTR + 16] = 2;
    u32[ATTR + 17] = process.geteuid?.() ?? 0;
    u32[ATTR + 18] = process.getegid?.() ?? 0;
    u32[ATTR + 20] = 4096;
  }
  return length;
}

function main(): number {
  mapMemory();
  setNonblocking(SERVER_FDS.fuse, true);
  for (;;) {
    const n = read(SERVER_FDS.fuse, REQUEST, REQUEST_SIZE);
    if (n > 0) {
      const length = reply();
      if (length > 0) write(SERVER_FDS.fuse, REPLY, length);
    } else if (n === -E.AGAIN) {
      pollIn([SERVER_FDS.fuse], -1);
    } else if (n === -E.NODEV || n === -E.CONNABORTED) {
      return 0;
    } else if (n !== -E.INTR && n !== -E.NOENT) {
      return 1;
    }
  }
}

exitNow(main());
