// A loader whose registry is a file: everything else is the real one.
// Started by the supervisor of loader-process.test.ts; arguments: path of the origin, milliseconds of each answer.
// Ends as the real program does.

import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { runLoader } from '../../src/stack/run-loader.js';

const [, , path, delay] = process.argv as [string, string, string, string];

runLoader({
  read: async (_source, _origin, at, length) => {
    if (Number(delay) > 0) await sleep(Number(delay) * Math.random() * 2);
    const file = await open(path);
    const bytes = Buffer.alloc(length);
    await file.read(bytes, 0, length, at);
    await file.close();
    return bytes;
  },
  syncAfter: 20,
}).then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
