// Some work at a time: in order, never more than asked for, and the failure that is told is the first that happened.
// Under test: src/lazy/map-some.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mapSome } from '../../src/lazy/map-some.js';

test('results stand where their work stood, and no more is under way than asked for', async () => {
  let now = 0;
  let most = 0;
  const begun: number[] = [];
  const results = await mapSome([5, 1, 4, 2, 3, 0], 3, async (ticks, k) => {
    begun.push(k);
    most = Math.max(most, ++now);
    for (let i = 0; i < ticks; i++) await Promise.resolve();
    now--;
    return ticks * 10;
  });
  assert.deepEqual(results, [50, 10, 40, 20, 30, 0]);
  assert.deepEqual(begun, [0, 1, 2, 3, 4, 5]);
  assert.equal(most, 3);
  assert.deepEqual(await mapSome([], 4, () => Promise.reject(new Error('nothing to do'))), []);
});

test('after a failure nothing is begun, what is under way ends first, and the first that failed is told', async () => {
  const ended: number[] = [];
  let begun = 0;
  const work = async (k: number): Promise<void> => {
    begun++;
    // The first of the list fails last, because the second did.
    for (let i = 0; i < (k === 0 ? 20 : 3); i++) await Promise.resolve();
    ended.push(k);
    if (k < 2) throw new Error(k === 0 ? 'given up' : 'the cause');
  };
  await assert.rejects(
    mapSome([0, 1, 2, 3], 2, (_, k) => work(k)),
    /the cause/,
  );
  assert.deepEqual(ended, [1, 0]);
  assert.equal(begun, 2);
});
