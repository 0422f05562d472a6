// Reads random ranges of random files of a mount and compares each with the tree that the mount shows. Ends when it is told to.
// Run by fanotify-kill.test.ts as a process of its own, which may wait in the kernel.
// Arguments: tree, mount, name of a file whose presence ends it. Prints JSON: reads, wrong (ranges that differ), errors.

import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

const [tree = '', mnt = '', stop = ''] = process.argv.slice(2);
const files = readdirSync(tree).filter((name) => statSync(join(tree, name)).isFile());
const pick = (below: number): number => Math.floor(Math.random() * below);
const wrong: string[] = [];
const errors: string[] = [];
let reads = 0;

function readRange(path: string, at: number, length: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
  } finally {
    closeSync(fd);
  }
}

while (!existsSync(stop)) {
  const name = files[pick(files.length)] as string;
  const at = pick(statSync(join(tree, name)).size);
  const length = 1 + pick(20000);
  try {
    const got = readRange(join(mnt, name), at, length);
    if (!got.equals(readRange(join(tree, name), at, length))) {
      const zeros = got.every((byte) => byte === 0) ? ', all zeros' : '';
      wrong.push(`${name} ${at} ${length}: ${got.length} bytes${zeros}`);
    }
  } catch (error) {
    errors.push(String(error));
  }
  reads++;
}
console.log(JSON.stringify({ reads, wrong, errors }));
