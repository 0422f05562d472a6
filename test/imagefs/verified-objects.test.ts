import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, openSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type Identity,
  identityOfStat,
  isRacy,
  sameIdentity,
  VerifiedObjects,
} from '../../src/imagefs/verified-objects.js';
import { statFd } from '../../src/linux/files.js';
import { mapMemory } from '../../src/linux/memory.js';
import { tempDir } from '../support/temp.js';

mapMemory();

const digest = (i: number): Buffer => createHash('sha256').update(String(i)).digest();
const identity = (i: number): Identity => new Uint32Array(12).fill(7).fill(i, 0, 1);

function identityOf(t: TestContext, change: (file: string) => void): [Identity, Identity] {
  const file = join(tempDir(t), 'f');
  writeFileSync(file, 'one');
  const look = (): Identity => {
    const fd = openSync(file, 'r');
    assert.ok(statFd(fd) > 0);
    closeSync(fd);
    return identityOfStat();
  };
  const before = look();
  change(file);
  return [before, look()];
}

test('a file that is left alone stays what it is', (t) => {
  const [before, after] = identityOf(t, () => {});
  assert.ok(sameIdentity(before, after));
});

for (const [how, change] of [
  ['lengthened', (file: string) => writeFileSync(file, 'longer')],
  ['given another time', (file: string) => utimesSync(file, 1, 2)],
] as const) {
  test(`a file that is ${how} is another`, (t) => {
    const [before, after] = identityOf(t, change);
    assert.ok(!sameIdentity(before, after));
  });
}

test('an object is known with its identity and its digest only', () => {
  const objects = new VerifiedObjects();
  objects.add(identity(1), digest(1));
  assert.ok(objects.has(identity(1), digest(1)));
  assert.ok(!objects.has(identity(2), digest(1)));
  assert.ok(!objects.has(identity(1), digest(2)));
  const close = digest(1);
  close[31] = (close[31] as number) ^ 1;
  assert.ok(!objects.has(identity(1), close));
  for (let word = 0; word < 12; word++) {
    const other = identity(1);
    other[word] = (other[word] as number) + 1;
    assert.ok(!objects.has(other, digest(1)), `word ${word}`);
  }
});

test('many objects are known, and the newest always is', () => {
  const objects = new VerifiedObjects();
  const count = 100_000;
  for (let i = 0; i < count; i++) {
    objects.add(identity(i), digest(i));
    assert.ok(objects.has(identity(i), digest(i)));
  }
  let known = 0;
  for (let i = 0; i < count; i++) if (objects.has(identity(i), digest(i))) known++;
  assert.ok(known > 50_000 && known <= 65_536, `${known}`);
});

test('what was changed just now may change again without its time telling', () => {
  const now = 1_700_000_000_250;
  const changed = (milliseconds: number): Identity => {
    const of = new Uint32Array(12);
    of[4] = Math.floor(milliseconds / 1000) >>> 0;
    of[5] = Math.floor(Math.floor(milliseconds / 1000) / 0x1_0000_0000) >>> 0;
    of[8] = (((milliseconds % 1000) + 1000) % 1000) * 1e6;
    return of;
  };
  assert.ok(isRacy(changed(now), now));
  assert.ok(isRacy(changed(now - 99), now));
  assert.ok(!isRacy(changed(now - 101), now));
  // A clock that was set back: unknown is not old.
  assert.ok(isRacy(changed(now + 5000), now));
  assert.ok(!isRacy(changed(-5000), now));
});

test('a table that is handed on is known to the next; a record that was not finished says nothing', () => {
  const table = new Uint32Array(6 * 1024 * 256);
  const objects = new VerifiedObjects(table);
  objects.add(identity(1), digest(1));
  objects.add(identity(2), digest(2));
  const next = new VerifiedObjects(table);
  assert.ok(next.has(identity(1), digest(1)) && next.has(identity(2), digest(2)));
  const at = table.findIndex((_, i) =>
    table.subarray(i, i + 12).every((w, k) => w === identity(1)[k]),
  );
  table[at + 20] = 0;
  assert.ok(!next.has(identity(1), digest(1)));
  assert.ok(next.has(identity(2), digest(2)));
  next.add(identity(1), digest(1));
  assert.ok(next.has(identity(1), digest(1)));
});
