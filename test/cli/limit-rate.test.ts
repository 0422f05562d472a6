// --limit-rate of a lazy mount is the loader's: for all mounts together, over its death, until somebody says something else.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { LoaderStatus } from '../../src/lazy/protocol.js';
import { until } from '../lazy/kernel-place.js';
import { mixed } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

test('the last rate that was given holds', {
  skip: requires({ features: ['fuse'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const [tree, mnt] = [join(folder, 'tree'), join(folder, 'mnt')];
  for (const path of [tree, mnt]) mkdirSync(path);
  writeFileSync(join(tree, 'file'), mixed(900_000, 6));
  const ref = `${fake.host}/os:1`;
  await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
  const caller = new Caller(join(folder, 'user'));
  const top = async (...words: string[]): Promise<LoaderStatus> =>
    JSON.parse((await caller.must('top', '--json', ...words)).out) as LoaderStatus;

  const none = await caller.varve('top', '--limit-rate', '1M');
  assert.equal(none.code, 6);
  assert.match(none.err, /^varve: .*nothing is being loaded/);
  const odd = await caller.varve('top', '--limit-rate', 'fast');
  assert.equal(odd.code, 2);

  // Minutes would pass.
  const limited = ['--limit-rate', '4K', '--backend=fuse', '--no-prefetch'];
  await caller.must('mount', '--lazy', '--plain-http', '-q', ...limited, ref, mnt);
  t.after(() => caller.varve('umount', '--force', mnt));
  const { pid, limit } = await top();
  assert.equal(limit, 4096);
  const told = JSON.parse((await caller.must('status', '--json', mnt)).out) as { limit: number };
  assert.equal(told.limit, 4096);

  process.kill(pid, 'SIGKILL');
  let next: LoaderStatus = { pid, layers: [] };
  await until('another loader is there', async () => {
    next = await top();
    return next.layers.length > 0 && next.pid !== pid;
  });
  assert.equal(next.limit, 4096);

  assert.equal((await top('--limit-rate', '8K')).limit, 8192);
  const text = await caller.must('top', '--once', '--limit-rate', '0');
  assert.match(text.out, /^(?:loader \d+|Nothing is being loaded\.)\n/);
  await caller.must('detach', '--wait', mnt);
});
