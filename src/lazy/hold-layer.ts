// Keeps pruneLayers() (prune.ts) away from layers that are used, or that an image is about to name.
// Taken by pull/ and push for as long as they are at work, by a server for as long as it serves, by whoever mounts by the kernel.
// The lock is a shared flock(2) on `blob`, which keeps its inode as long as the layer is there; it ends with the process.

import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { E } from '../linux/errno.js';
import { lockFile } from '../linux/peer.js';
import { LayerFolder } from './layer-folder.js';

/** Milliseconds for which somebody who removes a layer has the lock, at most, and between two looks. */
const PATIENCE = 5000;
const LOOK = 10;

/** Whether `blob`, as it is open, is held from now on; false: the layer is being removed, or was. */
export function holdBlob(blob: number, folder: LayerFolder): boolean {
  // Where there are no such locks nobody removes anything.
  return lockFile(blob, true) !== -E.AGAIN && isAt(blob, folder.blob);
}

/** Whether a name is still that of the file that was opened by it. */
export function isAt(fd: number, path: string): boolean {
  const there = statSync(path, { throwIfNoEntry: false });
  const { dev, ino } = fstatSync(fd);
  return there !== undefined && there.dev === dev && there.ino === ino;
}

/** Layers of one store that are held until release(). */
export class LayerHolds {
  readonly #store: string;
  readonly #held = new Map<string, number>();

  constructor(store: string) {
    this.#store = store;
  }

  /** @returns whether the layer is there, and held from now on. */
  async hold(id: string): Promise<boolean> {
    const folder = LayerFolder.of(this.#store, id);
    for (let waited = 0; !this.#held.has(id); waited += LOOK) {
      const blob = openIfThere(folder.blob);
      if (blob === undefined || waited > PATIENCE) return false;
      if (holdBlob(blob, folder)) this.#held.set(id, blob);
      else {
        closeSync(blob);
        await sleep(LOOK);
      }
    }
    return true;
  }

  /** `get` puts the layer into the store unless it is there. It is held when this returns, also when it was removed meanwhile. */
  async holdAs(id: string, get: () => Promise<unknown>): Promise<void> {
    const isThere = await this.hold(id);
    await get();
    if (isThere) return;
    while (!(await this.hold(id))) await get();
  }

  release(): void {
    for (const blob of this.#held.values()) closeSync(blob);
    this.#held.clear();
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
