// The map of what is here: what it says after a crash of the machine, to another process, and when chunks go.
// Under test: src/lazy/residency.ts. A crash is made by giving the file the boot id of another boot.
// Nothing that is merely HERE may survive it.

import assert from 'node:assert/strict';
import {
  closeSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ResidencyError, ResidencyMap } from '../../src/lazy/residency.js';
import { tempDir } from '../support/temp.js';

/** Where the head has the boot's id, and where the first chunk's byte is. */
const BOOT = 32;
const FIRST = 4096;

function crash(path: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(16, 7), 0, 16, BOOT);
  closeSync(fd);
}

test('after a crash of the machine only what was on disk is here', (t) => {
  const path = join(tempDir(t), 'map');
  const map = ResidencyMap.open(path, 1000, true);
  for (let i = 0; i < 1000; i += 2) map.mark(i);
  for (let i = 0; i < 1000; i += 4) map.markDurable(i);
  map.close();

  const same = ResidencyMap.open(path, 1000, true);
  for (let i = 0; i < 1000; i++) assert.equal(same.isHere(i), i % 2 === 0, `the same boot, ${i}`);
  same.close();

  crash(path);
  const next = ResidencyMap.open(path, 1000, true);
  for (let i = 0; i < 1000; i++) {
    assert.equal(next.isHere(i), i % 4 === 0, `another boot, ${i}`);
    assert.equal(next.isDurable(i), i % 4 === 0);
  }
  assert.equal(next.nextAbsent(0), 1);
  assert.equal(next.allHere(4, 5), true);
  assert.equal(next.allHere(4, 6), false);
  next.close();

  const id = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim().replaceAll('-', '');
  const head = Buffer.alloc(16);
  const fd = openSync(path, 'r');
  readSync(fd, head, 0, 16, BOOT);
  closeSync(fd);
  assert.equal(head.toString('hex'), id, 'the map is of this boot now');
});

test('a crash while a map is made leaves one that is made anew', (t) => {
  const path = join(tempDir(t), 'map');
  // Content of chunks without the mark in the head: nobody vouches for it.
  writeFileSync(path, Buffer.alloc(FIRST + 100, 2).fill(0, 0, FIRST));
  const map = ResidencyMap.open(path, 100, true);
  assert.equal(map.nextAbsent(0), 0);
  map.close();
});

test('what the loader marks is seen by others at once, and what it takes back with another generation', (t) => {
  const path = join(tempDir(t), 'map');
  const own = ResidencyMap.open(path, 64, true);
  const other = ResidencyMap.open(path, 64, false);
  t.after(() => {
    own.close();
    other.close();
  });
  own.mark(5);
  own.mark(6);
  own.markDurable(6);
  assert.ok(other.isHere(5) && other.isHere(6) && other.isDurable(6) && !other.isDurable(5));
  own.setComplete();
  assert.ok(other.isComplete);
  own.clear([6]);
  assert.equal(other.isHere(6), false);
  assert.equal(other.isComplete, false);
  assert.equal(other.generation, 1);
  own.markDurable(6);
  assert.equal(other.isHere(6), false, 'what was taken back meanwhile does not become durable');
});

test('a map that is none, or that of another table, is refused', (t) => {
  const path = join(tempDir(t), 'map');
  writeFileSync(path, Buffer.alloc(FIRST + 64));
  assert.throws(() => ResidencyMap.open(path, 64, false), ResidencyError);
  ResidencyMap.open(path, 64, true).close();
  assert.throws(() => ResidencyMap.open(path, 63, false), ResidencyError);
  assert.throws(() => ResidencyMap.open(path, 65, true), ResidencyError);
  for (const size of [FIRST + 10, 10, 0]) {
    truncateSync(path, size);
    assert.throws(() => ResidencyMap.open(path, 64, false), ResidencyError);
  }
});
