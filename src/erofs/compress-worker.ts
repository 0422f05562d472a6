// A compression thread: takes slots off the queue, compresses them, says which are done.
// Started by compress-pool.ts with the queue's memory; ends when the queue is closed.
// Waits in Atomics.wait and never returns to its event loop until then, so nothing here may need it.

import { parentPort, workerData } from 'node:worker_threads';
import { Slot, type WorkerSettings } from './compress-job.js';
import { PieceCompressor } from './compress-piece.js';
import { Queue } from './compress-queue.js';

const { settings, queue: shared } = workerData as {
  settings: WorkerSettings;
  queue: SharedArrayBuffer;
};
const queue = new Queue(shared);
const slots = settings.slots.map((address, i) => new Slot(i, address, settings.slot));
const compressor = new PieceCompressor(settings);
for (let slot = queue.take(); slot >= 0; slot = queue.take()) {
  compressor.run(slots[slot] as Slot);
  queue.finish(slot);
  parentPort?.postMessage(slot);
}
