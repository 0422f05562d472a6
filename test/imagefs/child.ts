// Starts serve-composefs.ts in a process of its own, and reads what it says.
// Used by the tests that need a mount: serving blocks its thread, so it is never done in the test's process.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { unmountFuse } from '../../src/linux/mount.js';
import type { ServeComposefs } from './serve-composefs.js';

export const SCRIPT = fileURLToPath(new URL('./serve-composefs.js', import.meta.url));

/** A line of serve-composefs.ts. */
interface Said {
  readonly ready?: true;
  readonly log?: string;
  readonly end?: string;
  readonly opens?: number;
  readonly reads?: number;
}

export interface ServedComposefs {
  readonly pid: number;
  readonly mountpoint: string;
  /** Lines of its log so far. */
  logs(): string[];
  /** Waits for a line of the log that has all of `words`. */
  logged(...words: string[]): Promise<string>;
  /** Unmounts, and waits for the process. */
  end(): Promise<Said>;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const PATIENCE = 60_000;

/** @throws Error with what the process said when it ended before it was ready. */
export async function serveComposefs(
  mountpoint: string,
  options: ServeComposefs,
): Promise<ServedComposefs> {
  // A file, not a pipe: the test may wait for the mount, and then would not read what the server waits to write.
  const file = `${mountpoint}.log`;
  const fd = openSync(file, 'w');
  const words = [SCRIPT, mountpoint, JSON.stringify(options)];
  const child = spawn(process.execPath, words, { stdio: ['ignore', fd, fd] });
  closeSync(fd);
  const exited = once(child, 'exit');
  let over = false;
  exited.then(() => {
    over = true;
  });
  const text = (): string => readFileSync(file, 'utf8');
  const said = (): Said[] =>
    text()
      .split('\n')
      // The last one may be half written.
      .slice(0, -1)
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Said);
  const logs = (): string[] => said().flatMap(({ log }) => (log === undefined ? [] : [log]));
  while (!said().some(({ ready }) => ready)) {
    if (over) throw new Error(text());
    await pause(10);
  }
  return {
    pid: child.pid ?? 0,
    mountpoint,
    logs,
    async logged(...parts) {
      const until = Date.now() + PATIENCE;
      for (;;) {
        const line = logs().find((entry) => parts.every((part) => entry.includes(part)));
        if (line !== undefined) return line;
        if (Date.now() > until) throw new Error(`no "${parts.join('", "')}" in ${text()}`);
        await pause(10);
      }
    },
    async end() {
      unmountFuse(mountpoint);
      await exited;
      const last = said().find(({ end }) => end !== undefined);
      if (last === undefined) throw new Error(`no last word: ${text()}`);
      return last;
    },
  };
}
