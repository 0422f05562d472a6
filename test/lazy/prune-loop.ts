// Removes what no image names from a store, again and again, for prune-pull.test.ts: argument is the store. Prints a line for each layer.

import { setTimeout as sleep } from 'node:timers/promises';
import { pruneLayers } from '../../src/lazy/prune.js';
import { mapMemory } from '../../src/linux/memory.js';

mapMemory();
const store = process.argv[2] as string;
for (;;) {
  const { layers } = pruneLayers(store);
  if (layers > 0) process.stdout.write('layer\n'.repeat(layers));
  await sleep(1);
}
