// A server's mount of complete layers becomes one of the kernel while it is in use.
// Under test: src/stack/swap.ts.
// What was open before stays the server's, and ends it when it is closed.

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountAt } from '../../src/linux/mountinfo.js';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { swapMount } from '../../src/stack/swap.js';
import { requires } from '../support/requires.js';
import { KERNEL_WAY, place, run, until } from './kernel-place.js';

const skip = requires({ ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'fuse'] });

test('the kernel takes a mount over, and what is open stays the server’s', { skip }, async (t) => {
  const p = await place(t);
  const options = parseOptions([`lowerdir=${p.layer.complete.meta}`], { defaults: '' });
  const { served } = await mountStack(options, p.mnt, 'fuse');
  const gone = served?.supervisor.ask({ op: 'wait', mountpoint: p.mnt });
  const fd = openSync(join(p.mnt, 'big'), 'r');
  const { before, after } = await swapMount(p.mnt);
  assert.notEqual(before, after);
  assert.equal(statSync(p.mnt).dev, after);
  assert.equal(mountAt(p.mnt)?.type, 'overlay');
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  assert.equal(readSync(fd, Buffer.alloc(4096), 0, 4096, 1 << 20), 4096);
  closeSync(fd);
  assert.equal((await gone)?.why, undefined);
  served?.supervisor.close();
  await p.umount();
  await until('nothing is mounted', () => mountAt(p.mnt) === undefined);
});

test('what cannot be taken over stays as it is', { skip }, async (t) => {
  const p = await place(t);
  for (const name of ['up', 'work']) mkdirSync(join(p.folder, name));
  const writable = `upperdir=${p.folder}/up,workdir=${p.folder}/work`;
  const options = parseOptions([`lowerdir=${p.layer.complete.meta},${writable}`], { defaults: '' });
  const { served } = await mountStack(options, p.mnt, 'fuse');
  await assert.rejects(swapMount(p.mnt), /writable/);
  assert.equal(mountAt(p.mnt)?.type, 'fuse.varve');
  served?.supervisor.close();
  await p.umount();
  await assert.rejects(swapMount(p.mnt), /no server of yours/);
});
