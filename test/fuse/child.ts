// Starts serve-memfs.ts in a process of its own, and reads what it says.
// Used by the tests that need a real mount: serving blocks its thread, so it is never done in the test's process.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
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
  readonly logs: string[];
  /** Unmounts and waits for the process. @param unmount false when something else has ended the mount. */
  end(unmount?: boolean): Promise<End>;
}

/** @param as words before `node`, for example `setpriv ...`. */
export async function serveMemory(
  mountpoint: string,
  options: ServeMemory = {},
  as: readonly string[] = [],
): Promise<Served> {
  const words = [...as, process.execPath, SCRIPT, mountpoint, JSON.stringify(options)];
  const child = spawn(words[0] as string, words.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  const logs: string[] = [];
  let ending: Omit<End, 'code'> | undefined;
  let announce: (ready: Ready) => void = () => {};
  const whenReady = new Promise<Ready>((resolve) => {
    announce = resolve;
  });
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const said = JSON.parse(line) as { ready?: true; end?: string; log?: string };
    if (said.ready) announce(said as unknown as Ready);
    else if (said.end !== undefined) ending = said as unknown as End;
    else if (said.log !== undefined) logs.push(said.log);
  });
  child.stderr?.setEncoding('utf8');
  child.stderr?.on('data', (text: string) => logs.push(text));
  const closed = once(child, 'close') as Promise<[number | null]>;
  const died = closed.then(([code]) => {
    throw new Error(`serve-memfs ended with ${code}: ${logs.join('\n')}`);
  });
  died.catch(() => {});
  const ready = await Promise.race([whenReady, died]);
  return {
    child,
    mountpoint,
    ready,
    logs,
    async end(unmount = true) {
      // RELEASE has no waiter: what is queued when the mount goes is lost.
      await new Promise((resolve) => setTimeout(resolve, 100));
      if (unmount) unmountFuse(mountpoint);
      const [code] = await closed;
      if (ending === undefined) throw new Error(`no last word: ${logs.join('\n')}`);
      return { ...ending, code };
    },
  };
}
