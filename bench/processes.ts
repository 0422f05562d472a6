// Which processes serve the mounts of this benchmark, what memory they take, and how they are ended.
// Used by runner.ts, which stands in a pid namespace of its own: whatever else runs there was started by a mount.
// Follows: proc(5), /proc/PID/smaps_rollup.

import { readdirSync, readFileSync } from 'node:fs';

/** Pids of the servers: all of this pid namespace but init, this process and its own children. */
export function serverPids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== 1 && pid !== process.pid && parentOf(pid) !== process.pid);
}

/** Parent of a process; 0 when the process is gone. */
function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // pid (comm) state ppid: comm may hold spaces and parentheses, so count from the last one.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
}

/** PSS of all servers together, in bytes. */
export function serverMemory(): number {
  return serverPids().reduce((sum, pid) => sum + pssOf(pid), 0);
}

/** Proportional set size in bytes: shared pages count by their share, so that a sum is honest. */
function pssOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it ended meanwhile
  }
}

/** Ends every server at once; their mounts answer ENOTCONN from then on, so a stuck client is freed. */
export function killServers(): void {
  for (const pid of serverPids()) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
}
