// A process of actors (actor.ts), which take turns on a folder until a system call fails.
// Arguments: the folder, a folder for their logs, a seed, the actors' names. Started by crash.ts; not a test itself.
// A log has a line before each operation and one after it, with the time in milliseconds since 1970.

import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AT, must, O, sys } from '../support/sys.js';
import { Actor } from './actor.js';

const [folder, logs, seed, ...names] = process.argv.slice(2);
if (folder === undefined || logs === undefined) throw new Error('usage: FOLDER LOGS SEED NAME...');

sys.umask(0o022);
const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
const actors = names.map((name, i) => ({
  actor: new Actor(name, Number(seed) + i),
  log: openSync(join(logs, name), 'w'),
}));

for (let turn = 0; ; turn++) {
  const { actor, log } = actors[turn % actors.length] as (typeof actors)[0];
  const op = actor.next();
  writeSync(log, `begun ${Date.now()}\n`);
  try {
    op.run(root);
  } catch (error) {
    writeSync(log, `failed ${Date.now()} ${op.text}: ${(error as Error).message}\n`);
    break;
  }
  op.apply();
  writeSync(log, `done ${Date.now()}\n`);
}
