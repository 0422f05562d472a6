// Content of a complete layer is taken back while our server shows it; never while anybody else reads it, wherever that is.
// Under test: src/stack/evict.ts, lazy/load/evict.ts, what the supervisor says of descriptors, and the loader's way back in.
// `--rounds 100` for a campaign.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KernelRefusal } from '../../src/stack/errors.js';
import { evictMount } from '../../src/stack/evict.js';
import { fillMount } from '../../src/stack/loader-status.js';
import { mountStack } from '../../src/stack/mount.js';
import { knownMounts } from '../../src/stack/mounts-known.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { completePlace, type FusePlace } from './fuse-place.js';
import { KERNEL_WAY, loaderPid, place, run, until } from './kernel-place.js';
import { Readers } from './readers.js';

const SAME = { status: 0, stdout: '' };

const KERNEL = requires({ ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'fuse'] });
const EVICT = fileURLToPath(new URL('./evict-loop.js', import.meta.url));

const rounds = campaign('rounds', 3);

const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '3');

async function refill(p: FusePlace): Promise<void> {
  await until('the layer is complete', async () => {
    // While a server takes over from another there is nothing to be filled.
    await fillMount(p.mnt).catch(() => {});
    return p.layer.folder.isComplete;
  });
}

test('readers of a mount notice nothing when its content is taken back, and taken back again', {
  skip: requires({ root: true }),
}, async (t) => {
  const p = await completePlace(t, { big: 4 << 20 }, true);
  const readers = new Readers(p, 2, 60 + rounds * 10, join(p.folder, 'stop'));
  const before = p.requests();
  for (let round = 1; round <= rounds; round++) {
    const asked = p.requests();
    const { freed, kept } = await evictMount(p.mnt, round % 2 === 0 ? 1 << 20 : 0);
    assert.deepEqual(kept, []);
    assert.ok(freed > 4 << 20, `${freed} bytes`);
    dropCaches();
    await until('it is fetched again', () => p.requests() > asked);
    // A server that takes over in the middle of it has the same, and so has a loader.
    if (round % 3 === 2) process.kill(await p.server(), 'SIGKILL');
    const loader = round % 3 === 0 ? await loaderPid() : undefined;
    if (loader !== undefined) process.kill(loader, 'SIGKILL');
    await refill(p);
  }
  assert.ok((await readers.end()) > 0);
  assert.ok(p.requests() > before);
  await until('the loader has ended', async () => (await loaderPid()) === undefined);
  // Another is there when somebody reads, and fetches that and nothing else.
  await evictMount(p.mnt, 0);
  const { blocks } = statSync(p.layer.folder.blob);
  assert.ok(blocks * 512 < 1 << 20, `${blocks} blocks are left`);
  dropCaches();
  assert.deepEqual(await run('cmp', join(p.tree, 'bash'), join(p.mnt, 'bash')), SAME);
  assert.ok(!p.layer.folder.isComplete);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await p.unmountFuse();
});

/** Nothing is given back, and all of it is where it was. */
async function isRefused(p: FusePlace): Promise<void> {
  await assert.rejects(evictMount(p.mnt, 0), /is in use by somebody who would not notice/);
  assert.ok(p.layer.folder.isComplete);
}

test('who reads without asking keeps the content here: kernel mounts in sight and out of it, and whoever has it open', {
  skip: KERNEL,
}, async (t) => {
  const p = await completePlace(t);
  const aside = join(p.folder, 'aside');
  mkdirSync(aside);

  await p.mountPlain(aside);
  await isRefused(p);
  // Of what is in another namespace nothing is seen here.
  const away: ChildProcess = spawn('unshare', ['-m', 'sleep', '60'], { stdio: 'ignore' });
  t.after(() => away.kill('SIGKILL'));
  await until('it has its namespace', async () => {
    const [one, other] = ['self', `${away.pid}`].map((pid) => statSync(`/proc/${pid}/ns/mnt`).ino);
    return one !== other;
  });
  assert.deepEqual(await run('umount', aside), SAME);
  await isRefused(p);
  away.kill('SIGKILL');
  await once(away, 'exit');

  await p.mountPlain(aside);
  const fd = openSync(join(aside, 'big'), 'r');
  assert.deepEqual(await run('umount', '-l', aside), SAME);
  await isRefused(p);
  dropCaches();
  assert.equal(readSync(fd, Buffer.alloc(4096), 0, 4096, 1 << 19), 4096);
  closeSync(fd);

  const blob = openSync(p.layer.folder.blob, 'r');
  const holder = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', blob] });
  closeSync(blob);
  t.after(() => holder.kill('SIGKILL'));
  await isRefused(p);
  holder.kill('SIGKILL');
  await once(holder, 'exit');

  await until('nobody else has it', async () => {
    return (await evictMount(p.mnt, 0).catch(() => undefined)) !== undefined;
  });
  dropCaches();
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
  await p.unmountFuse();
});

test('several servers that have a layer share it when it is evicted', {
  skip: requires({ root: true }),
}, async (t) => {
  const p = await completePlace(t);
  const others = ['second', 'third'].map((name) => join(p.folder, name));
  for (const at of others) {
    mkdirSync(at);
    const options = parseOptions([`lowerdir=${p.layer.folder.meta}`], { defaults: '' });
    const { served } = await mountStack(options, at, 'fuse');
    served?.supervisor.close();
  }
  const fd = openSync(join(others[0] as string, 'big'), 'r');
  const restarts = async () =>
    (await knownMounts()).flatMap(({ status }) => status?.restarts ?? []);
  assert.deepEqual(await restarts(), [0, 0, 0]);
  assert.ok((await evictMount(p.mnt, 0)).freed > 1 << 20);
  dropCaches();
  assert.deepEqual(await restarts(), [0, 1, 1]);
  const bytes = Buffer.alloc(4096);
  readSync(fd, bytes, 0, 4096, 1 << 19);
  assert.ok(bytes.equals(readFileSync(join(p.tree, 'big')).subarray(1 << 19, (1 << 19) + 4096)));
  closeSync(fd);
  for (const at of [p.mnt, ...others]) assert.deepEqual(await run('diff', '-r', p.tree, at), SAME);
  // The description stays with those that are left.
  await p.unmountFuse();
  const [second = '', third = ''] = others;
  await until('all is here', async () => {
    await fillMount(second).catch(() => {});
    return p.layer.folder.isComplete;
  });
  assert.ok((await evictMount(third, 0)).freed > 1 << 20);
  dropCaches();
  assert.deepEqual(await run('diff', '-r', p.tree, second), SAME);
  for (const at of others) await unmount(at, { lazy: false, force: false });
});

test('a layer that is mounted by the kernel while it is evicted is whole, or is refused', {
  skip: KERNEL,
}, async (t) => {
  const p = await place(t, { big: 4096 });
  const { folder, complete } = p.layer;
  const loop = spawn(process.execPath, [EVICT, folder.path, complete.blob], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => loop.kill('SIGKILL'));
  let evicted = 0;
  loop.stdout.on('data', (piece: Buffer) => {
    evicted += piece.toString().split('\n').length - 1;
  });
  const expected = readFileSync(join(p.tree, 'bash'));
  for (let mounted = 0; mounted < 20 || evicted < 20; await sleep(Math.random() * 4)) {
    assert.equal(loop.exitCode, null);
    try {
      await p.mountPlain();
    } catch (error) {
      assert.ok(error instanceof KernelRefusal, String(error));
      continue;
    }
    mounted++;
    await sleep(Math.random() * 4);
    const found = readFileSync(join(p.mnt, 'bash'));
    await p.umount();
    assert.ok(found.equals(expected), `mount ${mounted}`);
  }
});
