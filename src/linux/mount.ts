// mount(2), umount2(2), and how a FUSE session gets its mount: as root, in a user namespace, or by fusermount3.
// Called by supervisor/ (which holds the descriptors) and by fuse/mounting.ts; cold paths, failures throw SysError.
// Follows: mount(2), Documentation/filesystems/fuse.rst, fusermount3(1) with _FUSE_COMMFD.

import { spawnSync } from 'node:child_process';
import { closeSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { MNT, MS, S } from './constants.js';
import { check, E, errnoName, SysError } from './errno.js';
import { openFuse } from './fuse-dev.js';
import { ret, stringFunc } from './libc.js';
import { receiveFd, socketpair } from './socket.js';

const c = {
  mount: stringFunc(
    'int mount(const char *source, const char *target, const char *type, uint64_t flags, const char *data)',
  ),
  umount2: stringFunc('int umount2(const char *target, int flags)'),
};

/** mount(2). @param flags bits of MS. @returns 0 or -errno. */
export function mount(
  source: string,
  target: string,
  type: string,
  flags: number,
  data: string,
): number {
  return ret(c.mount(source, target, type, flags, data));
}

/** umount2(2). @param flags bits of MNT. @returns 0 or -errno. */
export function umount2(target: string, flags = 0): number {
  return ret(c.umount2(target, flags));
}

/** How a FUSE mount is to look. */
export interface FuseMount {
  /** Absolute path of an existing directory (or file). */
  readonly mountpoint: string;
  /** First column of /proc/mounts. */
  readonly fsname: string;
  /** The filesystem type becomes `fuse.SUBTYPE`. */
  readonly subtype: string;
  readonly readOnly?: boolean;
  /** Absent: true, as for fusermount3. */
  readonly nosuid?: boolean;
  /** Absent: true. */
  readonly nodev?: boolean;
  readonly noexec?: boolean;
  readonly noatime?: boolean;
  readonly allowOther?: boolean;
  /** The kernel checks modes and ACLs; implied by allowOther. */
  readonly defaultPermissions?: boolean;
  /** Bytes of the largest READ; absent: the kernel's own limit. */
  readonly maxRead?: number;
  /** SELinux label of everything in the mount. */
  readonly context?: string;
}

/** A mounted session. */
export interface FuseMounted {
  /** /dev/fuse, close-on-exec; the caller owns it. */
  readonly fd: number;
  /** Who mounted: then also who unmounts. */
  readonly by: 'mount' | 'fusermount3';
}

const flag = (on: boolean | undefined, bit: number): number => (on ? bit : 0);

/**
 * Mounts a FUSE filesystem: by mount(2) where that is permitted (root, or root of a user namespace that owns the mount
 * namespace), else by fusermount3. Nothing answers on it until a server reads from `fd`.
 * @throws SysError ENOENT, ENOTDIR, EACCES, EPERM (allow_other without user_allow_other), ENODEV (no FUSE here).
 */
export function mountFuse(how: FuseMount): FuseMounted {
  const fd = openFuse();
  if (fd >= 0) {
    const r = mountFd(how, fd);
    if (r >= 0) return { fd, by: 'mount' };
    closeSync(fd);
    if (r !== -E.PERM) throw new SysError('mount', r, how.mountpoint);
  } else if (fd !== -E.ACCES && fd !== -E.PERM) {
    throw new SysError('open', fd, '/dev/fuse');
  }
  return { fd: mountByHelper(how), by: 'fusermount3' };
}

/** mount(2) of the session of `fd`. @returns 0 or -errno. */
export function mountFd(how: FuseMount, fd: number): number {
  const options = [
    `fd=${fd}`,
    `rootmode=${(statSync(how.mountpoint).mode & S.IFMT).toString(8)}`,
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
  ];
  if (how.allowOther) options.push('allow_other');
  if (how.defaultPermissions || how.allowOther) options.push('default_permissions');
  if (how.maxRead !== undefined) options.push(`max_read=${how.maxRead}`);
  if (how.context !== undefined) options.push(`context="${how.context}"`);
  const flags =
    flag(how.readOnly, MS.RDONLY) |
    flag(how.nosuid ?? true, MS.NOSUID) |
    flag(how.nodev ?? true, MS.NODEV) |
    flag(how.noexec, MS.NOEXEC) |
    flag(how.noatime, MS.NOATIME);
  return mount(how.fsname, how.mountpoint, `fuse.${how.subtype}`, flags, options.join(','));
}

/** A comma or backslash inside an option of fusermount3 is escaped by a backslash. */
const escapeOption = (text: string): string => text.replace(/[\\,]/g, (char) => `\\${char}`);

function mountByHelper(how: FuseMount): number {
  const options = [`fsname=${escapeOption(how.fsname)}`, `subtype=${escapeOption(how.subtype)}`];
  if (how.readOnly) options.push('ro');
  // fusermount3 always mounts nosuid,nodev for a plain user.
  if (how.noexec) options.push('noexec');
  if (how.noatime) options.push('noatime');
  if (how.allowOther) options.push('allow_other');
  if (how.defaultPermissions || how.allowOther) options.push('default_permissions');
  if (how.maxRead !== undefined) options.push(`max_read=${how.maxRead}`);
  if (how.context !== undefined) options.push(`context="${escapeOption(how.context)}"`);

  const pair = socketpair();
  if (typeof pair === 'number') throw new SysError('socketpair', pair);
  const [ours, theirs] = pair;
  try {
    const run = spawnSync(helper(), ['-o', options.join(','), '--', how.mountpoint], {
      stdio: ['ignore', 'ignore', 'pipe', theirs],
      env: { ...process.env, _FUSE_COMMFD: '3' },
    });
    if (run.error !== undefined) {
      throw new SysError('fusermount3', E.NOENT, how.mountpoint, { cause: run.error });
    }
    if (run.status !== 0) {
      const cause = new Error(run.stderr.toString().trim());
      throw new SysError('fusermount3', E.PERM, how.mountpoint, { cause });
    }
    return check(receiveFd(ours), 'recvmsg');
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

/** `fusermount3`, or `fusermount` where only that is installed. */
function helper(): string {
  const probe = spawnSync('fusermount3', ['--version'], { stdio: 'ignore' });
  return probe.error === undefined ? 'fusermount3' : 'fusermount';
}

/**
 * Unmounts. umount2(2) where that is permitted, else fusermount3 -u.
 * @param lazy detach now, end when the last user is gone.
 * @throws SysError EBUSY while files are open or directories entered; EINVAL when nothing is mounted there.
 */
export function unmountFuse(mountpoint: string, lazy = false): void {
  const r = umount2(mountpoint, MNT.NOFOLLOW | flag(lazy, MNT.DETACH));
  if (r >= 0) return;
  if (r !== -E.PERM) throw new SysError('umount', r, mountpoint);
  const run = spawnSync(
    helper(),
    lazy ? ['-u', '-z', '--', mountpoint] : ['-u', '--', mountpoint],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  if (run.error !== undefined) throw new SysError('umount', E.PERM, mountpoint);
  if (run.status === 0) return;
  const text = run.stderr.toString().trim();
  const errno = /busy/i.test(text)
    ? E.BUSY
    : /not found|not mounted/i.test(text)
      ? E.INVAL
      : E.PERM;
  throw new SysError('fusermount3 -u', errno, mountpoint, {
    cause: new Error(text === '' ? errnoName(errno) : text),
  });
}

/**
 * Sets how far the kernel reads ahead on a FUSE mount, where it may be set (root of the initial namespace; elsewhere
 * nothing happens). Never looks at the mount itself, whose server may be the caller. Only after INIT, which sets it too.
 * @param kib in KiB; READ requests become as large, up to the session's limit.
 */
export function setReadahead(mountpoint: string, kib: number): void {
  const escaped = mountpoint.replace(
    /[ \t\n\\]/g,
    (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  try {
    const device = readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .map((line) => line.split(' '))
      .findLast(
        (fields) => fields[4] === escaped && fields.some((word) => /^fuse\b/.test(word)),
      )?.[2];
    if (device !== undefined) {
      writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(kib));
    }
  } catch {
    // Not permitted, or /sys is not mounted: the default of 128 KiB stays.
  }
}
