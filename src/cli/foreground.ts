// What `-f` does once a mount stands: copies the server's log to stderr, unmounts on signals, waits for the end.
// Called by mount.ts and overlayfs.ts.
// A second Ctrl-C detaches a mount that is still in use.

import { closeSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { mountAt } from '../linux/mountinfo.js';
import { plain } from '../report/words.js';
import type { Mounted } from '../stack/mount.js';
import type { Reply } from '../supervisor/protocol.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { harmless } from './output.js';

/** Milliseconds between two looks at the log or the mount table. */
const INTERVAL = 200;

export interface Watched {
  readonly served: Mounted['served'];
  readonly mountpoint: string;
  readonly unmount: (lazy: boolean) => Promise<unknown>;
  readonly throwRefusal: (reply: Reply) => void;
}

let early = 0;
const note = (): void => {
  early++;
};

/** From here on a signal waits for watchGone(): the mount may stand before the command knows. */
export function holdSignals(): void {
  process.on('SIGINT', note);
  process.on('SIGTERM', note);
}

/** @returns the exit code of the command. */
export async function watchGone(watched: Watched): Promise<number> {
  let tries = 0;
  const leave = (): void => {
    const lazy = tries++ > 0;
    watched.unmount(lazy).catch((error) => {
      process.stderr.write(`varve: ${lineOf(error)}${lazy ? '' : ' (again to detach it)'}\n`);
    });
  };
  process.on('SIGINT', leave);
  process.on('SIGTERM', leave);
  process.off('SIGINT', note);
  process.off('SIGTERM', note);
  if (early > 0) leave();
  const log = watched.served === undefined ? undefined : followLog(watched.served.status.log);
  try {
    if (watched.served === undefined) {
      await untilUnmounted(watched.mountpoint);
      return EXIT.ok;
    }
    const { supervisor } = watched.served;
    const reply = await supervisor.ask({ op: 'wait', mountpoint: watched.mountpoint });
    supervisor.close();
    watched.throwRefusal(reply);
    if (reply.why === undefined) return EXIT.ok;
    process.stderr.write(`varve: ${plain(reply.why)}\n`);
    return EXIT.server;
  } catch (error) {
    process.stderr.write(`varve: ${lineOf(error)}\n`);
    return exitCodeOf(error);
  } finally {
    log?.();
    process.off('SIGINT', leave);
    process.off('SIGTERM', leave);
  }
}

/** A kernel mount has nobody who could tell of its end. */
async function untilUnmounted(mountpoint: string): Promise<void> {
  while (mountAt(mountpoint) !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

/** Copies what is appended to a file to stderr. @returns how to end it. */
function followLog(path: string): () => void {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    // The mount is over already.
    return () => {};
  }
  const chunk = Buffer.alloc(65536);
  const decoder = new StringDecoder();
  let at = 0;
  const copy = (): void => {
    for (;;) {
      const n = readSync(fd, chunk, 0, chunk.length, at);
      if (n === 0) return;
      at += n;
      process.stderr.write(harmless(decoder.write(chunk.subarray(0, n))));
    }
  };
  const timer = setInterval(copy, INTERVAL);
  return () => {
    clearInterval(timer);
    copy();
    closeSync(fd);
  };
}
