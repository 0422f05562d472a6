import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ObjectTable } from '../../src/imagefs/object-table.js';
import { mapMemory, u32 } from '../../src/linux/memory.js';
import { OBJECTS } from '../../src/vfs/layout.js';

mapMemory();

const digest = (i: number): Uint8Array => new Uint8Array(i % 2 === 0 ? 32 : 64).fill(i + 1);

/** As a SIGKILL: what follows is not done. */
class Cut extends Error {}

/** The arena, which fails at the `last`-th store from now. */
function cutting(last: number): Uint32Array {
  let stores = 0;
  return new Proxy(u32, {
    set(target, key, value) {
      if (++stores === last) throw new Cut();
      return Reflect.set(target, key, value, target);
    },
    get: (target, key) => Reflect.get(target, key, target),
  });
}

/** Which slot an object has, 0: none. Derived again by a successor. */
type Slots = number[];

/** A request that opens (1) or closes (-1) an object. */
interface Step {
  readonly object: number;
  readonly by: 1 | -1;
}

const open = (object: number): Step => ({ object, by: 1 });
const close = (object: number): Step => ({ object, by: -1 });
const steps: Step[] = [
  ...[open(0), open(1), open(0), close(1), open(2), close(0), open(1), open(3)],
  ...[close(2), close(0), open(0), open(0), open(2), close(1), close(3), close(0)],
];
const atTheEnd = [
  [0, { users: 1, backing: 10 }],
  [2, { users: 1, backing: 12 }],
];

const RESENT = 0x8000_0000;

function handle(table: ObjectTable, slots: Slots, i: number, again: boolean): void {
  const { object, by } = steps[i] as Step;
  const r = { uniqueLo: 2 * i, uniqueHi: again ? RESENT + 7 : 7 };
  let slot = slots[object] ?? 0;
  if (by > 0) {
    if (slot === 0) slots[object] = slot = table.add(digest(object));
    if (table.backing(slot) < 0) table.setBacking(slot, 10 + object);
    table.change(r, slot, 1);
    return;
  }
  // A RELEASE that was done already names nothing any more.
  if (slot === 0) return;
  table.change(r, slot, -1);
  if (table.users(slot) > 0) return;
  slots[object] = 0;
  table.remove(slot);
}

/** The slots of a table that a successor has taken over; those without users are removed. */
function takeOver(table: ObjectTable): Slots {
  const slots: Slots = [];
  for (const slot of table.succeed()) {
    const bytes = table.digest(slot);
    const object = (bytes[0] as number) - 1;
    assert.deepEqual(bytes, digest(object), 'a digest is whole');
    if (table.users(slot) === 0) {
      table.remove(slot);
      continue;
    }
    assert.equal(slots[object] ?? 0, 0, 'an object is there once');
    slots[object] = slot;
  }
  return slots;
}

const clear = (): unknown => u32.fill(0, OBJECTS >>> 2, (OBJECTS >>> 2) + 32 * 256);

/**
 * Does all steps; each server ends at the store that `cuts` says, and the next one begins with the request in hand, or
 * with `between` others before it.
 * @returns what there is at the end, or undefined when a server was through before its cut.
 */
function run(cuts: readonly number[], between = false): unknown[] | undefined {
  clear();
  const ends = [...cuts];
  let table = new ObjectTable(cutting(ends.shift() ?? 0));
  let slots: Slots = [];
  let again = false;
  for (let i = 0; i < steps.length; ) {
    try {
      handle(table, slots, i, again);
      i++;
      again = false;
    } catch (error) {
      assert.ok(error instanceof Cut);
      const words = cutting(ends.shift() ?? 0);
      // Taking over may be cut short as well.
      for (let taken = false; !taken; ) {
        table = new ObjectTable(words);
        try {
          slots = takeOver(table);
          taken = true;
        } catch (cut) {
          assert.ok(cut instanceof Cut);
        }
      }
      again = true;
      if (!between) continue;
      const other = table.add(digest(9));
      table.change({ uniqueLo: 1000 + i, uniqueHi: 7 }, other, 1);
      table.change({ uniqueLo: 2000 + i, uniqueHi: 7 }, other, -1);
      table.remove(other);
    }
  }
  if (ends.length > 0) return undefined;
  return slots.flatMap((slot, object) =>
    slot ? [[object, { users: table.users(slot), backing: table.backing(slot) }]] : [],
  );
}

test('the users of each object are right, wherever a server ended', () => {
  assert.deepEqual(run([]), atTheEnd);
  let cuts = 0;
  for (let last = 1; ; last++) {
    assert.deepEqual(run([last]), atTheEnd, `store ${last}`);
    assert.deepEqual(run([last], true), atTheEnd, `store ${last}, others before it`);
    if (!reached(last)) break;
    cuts++;
  }
  assert.ok(cuts > 100, `${cuts} cuts`);
});

test('and wherever its successor ended then', () => {
  for (let last = 1; reached(last); last += 3) {
    for (let next = 1; next < 24; next++) {
      assert.deepEqual(run([last, next, 5]) ?? atTheEnd, atTheEnd, `store ${last}, then ${next}`);
    }
  }
});

/** Whether the steps make so many stores. */
function reached(last: number): boolean {
  clear();
  const table = new ObjectTable(cutting(last));
  const slots: Slots = [];
  try {
    for (let i = 0; i < steps.length; i++) handle(table, slots, i, false);
    return false;
  } catch {
    return true;
  }
}

test('a request that opens and is undone does both', () => {
  clear();
  const table = new ObjectTable();
  const slot = table.add(digest(1));
  for (const by of [1, -1] as const) table.change({ uniqueLo: 4, uniqueHi: 0 }, slot, by);
  assert.equal(table.users(slot), 0);
});

test('what an object was when it was compared is whole or not there, wherever a server ended', () => {
  const identity = (i: number): Uint32Array => new Uint32Array(12).fill(i);
  for (let last = 0; last <= 30; last++) {
    clear();
    const plain = new ObjectTable();
    const slot = plain.add(digest(1));
    assert.equal(plain.verified(slot), undefined);
    const table = new ObjectTable(cutting(last));
    try {
      for (const i of [1, 2]) table.setVerified(slot, identity(i));
    } catch (error) {
      assert.ok(error instanceof Cut);
    }
    const found = plain.verified(slot);
    if (found !== undefined) assert.deepEqual(found, identity(found[0] as number), `store ${last}`);
    // Thirteen stores each; the one that takes the first away is the fourteenth.
    const whole = last === 0 || last === 14 || last > 26;
    assert.equal(found !== undefined, whole, `store ${last}`);
    plain.setVerified(slot, undefined);
    assert.equal(plain.verified(slot), undefined);
  }
});

test('an fh of a predecessor is never given out again', () => {
  clear();
  const seen = new Set<string>();
  for (let life = 0; life < 5; life++) {
    const table = new ObjectTable();
    for (const slot of table.succeed()) table.remove(slot);
    for (let i = 0; i < 20; i++) {
      const slot = table.add(digest(i));
      const fh = `${slot}.${table.generation(slot)}`;
      assert.ok(!seen.has(fh), fh);
      seen.add(fh);
      if (i % 3 === 0) table.remove(slot);
    }
  }
  assert.equal(seen.size, 100);
});
