// The loader's look at what this machine has already, before it asks a registry: chunks of other layers of the same store.
// Given to scheduler.ts, which has everything verified.
// The index of a store is made a moment after its first layer came: whoever has just started something does not wait for it.

import { LocalChunks } from '../local-chunks.js';
import type { LayerQueue } from './queue.js';

/** Milliseconds from the first question to the index. */
const DELAY = 1500;

/** @param log told why a store could not be read. */
export function localContent(
  log: (line: string) => void,
): (queue: LayerQueue, i: number) => Promise<Uint8Array | undefined> {
  const stores = new Map<string, LocalChunks | undefined>();
  const prepare = (store: string): void => {
    stores.set(store, undefined);
    setTimeout(() => {
      const chunks = new LocalChunks(store);
      try {
        // The first question makes the index.
        chunks.find(new Uint8Array(32), 0);
        stores.set(store, chunks);
      } catch (error) {
        log(`${store}: ${error instanceof Error ? error.message : error}`);
      }
    }, DELAY).unref();
  };
  return async ({ layer }, i) => {
    const { store } = layer.folder;
    if (!stores.has(store)) prepare(store);
    try {
      return stores.get(store)?.find(layer.table.digest(i), layer.table.length(i));
    } catch {
      // The layer that had it has gone.
      return undefined;
    }
  };
}
