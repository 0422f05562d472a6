// What a thread gives up for good: capabilities, new privileges, descriptors, keys, sockets of others.
// Used by sandbox/; what the main thread gives up is given up for every process that it starts and for what it becomes.
// Follows: prctl(2), capset(2), close_range(2), keyctl(2), landlock(7) (scopes: ABI 6, Linux 6.12), waitid(2).

import { E } from './errno.js';
import { ret, syscall } from './libc.js';
import { base, i32, mapMemory, putU64, scratch, u8, u32 } from './memory.js';

// x64 and arm64 number the older ones differently.
const SYS = {
  ...(process.arch === 'arm64'
    ? { capget: 90, capset: 91, prctl: 167, keyctl: 219, waitid: 95, wait4: 260, sethostname: 161 }
    : {
        capget: 125,
        capset: 126,
        prctl: 157,
        keyctl: 250,
        waitid: 247,
        wait4: 61,
        sethostname: 170,
      }),
  close_range: 436,
  landlock_create_ruleset: 444,
  landlock_restrict_self: 446,
} as const;

const call = (number: number, a = 0, b = 0, c = 0, d = 0, e = 0): number =>
  ret(syscall(number, a, b, c, d, e, 0));

const PR = {
  CAPBSET_DROP: 24,
  SET_NO_NEW_PRIVS: 38,
} as const;
/** The kernel knows fewer, and answers EINVAL to the others. */
const CAP_LAST = 63;
const CAPABILITY_VERSION_3 = 0x20080522;
const CLOSE_RANGE_CLOEXEC = 4;
const KEYCTL_JOIN_SESSION_KEYRING = 1;
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1;
const LANDLOCK_ABI_SCOPES = 6;
const P_ALL = 0;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x0100_0000;

// Scratch of this thread: arguments of one call.
const AT = 0x2e400;

/** No program that is started from here gets rights by set-id bits or file capabilities. @returns 0 or -errno. */
export function forbidNewPrivileges(): number {
  return call(SYS.prctl, PR.SET_NO_NEW_PRIVS, 1);
}

/**
 * What the root of a sandbox needs to own files and be several users. Not SYS_PTRACE: nobody of lesser rights may trace
 * the first process, which would stop it for ever.
 */
const OF_ROOT: ReadonlySet<number> = new Set([
  // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT
  ...[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18],
  // AUDIT_WRITE, SETFCAP
  ...[29, 31],
]);

/** Programs that are started from here inherit no capabilities; as root they get those of OF_ROOT. @returns 0 or -errno. */
export function bequeathLittle(): number {
  for (let capability = 0; capability <= CAP_LAST; capability++) {
    if (!OF_ROOT.has(capability)) call(SYS.prctl, PR.CAPBSET_DROP, capability);
  }
  return setCapabilities((k) => {
    for (const inheritable of [k + 2, k + 5]) u32[inheritable] = 0;
  });
}

/** Gives up every capability, those that a later program would get too. @returns 0 or -errno. */
export function dropCapabilities(): number {
  for (let capability = 0; capability <= CAP_LAST; capability++) {
    call(SYS.prctl, PR.CAPBSET_DROP, capability);
  }
  return setCapabilities((k) => u32.fill(0, k, k + 6));
}

/**
 * Ambient capabilities go with what they rest on.
 * @param change told where the sets are: effective, permitted, inheritable; the low halves, then the high ones.
 */
function setCapabilities(change: (index: number) => void): number {
  mapMemory();
  const k = (scratch + AT) >>> 2;
  u32[k] = CAPABILITY_VERSION_3;
  u32[k + 1] = 0;
  const [head, sets] = [base + scratch + AT, base + scratch + AT + 8];
  const r = call(SYS.capget, head, sets);
  if (r < 0) return r;
  change(k + 2);
  return call(SYS.capset, head, sets);
}

/** Closes every descriptor from `first` on when the next program starts. @returns 0 or -errno (ENOSYS before 5.11). */
export function closeOnExecFrom(first: number): number {
  return call(SYS.close_range, first, 0xffff_ffff, CLOSE_RANGE_CLOEXEC);
}

/** A session keyring of its own, empty. @returns 0 or -errno. */
export function newKeyring(): number {
  return Math.min(call(SYS.keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0), 0);
}

/**
 * Programs started from here reach no abstract unix socket of processes outside. Needs forbidNewPrivileges() first.
 * @returns 0; -EOPNOTSUPP where the kernel cannot; or -errno.
 */
export function scopeAbstractSockets(): number {
  const abi = call(SYS.landlock_create_ruleset, 0, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < LANDLOCK_ABI_SCOPES) return -E.OPNOTSUPP;
  // struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped.
  putU64(scratch + AT, 0);
  putU64(scratch + AT + 8, 0);
  putU64(scratch + AT + 16, LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET);
  const ruleset = call(SYS.landlock_create_ruleset, base + scratch + AT, 24, 0);
  // Its descriptor is close-on-exec; this process becomes another program or ends.
  return ruleset < 0 ? ruleset : call(SYS.landlock_restrict_self, ruleset, 0);
}

/** Name of the machine, in a UTS namespace of its own. @param name ASCII. @returns 0 or -errno. */
export function setHostName(name: string): number {
  for (let i = 0; i < name.length; i++) u8[scratch + AT + i] = name.charCodeAt(i);
  return call(SYS.sethostname, base + scratch + AT, name.length);
}

/**
 * Collects the ended children of this process that nobody waits for, as the first process of a PID namespace must.
 * @param spared the child that somebody else waits for.
 */
export function reapOrphans(spared: number): void {
  mapMemory();
  for (;;) {
    // struct siginfo: si_pid at 12.
    const k = (scratch + AT) >>> 2;
    i32.fill(0, k, k + 32);
    const options = WEXITED | WNOHANG | WNOWAIT;
    const r = call(SYS.waitid, P_ALL, 0, base + scratch + AT, options, 0);
    const pid = i32[k + 3] as number;
    if (r < 0 || pid === 0 || pid === spared) return;
    call(SYS.wait4, pid, 0, WNOHANG, 0);
  }
}
