// Processes that read a mount at random while something is killed, and what they must have seen.
// Used by the campaigns fuse-kill.test.ts and fanotify-kill.test.ts; a reader is random-reader.ts.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Place, runFor, until } from './kernel-place.js';

const READER = fileURLToPath(new URL('./random-reader.js', import.meta.url));

interface Read {
  readonly reads: number;
  readonly wrong: readonly string[];
  readonly errors: readonly string[];
}

export class Readers {
  readonly #running: readonly ReturnType<typeof runFor>[];
  readonly #stop: string;

  /** @param seconds that they may live. @param stop a file that ends them when it is there. */
  constructor({ tree, mnt }: Place, count: number, seconds: number, stop: string) {
    this.#stop = stop;
    this.#running = Array.from({ length: count }, () =>
      runFor(seconds, process.execPath, READER, tree, mnt, stop),
    );
  }

  /** Ends them: none has read anything wrong, or got an error. @returns how often they have read. */
  async end(): Promise<number> {
    writeFileSync(this.#stop, '');
    let reads = 0;
    for (const reader of this.#running) {
      const { status, stdout } = await reader;
      assert.equal(status, 0, stdout);
      const read = JSON.parse(stdout) as Read;
      assert.deepEqual({ wrong: read.wrong, errors: read.errors }, { wrong: [], errors: [] });
      reads += read.reads;
    }
    return reads;
  }
}

/** Waits until a few more chunks have been asked for, or none is left. */
export async function works(p: Place): Promise<void> {
  const enough = p.requests() + 1 + Math.floor(Math.random() * 10);
  await until('it works', () => p.requests() >= enough || p.layer.folder.isComplete);
}
