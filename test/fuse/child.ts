// Starts serve-memfs.ts in a process of its own, and reads what it says.
// Used by the tests that need a real mount: serving blocks its thread, so it is never done in the test's process.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, statfsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { unmountFuse } from '../../src/linux/mount.js';
import type { ServeMemory } from './serve-memfs.js';

export const SCRIPT = fileURLToPath(new URL('./serve-memfs.js', import.meta.url));

export interface Ready {
  readonly by: 'mount' | 'fusermount3';
  readonly minor: number;
  readonly passthrough: boolean;
  readonly writeback: boolean;
}

export interface End {
  readonly end: string;
  readonly held: readonly [number, number][];
  readonly handles: number;
  readonly stopped: boolean;
  readonly requests: number;
  readonly code: number | null;
}

export interface Served {
  readonly child: ChildProcess;
  readonly mountpoint: string;
  readonly ready: Ready;
  /** Lines of its log so far. */
  readonly logs: readonly string[];
  /** Unmounts and waits for the process. @param unmount false when something else has ended the mount. */
  end(unmount?: boolean): Promise<End>;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** @param as words before `node`, for example `setpriv ...`. */
export async function serveMemory(
  mountpoint: string,
  options: ServeMemory = {},
  as: readonly string[] = [],
): Promise<Served> {
  const words = [...as, process.execPath, SCRIPT, mountpoint, JSON.stringify(options)];
  // A file, not a pipe: the test may wait for the mount, and then would not read what the server waits to write.
  const file = `${mountpoint}.log`;
  const fd = openSync(file, 'a');
  const child = spawn(words[0] as string, words.slice(1), { stdio: ['pipe', fd, fd] });
  closeSync(fd);
  const exited = once(child, 'exit') as Promise<[number | null]>;
  let over = false;
  exited.then(() => {
    over = true;
  });

  const said = (): Said[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => (line.startsWith('{') ? (JSON.parse(line) as Said) : { log: line }));
  const logs = (): string[] => said().flatMap(({ log }) => (log === undefined ? [] : [log]));

  let ready: Said | undefined;
  while (ready === undefined) {
    if (over) throw new Error(`serve-memfs ended: ${readFileSync(file, 'utf8')}`);
    await pause(10);
    ready = said().find((line) => line.ready);
  }
  return {
    child,
    mountpoint,
    ready: ready as unknown as Ready,
    get logs() {
      return logs();
    },
    async end(unmount = true) {
      if (unmount) {
        awaitQueued(mountpoint);
        unmountFuse(mountpoint);
      }
      const [code] = await exited;
      const ending = said().find((line) => line.end !== undefined);
      if (ending === undefined) throw new Error(`no last word: ${readFileSync(file, 'utf8')}`);
      return { ...(ending as unknown as End), code };
    },
  };
}

/**
 * RELEASE and FORGET have no waiter: what is queued when the mount goes is lost. A request that has one comes after the former; the
 * latter have a queue of their own, from which the kernel takes at least one entry, of many forgets, for eight requests.
 */
function awaitQueued(mountpoint: string): void {
  for (let i = 0; i < 20; i++) statfsSync(mountpoint);
}

/** A line of serve-memfs.ts. */
interface Said {
  readonly ready?: true;
  readonly end?: string;
  readonly log?: string;
}
