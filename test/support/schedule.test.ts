import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { runAll, type Task } from './schedule.js';

/** Runs tasks of so many turns each. @returns what ran together, a line for each start. */
async function starts(width: number, tasks: readonly (Task & { turns: number })[]) {
  const running = new Set<string>();
  const seen: string[] = [];
  await runAll(tasks, width, async ({ name, turns }) => {
    running.add(name);
    seen.push([...running].join(' '));
    for (let i = 0; i < turns; i++) await setImmediate();
    running.delete(name);
  });
  assert.equal(running.size, 0);
  return seen;
}

const task = (name: string, kind: Task['kind'], turns: number) => ({ name, kind, turns });

test('long ones first, quiet ones last, and beside one that is alone nothing that mounts', async () => {
  const seen = await starts(2, [
    task('quiet 1', 'quiet', 5),
    task('alone 1', 'alone', 4),
    task('short', 'mounts', 3),
    task('oracle/oracle', 'mounts', 20),
    task('alone 2', 'alone', 4),
    task('quiet 2', 'quiet', 5),
    task('quiet 3', 'quiet', 40),
  ]);
  assert.deepEqual(seen, [
    'oracle/oracle',
    'oracle/oracle short',
    'oracle/oracle quiet 1',
    'oracle/oracle quiet 2',
    'oracle/oracle quiet 3',
    'quiet 3 alone 1',
    'quiet 3 alone 2',
  ]);
});

test('one at a time, everything runs once', async () => {
  const kinds = ['quiet', 'alone', 'mounts', 'check', 'alone'] as const;
  const seen = await starts(
    1,
    kinds.map((kind, i) => task(`${kind} ${i}`, kind, 1)),
  );
  assert.deepEqual(seen, ['check 3', 'mounts 2', 'alone 1', 'alone 4', 'quiet 0']);
});

test('nothing to run ends at once; what fails is told', async () => {
  await runAll([], 2, async () => assert.fail());
  const bad = runAll([task('a', 'mounts', 1)], 2, () => Promise.reject(new Error('told')));
  await assert.rejects(bad, /told/);
});
