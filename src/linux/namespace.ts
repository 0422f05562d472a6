// Mount namespaces: which one this is, who else lives in it, and becoming another program (which may make a new one).
// Used by cli/run.ts, and by the supervisor of a mount that has a namespace to itself.
// Follows: mount_namespaces(7), execve(2), proc_pid_ns(5). Node has threads, so it cannot unshare(2) a user namespace itself.

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { MNT } from './constants.js';
import { majorOf, minorOf } from './device.js';
import { func, ret, stringFunc } from './libc.js';
import { umount2 } from './mount.js';
import { mountTable, parseMountInfo } from './mountinfo.js';

const c = {
  execve: stringFunc(
    'int execve(const char *path, const char **argv, const char **envp)',
  ) as unknown as (path: string, argv: (string | null)[], envp: (string | null)[]) => number,
  pivotRoot: stringFunc('int64_t syscall(int64_t n, const char *root, const char *old)'),
  fcntl: func('int fcntl(int fd, int op, int64_t arg)'),
  signal: func('uint64_t signal(int number, uint64_t handler)'),
};

const PIVOT_ROOT = process.arch === 'arm64' ? 41 : 155;
const F_SETFD = 2;
/** SIGPIPE and SIGXFSZ: what Node ignores. */
const IGNORED = [13, 25];
const SIG_DFL = 0;
const STDIO = [0, 1, 2];

/**
 * Replaces this process by another program: same process id; every descriptor but those of `kept` is closed.
 * @param path of the program, absolute. @param argv with its name first. @param kept default: the standard streams.
 * @returns -errno when that failed; else it does not return.
 */
export function execute(
  path: string,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  kept: readonly number[] = STDIO,
): number {
  // Node marks even these close-on-exec.
  for (const fd of kept) c.fcntl(fd, F_SETFD, 0);
  // What is ignored stays so through execve(2).
  for (const number of IGNORED) c.signal(number, SIG_DFL);
  const words = Object.entries(env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  return ret(c.execve(path, [...argv, null], [...words, null]));
}

/**
 * The working directory, the root of a mount, becomes the root of the mount namespace; what was the root is detached.
 * @returns 0 or -errno.
 */
export function pivotToWorkingDirectory(): number {
  // Both names the same: the old root is mounted on top of the new one (pivot_root(2), "pivot_root(".", ".")").
  const r = ret(c.pivotRoot(PIVOT_ROOT, '.', '.'));
  return r < 0 ? r : umount2('.', MNT.DETACH);
}

/** `mnt:[4026531841]` of a process; undefined when it is gone or not ours to look into. */
export function mountNamespace(pid: number | 'self' = 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** Source of the tmpfs that a mount namespace is known by; see markOf(). */
export const MARK = 'varve';

/**
 * What a mount namespace has that only it and namespaces made in it can have: the tmpfs that was mounted in it at `folder`.
 * @returns its device, `major:minor`; undefined when there is none.
 */
export function markOf(folder: string): string | undefined {
  const { dev } = statSync(folder);
  // Node gives the low half of a dev_t of glibc, which is the kernel's form.
  const device = `${majorOf(dev)}:${minorOf(dev)}`;
  const is = mountTable().some(
    (entry) => entry.device === device && entry.type === 'tmpfs' && entry.source === MARK,
  );
  return is ? device : undefined;
}

/** A mount namespace that is made for one command. */
export interface OwnNamespace {
  /** As mountNamespace() says. */
  readonly id: string;
  /** As markOf() says: with it namespaces that were made inside count as well. */
  readonly mark: string | undefined;
}

/**
 * The processes of a mount namespace that this process sees, itself left out. Those of a namespace that was made in it, as
 * containers have, are among them: such a namespace holds copies of all its mounts.
 */
export function processesOf({ id, mark }: OwnNamespace): number[] {
  const belongs = new Map<string, boolean>([[id, true]]);
  const machine = mountNamespace(1);
  if (machine !== undefined) belongs.set(machine, machine === id);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const namespace = pid === process.pid ? undefined : mountNamespace(pid);
      if (namespace === undefined) return false;
      let is = belongs.get(namespace);
      if (is === undefined) {
        is = mark !== undefined && hasMount(pid, mark);
        belongs.set(namespace, is);
      }
      return is;
    });
}

/** Whether a process sees a mount of a device. */
function hasMount(pid: number, device: string): boolean {
  try {
    const table = parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
    return table.some((entry) => entry.device === device);
  } catch {
    // It is gone, or not ours to look into.
    return false;
  }
}

/** How often is looked for what was started meanwhile. */
const PASSES = 50;

/**
 * Kills every process of a mount namespace, and of those made in it, but this one and those to be spared. Never those of the namespace that the
 * machine's first process lives in.
 */
export function killNamespace(namespace: OwnNamespace, spared: readonly number[] = []): void {
  if (namespace.id === mountNamespace(1)) return;
  const killed = new Set<number>(spared);
  for (let pass = 0; pass < PASSES; pass++) {
    const found = processesOf(namespace).filter((pid) => !killed.has(pid));
    if (found.length === 0) return;
    for (const pid of found) {
      killed.add(pid);
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
  }
}
