// The table of numbers and directories against a Map, and keys that hold 64 bits.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Halves, halvesOf, keyOf, NumberTable } from '../../src/overlay/number-table.js';

const word = fc.integer({ min: 0, max: 0xffffffff });
const few = fc.integer({ min: 1, max: 6 });

test('a key is exact for every number', () => {
  fc.assert(
    fc.property(word, word, (lo, hi) => {
      assert.deepEqual(halvesOf(keyOf(lo, hi)), [lo, hi]);
    }),
  );
  assert.notEqual(keyOf(1, 0x400000), keyOf(0, 0x400000));
});

test('every directory that an object was said to be in is found, the last one first', () => {
  const said = fc.array(fc.record({ lo: fc.oneof(few, word), hi: few, dir: few }), {
    maxLength: 3000,
  });
  fc.assert(
    fc.property(said, (list) => {
      const table = new NumberTable();
      const model = new Map<string, number[]>();
      for (const { lo, hi, dir } of list) {
        table.set(lo, hi, dir, 7);
        const known = model.get(`${lo}:${hi}`) ?? [];
        model.set(`${lo}:${hi}`, [dir, ...known.filter((each) => each !== dir)]);
      }
      assert.equal(table.size, model.size);
      for (const { lo, hi } of list) {
        const dirs = model.get(`${lo}:${hi}`) as number[];
        const found = table.find(lo, hi).map(([dirLo]: Halves) => dirLo);
        assert.equal(found[0], dirs[0]);
        assert.deepEqual(new Set(found), new Set(dirs));
        assert.equal(table.find(lo, hi)[0]?.[1], 7);
      }
      assert.deepEqual(table.find(0, 0x12345), []);
      table.clear();
      assert.equal(table.size, 0);
      for (const { lo, hi } of list.slice(0, 10)) assert.deepEqual(table.find(lo, hi), []);
    }),
    { numRuns: 100 },
  );
});
