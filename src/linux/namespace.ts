// Mount namespaces: which one this is, who else lives in it, and becoming another program (which may make a new one).
// Used by cli/run.ts, and by the supervisor of a mount that has a namespace to itself.
// Follows: mount_namespaces(7), execve(2), proc_pid_ns(5). Node has threads, so it cannot unshare(2) a user namespace itself.

import { readdirSync, readlinkSync } from 'node:fs';
import { func, ret, stringFunc } from './libc.js';

const c = {
  execve: stringFunc(
    'int execve(const char *path, const char **argv, const char **envp)',
  ) as unknown as (path: string, argv: (string | null)[], envp: (string | null)[]) => number,
  fcntl: func('int fcntl(int fd, int op, int64_t arg)'),
};

const F_SETFD = 2;
const STDIO = [0, 1, 2];

/**
 * Replaces this process by another program: same process id, same standard streams; every other descriptor is closed.
 * @param path of the program, absolute. @param argv with its name first.
 * @returns -errno when that failed; else it does not return.
 */
export function execute(path: string, argv: readonly string[], env: NodeJS.ProcessEnv): number {
  // Node marks even these close-on-exec.
  for (const fd of STDIO) c.fcntl(fd, F_SETFD, 0);
  const words = Object.entries(env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  return ret(c.execve(path, [...argv, null], [...words, null]));
}

/** `mnt:[4026531841]` of a process; undefined when it is gone or not ours to look into. */
export function mountNamespace(pid: number | 'self' = 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** The processes of a mount namespace that this process sees, itself left out. */
export function processesOf(namespace: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && mountNamespace(pid) === namespace);
}

/** How often is looked for what was started meanwhile. */
const PASSES = 50;

/**
 * Kills every process of a mount namespace but this one and those to be spared. Never those of the namespace that the
 * machine's first process lives in.
 */
export function killNamespace(namespace: string, spared: readonly number[] = []): void {
  if (namespace === mountNamespace(1)) return;
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
