// A thread that reads objects: takes portions of them, answers with what their bytes give.
// Started by compare-objects.ts; ends when it is told to.
// Messages: NamedObject[] in, Comparison[] in the same order out, or a line about what could not be read.

import { parentPort, workerData } from 'node:worker_threads';
import { readPortion } from './compare-portion.js';
import type { NamedObject } from './image-objects.js';
import { ObjectComparer } from './object-comparer.js';

const comparer = new ObjectComparer(workerData as readonly string[]);
parentPort?.on('message', (objects: readonly NamedObject[]) => {
  parentPort?.postMessage(readPortion(comparer, objects));
});
