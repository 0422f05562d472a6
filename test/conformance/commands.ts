// Runs programs of the suites: output kept, a limit of time, and a place on a mount to run in.
// Used by the suites' runners.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Setting } from './score.js';

export interface Finished {
  /** undefined: killed because it took too long. */
  code: number | undefined;
  /** Both streams as they came. */
  output: string;
}

/** @param limit seconds */
export async function command(
  program: string,
  args: readonly string[],
  { cwd = '/', limit }: { cwd?: string; limit: number },
): Promise<Finished> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('latin1').on('data', (text: string) => chunks.push(text));
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    // The whole group: a suite is a tree of processes.
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, limit * 1000);
  // Not `close`: a server that the suite started may hold the pipes for as long as it lives.
  const code = await new Promise<number | undefined>((resolve) => {
    child.on('error', (error) => {
      chunks.push(String(error));
      resolve(127);
    });
    child.on('exit', (status) => resolve(late ? undefined : (status ?? 128)));
  });
  clearTimeout(timer);
  await new Promise((resolve) => setTimeout(resolve, 20));
  child.stdout.destroy();
  child.stderr.destroy();
  return { code, output: chunks.join('') };
}

/**
 * A stack of one lower and an upper, mounted while `use` runs.
 * @param fill makes the lower's content
 */
export async function onMount<T>(
  { work, peer }: Setting,
  name: string,
  fill: (lower: string) => void,
  use: (mountpoint: string, lower: string) => Promise<T>,
): Promise<T> {
  const path = (part: string) => join(work, name, part);
  const [lower, upper, workdir, mountpoint] = ['lower', 'upper', 'work', 'mnt'].map(path);
  for (const folder of [lower, upper, workdir, mountpoint]) mkdirSync(folder, { recursive: true });
  fill(lower);
  peer.subject.mount({ lowers: [lower], upper, work: workdir, mountpoint });
  try {
    return await use(mountpoint, lower);
  } finally {
    peer.subject.unmount(mountpoint);
  }
}
