// Jobs on worker threads, from a thread that never returns to its event loop; and without workers.

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { emptyRequest } from '../../src/fuse/dispatch.js';
import { Jobs, type JobsOptions } from '../../src/fuse/jobs.js';
import { OP } from '../../src/fuse/opcodes.js';
import { E } from '../../src/linux/errno.js';
import { mapMemory } from '../../src/linux/memory.js';
import { pollIn } from '../../src/linux/poll.js';
import { JOB, PARKED } from '../../src/vfs/filesystem.js';
import { tempDir } from '../support/temp.js';

mapMemory();

/** A queue whose replies go to a file instead of the kernel. */
function queue(t: TestContext, options: Partial<JobsOptions> = {}) {
  const d = tempDir(t);
  const replies = fs.openSync(join(d, 'replies'), 'a+');
  const request = emptyRequest();
  const logged: string[] = [];
  const jobs = new Jobs(request, replies, { log: (line) => logged.push(line), ...options });
  t.after(() => {
    jobs.stop();
    fs.closeSync(replies);
  });
  const source = join(d, 'source');
  fs.writeFileSync(source, Buffer.alloc(200_000, 'source '));
  const from = fs.openSync(source, 'r');
  const to = fs.openSync(join(d, 'target'), 'w+');
  t.after(() => {
    fs.closeSync(from);
    fs.closeSync(to);
  });
  return { jobs, request, logged, d, from, to, read: () => fs.readFileSync(join(d, 'replies')) };
}

/** Waits as serve() does: without the event loop. */
function settle(jobs: Jobs, over: () => boolean): void {
  const until = performance.now() + 20_000;
  while (!over()) {
    assert.ok(performance.now() < until, 'no result in twenty seconds');
    pollIn([jobs.doneFd], 20);
    if (jobs.ready) jobs.collect();
    jobs.rescue(() => assert.fail('nobody waits for a reply'));
  }
}

test('results come back while the event loop stands still', (t) => {
  const { jobs, from, to } = queue(t);
  const results: [string, number][] = [];
  jobs.run(JOB.COPY_FILE, from, to, 200_000, 1, 0, (result) => results.push(['copy', result]));
  settle(jobs, () => results.length === 1);
  jobs.run(JOB.COPY_RANGE, from, 0, to, 300_000, 5000, (result) => results.push(['range', result]));
  settle(jobs, () => results.length === 2);
  jobs.run(JOB.FSYNC, to, 1, 0, 0, 0, (result) => results.push(['sync', result]));
  settle(jobs, () => results.length === 3);
  jobs.run(JOB.FSYNC, 9999, 0, 0, 0, 0, (result) => results.push(['bad', result]));
  settle(jobs, () => results.length === 4);
  jobs.run(99, 0, 0, 0, 0, 0, (result) => results.push(['unknown', result]));
  settle(jobs, () => results.length === 5);
  assert.deepEqual(results, [
    ['copy', 200_000],
    ['range', 5000],
    ['sync', 0],
    ['bad', -E.BADF],
    ['unknown', -E.INVAL],
  ]);
  assert.equal(fs.fstatSync(to).size, 305_000);
});

test('two thousand jobs, more than there are slots', (t) => {
  const { jobs, to } = queue(t);
  let done = 0;
  for (let i = 0; i < 2000; i++) {
    jobs.run(JOB.FALLOCATE, to, 0, i, 1, 0, (result) => {
      assert.equal(result, 0);
      done++;
    });
    if (i % 7 === 0) jobs.collect();
  }
  settle(jobs, () => done === 2000);
  assert.equal(jobs.pending, 0);
  assert.equal(fs.fstatSync(to).size, 2000);
});

test('a worker answers the request itself, in the form of its opcode', (t) => {
  const { jobs, request, from, to, read } = queue(t);
  request.uniqueLo = 7;
  for (const [opcode, kind] of [
    [OP.FSYNC, JOB.FSYNC],
    [OP.COPY_FILE_RANGE, JOB.COPY_RANGE],
    [OP.COPY_FILE_RANGE_64, JOB.COPY_RANGE],
  ] as const) {
    request.opcode = opcode;
    const args = kind === JOB.FSYNC ? [to, 0, 0, 0, 0] : [from, 0, to, 0, 4096];
    assert.equal(
      jobs.parkReply(kind, ...(args as [number, number, number, number, number])),
      PARKED,
    );
    settle(jobs, () => jobs.pending === 0);
  }
  const reply = (length: string): string => `${length}000000 00000000 0700000000000000`;
  const copied = '0010000000000000';
  const expected = [reply('10'), reply('18'), copied, reply('18'), copied];
  assert.equal(read().toString('hex'), expected.join('').replaceAll(' ', ''));
});

test('without a worker that comes up, jobs are done in line', (t) => {
  const { jobs, logged, d, from, to } = queue(t, {
    script: pathToFileURL('/nowhere/worker.js'),
    patience: 100,
  });
  let result = -1;
  jobs.run(JOB.COPY_FILE, from, to, 1000, 0, 0, (bytes) => {
    result = bytes;
  });
  settle(jobs, () => result >= 0);
  assert.equal(result, 1000);
  assert.equal(fs.statSync(join(d, 'target')).size, 1000);
  assert.match(logged.join('\n'), /no worker thread came up/);
  assert.equal(jobs.parkReply(JOB.FSYNC, to, 0, 0, 0, 0), 0);
});

test('a callback that throws is logged, and the next is called', (t) => {
  const { jobs, logged, to } = queue(t);
  let done = false;
  jobs.run(JOB.FSYNC, to, 0, 0, 0, 0, () => {
    throw new Error('asked to');
  });
  jobs.run(JOB.FSYNC, to, 0, 0, 0, 0, () => {
    done = true;
  });
  jobs.finish();
  assert.equal(done, true);
  assert.match(logged.join('\n'), /after a job: Error: asked to/);
});
