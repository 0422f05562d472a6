// Layers that our server shows while their content is not here: what is read is right at every moment, and who waits waits alone.
// Under test: src/lazy/{source,client}.ts, stack/{lazy-open,loading}.ts, the parking of fuse/ and overlay/, with the real loader over a file.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pruneLayers } from '../../src/lazy/prune.js';
import { findSupervisor } from '../../src/supervisor/client.js';
import { requires } from '../support/requires.js';
import { completePlace, fusePlace, waitsFor } from './fuse-place.js';
import { loaderPid, run, until } from './kernel-place.js';

const skip = requires({ root: true });
const SAME = { status: 0, stdout: '' };

test('what is touched comes, nothing else does; when all is here no loader is left, and it may be mounted again', {
  skip,
}, async (t) => {
  const p = await fusePlace(t);
  await p.mountFuse();
  assert.deepEqual(await run('sh', '-c', `ls -lR ${p.mnt} >/dev/null`), SAME);
  assert.equal(p.requests(), 0, 'neither a mount nor a listing asks for content');
  assert.equal((await run(join(p.mnt, 'dash'), '-c', 'echo works')).stdout, 'works\n');
  const touched = p.requests();
  assert.ok(touched > 0 && touched < p.layer.table.count / 2, `${touched} requests`);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await until('the layer is complete', () => p.layer.folder.isComplete);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await p.unmountFuse();
  await p.mountFuse();
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await p.unmountFuse();
});

const readAt = (path: string, page: number): ChildProcess =>
  spawn('dd', [`if=${path}`, 'of=/dev/null', 'bs=4096', 'count=1', `skip=${page}`], {
    stdio: 'ignore',
  });

test('200 readers wait, and nobody else; killed they are gone; a new server and a new loader have them all again', {
  skip,
}, async (t) => {
  const p = await fusePlace(t, { big: 30 << 20 });
  await p.mountFuse();
  assert.deepEqual(await run('cmp', join(p.tree, 'bash'), join(p.mnt, 'bash')), SAME);
  p.tell('stall', '');
  // Each in a chunk of its own.
  const readers = Array.from({ length: 200 }, (_, i) => readAt(join(p.mnt, 'big'), i * 32 + 5));
  const ends = readers.map((child) => once(child, 'exit'));
  t.after(() => readers.map((child) => child.kill('SIGKILL')));
  await waitsFor(p, 200);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  assert.deepEqual(await run('cmp', join(p.tree, 'bash'), join(p.mnt, 'bash')), SAME);
  for (const child of readers.slice(0, 20)) child.kill('SIGKILL');
  await Promise.all(ends.slice(0, 20));

  const first = await p.server();
  process.kill(first, 'SIGKILL');
  await until('another server', async () => (await p.server()) !== first);
  await waitsFor(p, 200);
  process.kill((await loaderPid()) as number, 'SIGKILL');
  assert.deepEqual(await run('cmp', join(p.tree, 'bash'), join(p.mnt, 'bash')), SAME);
  p.tell('stall');
  const codes = (await Promise.all(ends.slice(20))).map(([code]) => code);
  assert.deepEqual([...new Set(codes)], [0]);
  assert.deepEqual(await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big')), SAME);
  await p.unmountFuse();
});

test('content that does not come: an error, at once or in time, and the next read asks again', {
  skip,
}, async (t) => {
  for (const stall of ['eio', '1s'] as const) {
    const p = await fusePlace(t);
    p.tell(stall === 'eio' ? 'fail' : 'stall', '');
    await p.mountFuse(`fill=off,stall=${stall}`);
    assert.match((await run('cat', join(p.mnt, 'big'))).stdout, /Input\/output error/);
    p.tell('fail');
    p.tell('stall');
    await until('it comes', async () => {
      return (await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'))).status === 0;
    });
    await p.unmountFuse();
  }
});

test('content that is wrong is an error however patient the reader is', { skip }, async (t) => {
  const p = await fusePlace(t);
  p.tell('wrong', '');
  await p.mountFuse('fill=off,stall=wait');
  assert.match((await run('cat', join(p.mnt, 'big'))).stdout, /Input\/output error/);
  p.tell('wrong');
  assert.deepEqual(await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big')), SAME);
  await p.unmountFuse();
});

test('a layer that no image names stays as long as it is served, also by a successor', {
  skip,
}, async (t) => {
  const p = await completePlace(t);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  const store = join(p.layer.folder.path, '../..');
  assert.equal(pruneLayers(store).inUse.length, 1);
  const first = await p.server();
  process.kill(first, 'SIGKILL');
  await until('another server', async () => (await p.server()) !== first);
  assert.equal(pruneLayers(store).inUse.length, 1);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await p.unmountFuse();
  await until('it goes', () => pruneLayers(store).layers === 1);
});

test('an unmount by force frees who waits', { skip }, async (t) => {
  const p = await fusePlace(t);
  p.tell('stall', '');
  await p.mountFuse();
  const reader = readAt(join(p.mnt, 'big'), 3);
  const end = once(reader, 'exit');
  await waitsFor(p, 1);
  await p.unmountFuse(true);
  assert.notEqual((await end)[0], 0);
  p.tell('stall');
});

test('the server is reloaded while somebody waits', { skip }, async (t) => {
  const p = await fusePlace(t);
  p.tell('stall', '');
  await p.mountFuse();
  const read = run('sha256sum', join(p.mnt, 'bash'));
  await until('somebody waits', async () => (await p.waiting()) > 0);
  const supervisor = await findSupervisor();
  const { serverProgram } = await import('../../src/stack/server-program.js');
  const reply = await supervisor?.ask({
    op: 'reload',
    mountpoint: p.mnt,
    program: serverProgram(),
  });
  supervisor?.close();
  assert.equal(reply?.error, undefined);
  p.tell('stall');
  const expected = (await run('sha256sum', join(p.tree, 'bash'))).stdout;
  assert.equal((await read).stdout.slice(0, 64), expected.slice(0, 64));
  assert.ok(readFileSync(join(p.mnt, 'etc/deep/199')).length > 0);
  await p.unmountFuse();
});
