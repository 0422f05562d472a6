// Adds, names, unnames and collects in one store until it is killed: the victim of kill.test.ts.
// Arguments: the store, a folder of sources, a seed. Says `ready` when it begins.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../../src/store/errors.js';
import { collectGarbage } from '../../../src/store/gc.js';
import { listRefs, removeRef } from '../../../src/store/images.js';
import { Store } from '../../../src/store/store.js';
import { addFolder } from '../stores.js';

const [path, sources, seed] = process.argv.slice(2) as [string, string, string];
const store = new Store(path);
const folders = readdirSync(sources);
let state = Number(seed) >>> 0;

function random(below: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

async function step(): Promise<void> {
  switch (random(4)) {
    case 0:
      collectGarbage(store);
      break;
    case 1: {
      const refs = listRefs(store);
      const ref = refs[random(refs.length)];
      if (ref !== undefined) removeRef(store, ref.name);
      break;
    }
    default: {
      const folder = folders[random(folders.length)] as string;
      const name = random(3) === 0 ? undefined : `n${random(2)}/${random(3)}`;
      await addFolder(store, join(sources, folder), { name, threads: 2, named: random(3) === 0 });
    }
  }
}

process.stdout.write('ready\n');
for (;;) {
  try {
    await step();
  } catch (error) {
    // Another one works beside this one, and may have taken a name first.
    const { code } = error as NodeJS.ErrnoException;
    const known = error instanceof StoreError && (error.kind === 'busy' || error.kind === 'absent');
    if (!known && code !== 'ENOENT') throw error;
  }
}
