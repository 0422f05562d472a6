// Empties a layer and fills it again, as often as it may, for evict-live.test.ts: arguments are its folder and a file with all of
// its content. Prints a line for each time.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { evictIdle } from '../../src/lazy/load/evict.js';
import { LoadError, LoadedLayer } from '../../src/lazy/load/layer.js';
import { mapMemory } from '../../src/linux/memory.js';

mapMemory();
const [path = '', whole = ''] = process.argv.slice(2);
const folder = new LayerFolder(path);
const content = readFileSync(whole);

async function fill(): Promise<void> {
  const layer = LoadedLayer.open(folder);
  const { table } = layer;
  for (let i = 0; i < table.count; i++) {
    await layer.put(i, content.subarray(table.at(i), table.at(i) + table.length(i)));
  }
  await layer.complete();
  layer.close();
}

for (await fill(); ; await sleep(Math.random() * 2)) {
  try {
    await evictIdle(folder, 0);
  } catch (error) {
    if (!(error instanceof LoadError)) throw error;
    continue;
  }
  process.stdout.write('evicted\n');
  await fill();
}
