// What this process may do, and on what machine: capabilities, user namespace, processors.
// Asked once a start by fuse/server.ts and by `varve doctor`.
// Follows: capabilities(7), user_namespaces(7), proc(5), setfsuid(2).

import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { O } from './constants.js';
import { func, ret, stringFunc, syscall } from './libc.js';
import { base, getU64, putU64, scratch } from './memory.js';

const c = {
  exit: func('void _exit(int status)'),
  umask: func('uint32_t umask(uint32_t mask)'),
  prlimit: func('int prlimit(int pid, int resource, uint64_t limit, uint64_t old)'),
  chroot: stringFunc('int chroot(const char *path)'),
};

/** Makes `path` the root directory of this process, its threads and its children. @returns 0 or -errno. */
export function changeRoot(path: string): number {
  return ret(c.chroot(path));
}

/** Bits of capabilities(7). */
export const CAP = { CHOWN: 0, DAC_READ_SEARCH: 2, SYS_ADMIN: 21, MKNOD: 27 } as const;

function field(file: string, name: string): string | undefined {
  try {
    const line = readFileSync(file, 'latin1')
      .split('\n')
      .find((text) => text.startsWith(`${name}:`));
    return line?.slice(name.length + 1).trim();
  } catch {
    return undefined;
  }
}

/** Whether the effective set has `capability` (in whatever user namespace this is). */
export function hasCapability(capability: number): boolean {
  const mask = BigInt(`0x${field('/proc/self/status', 'CapEff') ?? '0'}`);
  return (mask >> BigInt(capability)) % 2n === 1n;
}

/** Whether this is the initial user namespace (the one that maps every id to itself). */
export function inInitialUserNamespace(): boolean {
  try {
    return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
  } catch {
    return false;
  }
}

/** Whether a fatal signal (SIGKILL: bit 8) is pending for a thread; false when it is not visible from here. */
export function isBeingKilled(tid: number): boolean {
  if (tid === 0) return false;
  const file = `/proc/${tid}/status`;
  for (const name of ['SigPnd', 'ShdPnd']) {
    const mask = field(file, name);
    if (mask !== undefined && (BigInt(`0x${mask}`) >> 8n) % 2n === 1n) return true;
  }
  return false;
}

/** Calls that have the kernel read capabilities but write nothing: of chown(2) and getxattr(2) all forms. */
const ASKING =
  process.arch === 'arm64' ? [8, 9, 10, 54, 55, 464] : [92, 93, 94, 191, 192, 193, 260, 464];

/**
 * Whether a thread is likely to be writing to the file with this st_ino: it has that open for writing, and is in no call
 * that is known to do something else. True for a thread that is not visible from here.
 */
export function mayWriteTo(tid: number, ino: bigint): boolean {
  const folder = `/proc/${tid}/fdinfo`;
  try {
    const call = Number.parseInt(readFileSync(`/proc/${tid}/syscall`, 'latin1'), 10);
    if (ASKING.includes(call)) return false;
    return readdirSync(folder).some((fd) => {
      if (field(`${folder}/${fd}`, 'ino') !== String(ino)) return false;
      return (Number.parseInt(field(`${folder}/${fd}`, 'flags') ?? '0', 8) & O.ACCMODE) !== 0;
    });
  } catch {
    return true;
  }
}

/** Processors this process may run on. */
export function processors(): number {
  return availableParallelism();
}

/** Sets the umask of the whole process. @returns the one before. */
export function setUmask(mask: number): number {
  return c.umask(mask);
}

// Without libc, whose wrappers are meant for whole processes. x64 and arm64 number them differently.
const SYS =
  process.arch === 'arm64' ? { setfsuid: 151, setfsgid: 152 } : { setfsuid: 122, setfsgid: 123 };

/**
 * Makes this thread touch files as somebody else: owner of what it makes, and permissions (for root also without
 * CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID and CAP_MKNOD until it is uid 0 again). No other thread changes.
 */
export function setFsIds(uid: number, gid: number): void {
  syscall(SYS.setfsgid, gid, 0, 0, 0, 0, 0);
  syscall(SYS.setfsuid, uid, 0, 0, 0, 0, 0);
}

const RLIMIT_NOFILE = 7;
// struct rlimit in scratch: soft and hard limit, u64 each.
const LIMIT_AT = 0x2d100;

/** Raises the soft limit of open files to the hard one. @returns what it is then. */
export function raiseFileLimit(): number {
  const at = scratch + LIMIT_AT;
  if (ret(c.prlimit(0, RLIMIT_NOFILE, 0, base + at)) < 0) return 1024;
  const hard = getU64(at + 8);
  putU64(at, hard);
  if (ret(c.prlimit(0, RLIMIT_NOFILE, base + at, 0)) < 0) return 1024;
  return hard;
}

/** Ends the process at once, with all its threads: nothing is flushed, no exit handler runs. */
export function exitNow(status: number): never {
  c.exit(status);
  throw new Error('_exit returned');
}
