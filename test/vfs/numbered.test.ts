// Nodes whose nodeids are inode numbers (nfs_export=on): found by them, and by nothing else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mapMemory } from '../../src/linux/memory.js';
import {
  allocNode,
  F,
  findIno,
  freeNode,
  handleGeneration,
  insertIno,
  isNodeid,
  nodeidHi,
  nodeidLo,
  numberNodes,
  ownNodeid,
  put,
  ROOT,
  slotOf,
} from '../../src/vfs/nodes.js';

mapMemory();
numberNodes(true);
const REG = 8;
assert.equal(allocNode(4), ROOT);

function enter(lo: number, hi: number, generation: number): number {
  const slot = allocNode(REG);
  put(slot, F.inoLo, lo);
  put(slot, F.inoHi, hi);
  put(slot, F.generation, generation);
  insertIno(slot);
  return slot;
}

test('the root is what FUSE calls 1', () => {
  assert.equal(slotOf(1, 0), ROOT);
  assert.deepEqual([nodeidLo(ROOT), nodeidHi(ROOT), handleGeneration(ROOT)], [1, 0, 0]);
});

test('a node is found by its number, whatever its slot is, until it is freed', () => {
  const word = fc.integer({ min: 2, max: 0xffffffff });
  const number = fc.tuple(word, fc.integer({ min: 0, max: 0x7fffffff }), word);
  const numbers = fc.uniqueArray(number, {
    selector: ([lo, hi]) => `${lo}:${hi}`,
    maxLength: 200,
  });
  fc.assert(
    fc.property(numbers, (list) => {
      const slots = list.map(([lo, hi, generation]) => enter(lo, hi, generation));
      for (const [i, [lo, hi, generation]] of list.entries()) {
        const slot = slots[i] as number;
        assert.equal(slotOf(lo, hi), slot);
        assert.deepEqual([nodeidLo(slot), nodeidHi(slot)], [lo, hi]);
        assert.equal(handleGeneration(slot), generation);
        assert.equal(
          slotOf(slot, generation),
          list.findIndex(([l, h]) => l === slot && h === generation) < 0 ? 0 : slot,
        );
      }
      for (const slot of slots) freeNode(slot);
      for (const [lo, hi] of list) assert.equal(slotOf(lo, hi), 0);
    }),
    { numRuns: 50 },
  );
});

test('a node whose number is taken has a nodeid of its own, and does not answer to the number', () => {
  const first = enter(77, 5, 1234);
  const second = allocNode(REG);
  put(second, F.inoLo, 77);
  put(second, F.inoHi, 5);
  ownNodeid(second);
  insertIno(second);
  assert.equal(findIno(77, 5), first);
  assert.equal(slotOf(77, 5), first);
  const [lo, hi] = [nodeidLo(second), nodeidHi(second)];
  assert.ok(!isNodeid(lo, hi), 'no number looks like it');
  assert.equal(slotOf(lo, hi), second);
  assert.equal(handleGeneration(second), 0);
  freeNode(second);
  assert.equal(slotOf(lo, hi), 0);
  // The slot's next node answers to another one.
  const third = allocNode(REG);
  assert.equal(third, second);
  put(third, F.inoLo, 77);
  put(third, F.inoHi, 5);
  ownNodeid(third);
  assert.notEqual(nodeidHi(third), hi);
  assert.equal(slotOf(lo, hi), 0);
});

test('0, the root and what has bit 63 are no numbers for a nodeid', () => {
  assert.ok(!isNodeid(0, 0) && !isNodeid(1, 0) && !isNodeid(5, 0x80000000));
  assert.ok(isNodeid(2, 0) && isNodeid(0, 1) && isNodeid(5, 0x7fffffff));
});
