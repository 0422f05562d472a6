// Layers that the kernel mounts while their content is not here: what is read is right at every moment, and nothing stays in the way.
// Under test: src/lazy/fanotify/, src/stack/lazy-kernel.ts, run-loader.ts, with a registry that is a file (kernel-loader.ts).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { announceUse } from '../../src/lazy/announce.js';
import { Ask, DEFAULT_POLICY, Tell } from '../../src/lazy/protocol.js';
import { pruneLayers } from '../../src/lazy/prune.js';
import { mountStack } from '../../src/stack/mount.js';
import { knownMounts } from '../../src/stack/mounts-known.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { findSupervisor } from '../../src/supervisor/client.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { KERNEL_WAY, loaderPid, NO_FILL, place, run, startLoader, until } from './kernel-place.js';
import { Client } from './users.js';

const skip = requires(KERNEL_WAY);

test('what is touched comes, nothing else does, and nothing of it is left when all is here', {
  skip,
}, async (t) => {
  const p = await place(t);
  await p.mount();
  assert.equal(p.requests(), 0, 'a mount asks for no content');
  assert.equal((await run(join(p.mnt, 'dash'), '-c', 'echo works')).stdout, 'works\n');
  const touched = p.requests();
  assert.ok(touched > 0 && touched < p.layer.table.count, `${touched} requests`);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await until('the layer is complete', () => p.layer.folder.isComplete);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
});

const COPYING = { ...KERNEL_WAY, packages: ['busybox-static', 'xfsprogs'] };

test('while everything is being fetched: read, mapped, executed and sent', {
  skip: requires(COPYING),
}, async (t) => {
  const p = await place(t, { chunkSize: 16384 });
  p.tell('latency', '2');
  await p.mount(DEFAULT_POLICY);
  const mapped = (file: string): Promise<{ stdout: string }> =>
    run('sh', '-c', 'xfs_io -r -c "mmap -r 0 8m" -c "mread -v 0 8m" "$0" | sha256sum', file);
  // Busybox copies by sendfile(2).
  const sent = (file: string): Promise<{ stdout: string }> =>
    run('sh', '-c', 'busybox cat "$0" | sha256sum', file);
  const results = await Promise.all([
    mapped(join(p.mnt, 'big')),
    sent(join(p.mnt, 'big')),
    run(join(p.mnt, 'bash'), '-c', 'echo works'),
    run('diff', '-r', p.tree, p.mnt),
  ]);
  const expected = [
    (await mapped(join(p.tree, 'big'))).stdout,
    (await sent(join(p.tree, 'big'))).stdout,
    'works\n',
    '',
  ];
  assert.deepEqual(
    results.map(({ stdout }) => stdout),
    expected,
  );
  await until('the layer is complete', () => p.layer.folder.isComplete);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
});

test('content that does not come: an error, at once or in time, and the next read asks again', {
  skip,
}, async (t) => {
  for (const stall of ['eio', 1] as const) {
    const p = await place(t);
    p.tell(stall === 'eio' ? 'fail' : 'stall', '');
    await p.mount({ ...NO_FILL, stall });
    const failed = await run('cat', join(p.mnt, 'big'));
    assert.match(failed.stdout, /Input\/output error/, `stall=${stall}`);
    p.tell('fail');
    p.tell('stall');
    // While it pauses after a failure it fails at once, too.
    const same = { status: 0, stdout: '' };
    await until('it comes again', async () =>
      isDeepStrictEqual(await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big')), same),
    );
    await p.umount();
  }
});

test('a reader that waits can be killed, and others of what is here do not wait', {
  skip,
}, async (t) => {
  const p = await place(t);
  await p.mount();
  assert.equal((await run('cmp', join(p.tree, 'dash'), join(p.mnt, 'dash'))).status, 0);
  p.tell('stall', '');
  const waiting = Array.from({ length: 40 }, (_, i) => {
    const skipped = `skip=${i * 50}`;
    return spawn('dd', [`if=${p.mnt}/big`, 'of=/dev/null', 'bs=4096', 'count=1', skipped], {
      stdio: 'ignore',
    });
  });
  const ended = waiting.map((child) => once(child, 'exit'));
  const blocked = (): number =>
    waiting.filter(({ pid }) => /fanotify/.test(readFileSync(`/proc/${pid}/wchan`, 'latin1')))
      .length;
  await until('all wait', () => blocked() === waiting.length);
  const loader = (await loaderPid()) as number;
  // Nothing comes from anywhere: what is here is had all the same.
  assert.equal((await run('cmp', join(p.tree, 'dash'), join(p.mnt, 'dash'))).status, 0);
  for (const child of waiting.slice(0, 20)) child.kill('SIGKILL');
  for (const [, signal] of await Promise.all(ended.slice(0, 20))) assert.equal(signal, 'SIGKILL');
  process.kill(loader, 'SIGKILL');
  p.tell('stall');
  for (const [status] of await Promise.all(ended.slice(20))) assert.equal(status, 0);
  await p.umount();
});

test('a mount that is taken down ends its loader, and what had come is there for the next', {
  skip,
}, async (t) => {
  const p = await place(t);
  await p.mount();
  assert.equal((await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'))).status, 0);
  // A descriptor keeps what is detached alive: its readers must not be left to read zeros.
  const fd = openSync(join(p.mnt, 'bash'), 'r');
  assert.equal((await run('umount', '-l', p.mnt)).status, 0);
  assert.equal((await run('cmp', join(p.tree, 'bash'), `/proc/${process.pid}/fd/${fd}`)).status, 0);
  closeSync(fd);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  assert.ok(!p.layer.folder.isComplete);
  const before = p.requests();
  await p.mount();
  assert.equal((await run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'))).status, 0);
  assert.equal(p.requests(), before);
  await p.umount();
});

test('a layer that a new loader cannot take over keeps its own readers waiting, and nobody else', {
  skip,
}, async (t) => {
  const [p, other] = [await place(t), await place(t)];
  await p.mount();
  const { path } = p.layer.folder;
  renameSync(path, `${path}.away`);
  process.kill((await loaderPid()) as number, 'SIGKILL');
  await other.mount();
  assert.equal((await run('diff', '-r', other.tree, other.mnt)).status, 0);
  const reader = run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'));
  renameSync(`${path}.away`, path);
  assert.deepEqual(await reader, { status: 0, stdout: '' });
  await other.umount();
  await p.umount();
});

test('without a loader the kernel gets no layer that is not complete', { skip }, async (t) => {
  const p = await place(t);
  await assert.rejects(p.mountPlain(), /not all of this layer is here/);
  await p.mount();
  assert.equal((await run('diff', '-r', p.tree, p.mnt)).status, 0);
  await until('the layer is complete', () => p.layer.folder.isComplete);
  await p.umount();
  await p.mountPlain();
  assert.equal((await run('diff', '-r', p.tree, p.mnt)).status, 0);
  await p.umount();
});

test('a writable stack is mounted by the kernel where root asks for it, and changes of metadata fetch nothing', {
  skip,
}, async (t) => {
  const p = await place(t);
  for (const name of ['up', 'work']) mkdirSync(join(p.folder, name));
  await startLoader();
  const writable = `upperdir=${p.folder}/up,workdir=${p.folder}/work`;
  const options = parseOptions([`lowerdir=${p.layer.folder.meta},fill=off,${writable}`], {
    defaults: '',
  });
  const { plan } = await mountStack(options, p.mnt, 'kernel');
  assert.equal(plan.backend, 'kernel', plan.reason);
  const known = (await knownMounts()).find(({ mountpoint }) => mountpoint === p.mnt);
  assert.equal(known?.backend, 'kernel');
  assert.deepEqual(known?.layers?.lowerdirs, [p.layer.folder.meta]);
  for (const words of [
    ['chown', '-R', '7:7', p.mnt],
    ['chmod', '-R', 'u=rwX,go=', p.mnt],
    ['mv', join(p.mnt, 'big'), join(p.mnt, 'etc/moved')],
    // Without -c it opens the file for writing, which kernel overlayfs answers by copying it up.
    ['touch', '-c', join(p.mnt, 'bash')],
  ]) {
    assert.deepEqual(await run(...words), { status: 0, stdout: '' });
  }
  assert.equal(p.requests(), 0);
  assert.equal((await run('cmp', join(p.tree, 'big'), join(p.mnt, 'etc/moved'))).status, 0);
  assert.equal((await run('sh', '-c', `echo more >>${p.mnt}/dash`)).status, 0);
  assert.equal(
    (await run('cmp', '-n', '100000', join(p.tree, 'dash'), join(p.mnt, 'dash'))).status,
    0,
  );
  await unmount(p.mnt, { lazy: false, force: false });
});

test('a layer that no image names stays as long as it is mounted', { skip }, async (t) => {
  const p = await place(t, { big: 1 << 20 });
  await p.mount(DEFAULT_POLICY);
  const store = join(p.layer.folder.path, '../..');
  assert.equal(pruneLayers(store).inUse.length, 1);
  await until('the layer is complete', () => p.layer.folder.isComplete);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  assert.equal(pruneLayers(store).inUse.length, 1);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
  // The kernel closes the blob in its own time.
  await until('it goes', () => pruneLayers(store).layers === 1);
});

test('where nobody would hold its readers when the loader dies nothing is mounted', {
  skip,
}, async (t) => {
  const p = await place(t);
  await startLoader();
  const supervisor = await findSupervisor();
  const reply = await supervisor?.ask({ op: 'list' });
  const { pid, socket } = reply?.loader ?? assert.fail('no loader');
  supervisor?.close();
  // Without a client it would end, too, as soon as it finds itself alone.
  const client = new Client(socket);
  t.after(() => client.socket.destroy());
  client.hello();
  client.json(Ask.COMMAND, 1, { op: 'stay' });
  await client.next(({ kind }) => kind === Tell.JSON_REPLY);
  process.kill(reply?.supervisor as number, 'SIGKILL');
  await until('it is gone', () => !existsSync(`/proc/${reply?.supervisor}/fd/0`));
  const how = { mountpoint: p.mnt, policy: NO_FILL, way: 'kernel' } as const;
  await assert.rejects(announceUse(socket, [p.layer.folder.path], how), /its supervisor is gone/);
  client.socket.destroy();
  // The layer is free: another supervisor has its own loader.
  await p.mount();
  assert.notEqual(await loaderPid(), pid);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
  await until('it has ended', () => !existsSync(`/proc/${pid}/fd/0`));
});

for (const type of ['ext4', 'xfs'] as const) {
  const needs = { ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'loop', type] as const };
  test(`a blob on ${type}`, { skip: requires(needs) }, async (t) => {
    const disk = tempDir(t);
    const store = join(disk, 'store');
    const image = join(disk, 'image');
    assert.equal((await run('truncate', '-s', '400M', image)).status, 0);
    assert.equal((await run(`mkfs.${type}`, '-q', image)).status, 0);
    mkdirSync(store);
    assert.equal((await run('mount', '-o', 'loop', image, store)).status, 0);
    const p = await place(t, { store });
    await p.mount();
    assert.equal((await run('diff', '-r', p.tree, p.mnt)).status, 0);
    await until('the layer is complete', () => p.layer.folder.isComplete);
    await p.umount();
  });
}
