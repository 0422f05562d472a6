// Runs shell scripts for the tests of this folder: real programs, with their output in the failure.
// Used by every test here; nothing of it knows about mounts.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';

export interface Setting {
  cwd?: string;
  /** Added to this process's environment; undefined removes a name. */
  env?: Record<string, string | undefined>;
  input?: string;
  /** Milliseconds, 120,000 by default. */
  timeout?: number;
}

/** Runs a bash script and returns how it ended, with what it printed. */
export function tryShell(script: string, setting: Setting = {}): SpawnSyncReturns<string> {
  const result = spawnSync('bash', ['-euo', 'pipefail', '-c', script], {
    cwd: setting.cwd,
    env: { ...process.env, LC_ALL: 'C', ...setting.env },
    input: setting.input ?? '',
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    timeout: setting.timeout ?? 120_000,
    // A script that waits in a mount ends when the mount does; SIGTERM it may ignore.
    killSignal: 'SIGKILL',
  });
  if (result.error !== undefined && result.status === null && result.signal === null) {
    throw result.error;
  }
  return result;
}

/**
 * Runs a bash script that must succeed.
 *
 * @returns its standard output
 * @throws Error with everything it printed
 */
export function shell(script: string, setting: Setting = {}): string {
  const result = tryShell(script, setting);
  if (result.status === 0) return result.stdout;
  const how = result.signal === null ? `exit code ${result.status}` : `killed by ${result.signal}`;
  const said = `${result.stdout}\n${result.stderr}`.trim().slice(-4000);
  throw new Error(`${how}: ${script.trim().slice(0, 500)}\n${said}`);
}

/** For one word of a shell script. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
