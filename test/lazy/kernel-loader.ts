// The loader as a program for tests of the kernel's way in: all of it, but a layer's registry is a folder of the test (lazy-layer.ts).
// Started by the supervisor; killed at any moment.
// What is in the control folder decides how requests end; it gets a line for each of them.

import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Source } from '../../src/lazy/layer-folder.js';
import { runLoader } from '../../src/stack/run-loader.js';

const files = new Map<string, Promise<FileHandle>>();

/** @param source `registry`: the control folder; `repository`: the file that holds the origin. */
async function read(source: Source, at: number, length: number): Promise<Uint8Array> {
  const { registry: control, repository: path } = source;
  const has = (name: string): boolean => existsSync(join(control, name));
  appendFileSync(join(control, 'requests'), `${at} ${length}\n`);
  if (has('latency')) await sleep(Number(readFileSync(join(control, 'latency'), 'utf8')));
  while (has('stall')) await sleep(20);
  if (has('fail')) throw new Error('the registry is down');
  const file = files.get(path) ?? open(path, 'r');
  files.set(path, file);
  const bytes = new Uint8Array(length);
  const { bytesRead } = await (await file).read(bytes, 0, length, at);
  if (has('wrong')) bytes.fill(0x55);
  return bytes.subarray(0, bytesRead);
}

await runLoader({
  read: (source, _origin, at, length) => read(source, at, length),
  pause: [20, 200],
});
process.exit(0);
