// A thread that makes, names and verifies objects: takes records off the queue until it is closed.
// Started by object-pool.ts; descriptors are those of the process, so records carry them as numbers.
// Waits in Atomics.wait and never returns to its event loop until then, so nothing here may need it.

import { workerData } from 'node:worker_threads';
import { Queue } from '../erofs/compress-queue.js';
import { DigestSet } from './digest-set.js';
import { ObjectJob, type ObjectWorkerData, writerOf } from './object-job.js';

const data = workerData as ObjectWorkerData;
const queue = new Queue(data.queue);
const jobs = Array.from({ length: data.slots }, (_, i) => new ObjectJob(data.records, i));
const writer = writerOf(data, new DigestSet(data.seen));
for (let slot = queue.take(); slot >= 0; slot = queue.take()) {
  (jobs[slot] as ObjectJob).run(writer);
  queue.finish(slot);
}
