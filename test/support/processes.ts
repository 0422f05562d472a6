// Processes that carry a mark in their environment: what a test file started, daemons included.
// Used by test/run.ts to show what hangs and to end what a test left behind. Format: proc(5).

import { readdirSync, readFileSync } from 'node:fs';

export interface MarkedProcess {
  pid: number;
  /** Arguments joined by spaces, for display. */
  command: string;
  /** One letter of proc(5): `S` sleeps, `D` waits in the kernel and ignores signals, `Z` is dead. */
  state: string;
  /** Kernel function in which it sleeps; `0` when it runs or when that is not shown. */
  waitsIn: string;
}

/** Every process but this one whose environment holds `NAME=value`, as far as we may look. */
export function processesWith(name: string, value: string): MarkedProcess[] {
  const wanted = `${name}=${value}`;
  const found: MarkedProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (!readProc(pid, 'environ').split('\0').includes(wanted)) continue;
    found.push({
      pid,
      command: readProc(pid, 'cmdline').split('\0').join(' ').trim(),
      state: readProc(pid, 'stat')
        .replace(/^.*\) /s, '')
        .charAt(0),
      waitsIn: readProc(pid, 'wchan'),
    });
  }
  return found;
}

/** SIGKILL for one that may end by itself, or be replaced, at any moment. @returns whether it was still there. */
export function killProcess(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}

/** SIGTERM, then SIGKILL to what is left after `patience` milliseconds. */
export async function endProcessesWith(
  name: string,
  value: string,
  patience: number,
): Promise<void> {
  const deadline = Date.now() + patience;
  let signal: NodeJS.Signals = 'SIGTERM';
  for (let left = processesWith(name, value); left.length > 0; left = processesWith(name, value)) {
    for (const { pid } of left) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
    if (signal === 'SIGKILL') return;
    if (Date.now() >= deadline) signal = 'SIGKILL';
    else await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A process may end while it is looked at, or belong to someone else: then nothing is known. */
function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
