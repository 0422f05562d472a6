// Puts what is measured before the machine's other work.
// Used by main.ts for whole runs and by images.ts for mounts and clients.
// Follows: sched(7), SCHED_RR.

import { spawnSync } from 'node:child_process';

/**
 * A command prefix that puts what it starts before the machine's other work; empty for a plain user. Not nice(1): that
 * counts only within a session, and daemons start sessions of their own.
 */
export function firstInLine(): string[] {
  const prefix = ['chrt', '--rr', '1'];
  return spawnSync(prefix[0], [...prefix.slice(1), 'true']).status === 0 ? prefix : [];
}
