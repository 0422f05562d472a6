// The loader as a library, with a registry in memory: what arrives, in which order, and what each failure comes to.
// Under test: src/lazy/load/. Whoever is told that a chunk is here finds its content in the blob, always.
// Waiting is for events; nothing is measured.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { evict, evictIdle } from '../../src/lazy/load/evict.js';
import { LoadedLayer } from '../../src/lazy/load/layer.js';
import { Loader, type LoaderOptions } from '../../src/lazy/load/loader.js';
import { LocalChunks } from '../../src/lazy/local-chunks.js';
import type { LoaderStatus } from '../../src/lazy/protocol.js';
import { fillLayer } from '../../src/lazy/pull/fill.js';
import { repairChunks } from '../../src/lazy/pull/repair.js';
import { ResidencyMap } from '../../src/lazy/residency.js';
import { E } from '../../src/linux/errno.js';
import { lockFile } from '../../src/linux/peer.js';
import { makeTempDir, removeTempDir, tempDir } from '../support/temp.js';
import {
  type FakeLayer,
  FakeRegistry,
  type Fault,
  makeLayer,
  makeStreamLayer,
  manySizes,
} from './fake-layer.js';
import { type Collector, use } from './users.js';

interface Bench {
  readonly layer: FakeLayer;
  readonly registry: FakeRegistry;
  readonly loader: Loader;
  readonly log: string[];
}

function bench(
  t: { after(fn: () => Promise<void> | void): void },
  sizes: readonly number[],
  options: Partial<LoaderOptions> = {},
): Bench {
  const folder = makeTempDir();
  const layer = makeLayer(join(folder, 'layer'), sizes);
  const registry = new FakeRegistry(layer.origin);
  const log: string[] = [];
  const loader = new Loader({
    read: registry.read,
    pause: [5, 20],
    quiet: 5,
    syncAfter: 5,
    log: (line) => log.push(line),
    ...options,
  });
  t.after(async () => {
    await loader.end();
    removeTempDir(folder);
  });
  return { layer, registry, loader, log };
}

/** Every chunk that was announced has its content in the blob. */
function assertTrue({ folder, table, blob }: FakeLayer, told: Collector): void {
  const found = readFileSync(folder.blob);
  for (const i of told.arrived) {
    const at = table.at(i);
    const end = at + table.length(i);
    assert.ok(found.subarray(at, end).equals(blob.subarray(at, end)), `chunk ${i}`);
  }
}

const layersOf = async (loader: Loader): Promise<LoaderStatus['layers']> =>
  ((await loader.perform({ op: 'status', map: true })) as LoaderStatus).layers;

test('what is wanted arrives, and nothing else is asked for', async (t) => {
  const at = bench(t, manySizes(200));
  const { open, told } = await use(at.loader, at.layer.folder.path);
  const wanted = [3, 4, 5, 77, 150, 199];
  for (const i of wanted) open.want(i, 1);
  await told.until(({ arrived }) => wanted.every((i) => arrived.has(i)));
  assertTrue(at.layer, told);
  const { table } = at.layer;
  const units = new Map(wanted.map((i) => [table.from(i), table.stored(i)]));
  const needed = [...units.values()].reduce((a, b) => a + b, 0);
  assert.ok(at.registry.bytes <= 1.2 * needed, `${at.registry.bytes} bytes for ${needed}`);
  assert.equal(existsSync(at.layer.folder.complete), false);
});

test('a folder that is renamed while its content comes stays one layer, which is completed where it is then', async (t) => {
  const at = bench(t, manySizes(60));
  const staged = at.layer.folder.path;
  const order = Buffer.alloc(4 * 20);
  for (let k = 0; k < 20; k++) order.writeUInt32LE(40 + k, 4 * k);
  writeFileSync(at.layer.folder.order, order);
  const early = await use(at.loader, staged, { prefetch: true });
  const path = join(staged, '..', 'published');
  renameSync(staged, path);
  const published = await use(at.loader, path, { prefetch: true });
  early.open.end();
  const layers = await layersOf(at.loader);
  assert.deepEqual(
    layers.map(({ folder }) => folder),
    [path],
  );
  // What was recorded lay under the old name.
  const map = ResidencyMap.open(join(path, 'map'), 60, false);
  for (let i = 40; i < 60; i++) while (!map.isHere(i)) await sleep(1);
  map.close();
  published.open.want(0, 40);
  await published.told.until(({ completed }) => completed > 0);
  assert.ok(existsSync(join(path, 'complete')));
  assert.ok(readFileSync(join(path, 'blob')).equals(at.layer.blob));
  assert.equal(existsSync(staged), false);
});

test('who fills a layer waits for whoever is letting go of it, and says so of one who does not', async (t) => {
  const at = bench(t, manySizes(20));
  const { folder } = at.layer;
  const { read } = at.registry;
  const hold = (): number => {
    const fd = openSync(folder.lock, 'a');
    assert.ok(lockFile(fd) >= 0);
    return fd;
  };
  const other = hold();
  await assert.rejects(fillLayer(folder, { read }), /another process loads this layer/);
  closeSync(other);
  const leaving = hold();
  const filled = fillLayer(folder, { read });
  await sleep(50);
  assert.equal(at.registry.requests.length, 0);
  closeSync(leaving);
  await filled;
  assert.ok(folder.isComplete);
  assert.ok(readFileSync(folder.blob).equals(at.layer.blob));

  // The same for what is repaired.
  writeFileSync(
    folder.blob,
    at.layer.blob.map((byte, i) => (i === 5 ? byte ^ 1 : byte)),
  );
  const store = join(folder.path, 'none');
  const another = hold();
  await assert.rejects(repairChunks(folder, [0], { read, store }), /another process loads/);
  const repaired = repairChunks(folder, [0], { read, store });
  await sleep(50);
  closeSync(another);
  assert.deepEqual(await repaired, []);
  assert.ok(readFileSync(folder.blob).equals(at.layer.blob));
});

test('another layer whose folder took the name of one that was removed is not taken for it', async (t) => {
  const at = bench(t, manySizes(30));
  const { path } = at.layer.folder;
  const first = await use(at.loader, path, { fill: false });
  rmSync(path, { recursive: true });
  const other = makeLayer(path, manySizes(30));
  const second = await use(at.loader, path, { fill: false });
  second.open.want(0, 30);
  await second.told.until(({ completed }) => completed > 0);
  assert.ok(readFileSync(other.folder.blob).equals(other.blob));
  first.open.end();
});

test('chunks that lie together come with one request, and those that are here are told at once', async (t) => {
  const at = bench(t, new Array<number>(16).fill(8192));
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(2, 8);
  await told.until(({ arrived }) => arrived.size === 8);
  assert.equal(at.registry.requests.length, 1);
  const second = await use(at.loader, at.layer.folder.path);
  second.open.want(4, 2);
  await second.told.until(({ arrived }) => arrived.size === 2);
  assert.equal(at.registry.requests.length, 1);
});

test('chunks of a compressed stream: a span is fetched once, with all chunks in it', async (t) => {
  // Chunks 0 to 4 lie in the first frame, chunk 5 in two.
  const layer = makeStreamLayer(join(tempDir(t), 'layer'), 40, 5000, 28_000);
  const registry = new FakeRegistry(layer.origin);
  const loader = new Loader({ read: registry.read, quiet: 5, pause: [5, 20] });
  t.after(() => loader.end());
  const { open, told } = await use(loader, layer.folder.path);
  open.want(2, 1);
  await told.until(({ arrived }) => arrived.has(2));
  assert.equal(registry.requests.length, 1);
  open.want(0, 5);
  await told.until(({ arrived }) => arrived.size === 5);
  assert.equal(registry.requests.length, 1, 'its neighbours had come along');
  open.want(5, 1);
  await told.until(({ arrived }) => arrived.has(5));
  assertTrue(layer, told);
  registry.faults.set('first.test', 'wrong');
  await loader.perform({ op: 'fill', mountpoint: '/mnt' });
  await told.until(({ completed }) => completed === 1);
  assert.ok(readFileSync(layer.folder.blob).equals(layer.blob));
});

test('two users of a chunk that is on its way share the request', async (t) => {
  const at = bench(t, new Array<number>(4).fill(8192));
  at.registry.delay = 30;
  const one = await use(at.loader, at.layer.folder.path);
  const two = await use(at.loader, at.layer.folder.path);
  one.open.want(1, 1);
  await sleep(10);
  two.open.want(1, 1);
  await Promise.all([one, two].map(({ told }) => told.until(({ arrived }) => arrived.has(1))));
  assert.equal(at.registry.requests.length, 1);
});

test('a chunk that nobody waits for any more is not told', async (t) => {
  const at = bench(t, new Array<number>(4).fill(8192));
  const { open, told } = await use(at.loader, at.layer.folder.path);
  at.registry.delay = 10;
  open.want(0, 1);
  open.want(3, 1);
  open.drop(3, 1);
  await told.until(({ arrived }) => arrived.has(0));
  await sleep(30);
  assert.deepEqual([...told.arrived], [0]);
});

test('background fill completes the layer: everything is right, and the loader has nothing left to do', async (t) => {
  const at = bench(t, manySizes(300));
  const idle = new Promise<void>((resolve) => at.loader.once('idle', resolve));
  const { told } = await use(at.loader, at.layer.folder.path, { fill: true });
  await told.until(({ completed }) => completed === 1);
  await idle;
  assert.ok(readFileSync(at.layer.folder.blob).equals(at.layer.blob));
  assert.ok(at.layer.folder.isComplete);
  assert.equal(at.loader.isBusy, false);
  assert.ok(at.registry.bytes <= at.layer.origin.length, 'nothing came twice');
  assert.ok(at.registry.most <= 3, `${at.registry.most} requests at a time`);
  const again = await use(at.loader, at.layer.folder.path);
  assert.ok(again.open.isComplete);
});

test('what somebody waits for goes before everything else', async (t) => {
  const at = bench(t, new Array<number>(400).fill(65536), { connections: 3, quiet: 10_000 });
  at.registry.delay = 5;
  const { open, told } = await use(at.loader, at.layer.folder.path, { fill: true });
  await sleep(20);
  open.want(399, 1);
  await told.until(({ arrived }) => arrived.has(399));
  const [status] = await layersOf(at.loader);
  assert.ok((status?.residentChunks as number) < 400, 'the fill was not waited for');
});

test('a recorded order is fetched in that order', async (t) => {
  const at = bench(t, new Array<number>(200).fill(65536));
  const first = await use(at.loader, at.layer.folder.path, { record: true });
  assert.equal(first.open.records, true);
  for (const i of [150, 10, 80]) {
    first.open.want(i, 1);
    await first.told.until(({ arrived }) => arrived.has(i));
  }
  first.open.used(10, 1);
  first.open.end();
  await at.loader.end();
  const order = readFileSync(at.layer.folder.order);
  assert.deepEqual(
    [0, 4, 8].map((k) => order.readUInt32LE(k)),
    [150, 10, 80],
  );
  assert.equal(order.length, 12);

  const second = makeLayer(join(tempDir(t), 'other'), new Array<number>(200).fill(65536));
  writeFileSync(second.folder.order, order);
  const registry = new FakeRegistry(second.origin);
  const loader = new Loader({ read: registry.read, connections: 1, quiet: 5 });
  t.after(() => loader.end());
  await use(loader, second.folder.path, { prefetch: true });
  while (registry.requests.length < 3) await sleep(5);
  const { table } = second;
  assert.deepEqual(
    registry.requests.map((request) => request.at),
    [150, 10, 80].map((i) => table.from(i)),
  );
});

const waitable: Fault[] = ['truncated', 'auth', 'absent', 'busy', 'refused', 'network', 'range'];

for (const fault of waitable) {
  test(`a registry that fails (${fault}): waiting readers wait, others get EIO, and it is used again when it returns`, async (t) => {
    const at = bench(t, new Array<number>(8).fill(8192));
    at.registry.faults.set('*', fault);
    const patient = await use(at.loader, at.layer.folder.path, { stall: 'wait' });
    const hasty = await use(at.loader, at.layer.folder.path, { stall: 'eio' }, '/other');
    patient.open.want(1, 1);
    hasty.open.want(1, 1);
    await hasty.told.until(({ refused }) => refused.get(1) === E.IO);
    assert.equal(patient.told.refused.size, 0);
    const [status] = await layersOf(at.loader);
    assert.match(status?.trouble ?? '', fault === 'truncated' ? /bytes came/ : /^registry: /);
    assert.equal(status?.residentBytes, 0);
    assert.deepEqual(
      status?.waiting.map(({ chunk, waiters, mountpoints }) => ({ chunk, waiters, mountpoints })),
      [{ chunk: 1, waiters: 1, mountpoints: ['/mnt'] }],
    );
    hasty.open.want(2, 1);
    await hasty.told.until(({ refused }) => refused.has(2));
    at.registry.faults.clear();
    await patient.told.until(({ arrived }) => arrived.has(1));
    assertTrue(at.layer, patient.told);
    const [later] = await layersOf(at.loader);
    assert.equal(later?.trouble, undefined);
  });
}

test('who reads one chunk behind the other gets those behind them along, of whatever lengths they are', async (t) => {
  for (const sizes of [
    new Array<number>(40).fill(8192),
    [...Array(40).keys()].map((i) => 5001 + 2 * i),
  ]) {
    const at = bench(t, sizes);
    const { open, told } = await use(at.loader, at.layer.folder.path, { fill: false });
    for (let i = 0; i < 16; i++) {
      open.want(i, 1);
      await told.until(({ arrived }) => arrived.has(i));
    }
    assert.ok(at.registry.requests.length < 16, `${at.registry.requests.length} requests`);
    assert.ok(at.registry.bytes < at.layer.origin.length, 'not all of it');
    assertTrue(at.layer, told);
  }
});

test('a limited patience ends, wherever the answer is', async (t) => {
  const at = bench(t, new Array<number>(8).fill(8192));
  at.registry.faults.set('*', 'stalled');
  const limited = await use(at.loader, at.layer.folder.path, { stall: 0.1 });
  const patient = await use(at.loader, at.layer.folder.path);
  limited.open.want(0, 1);
  patient.open.want(0, 1);
  await limited.told.until(({ refused }) => refused.get(0) === E.AGAIN);
  assert.equal(patient.told.refused.size, 0);
});

test('a request that hangs when its layer is given up keeps nobody waiting, whether it can be given up or not', async (t) => {
  for (const obeys of [true, false]) {
    let hangs = true;
    const at = bench(t, new Array<number>(8).fill(8192), {
      read: (source, origin, from, length, signal) => {
        if (!hangs) return at.registry.read(source, origin, from, length, signal);
        return obeys ? sleep(1 << 30, Buffer.of(), { signal }) : new Promise(() => {});
      },
    });
    const first = await use(at.loader, at.layer.folder.path);
    first.open.want(0, 1);
    while ((await layersOf(at.loader))[0]?.map?.[0]?.[0] !== 2) await sleep(1);
    // The request is on its way.
    await sleep(20);
    first.open.end();
    hangs = false;
    const second = await use(at.loader, at.layer.folder.path);
    second.open.want(0, 8);
    await second.told.until(({ arrived }) => arrived.size === 8);
    assertTrue(at.layer, second.told);
    const failures = at.log.filter((line) => !line.endsWith(': complete'));
    assert.deepEqual(failures, [], 'what was given up is no failure');
  }
});

test('the second source serves when the first fails', async (t) => {
  for (const fault of ['network', 'wrong'] as const) {
    const at = bench(t, new Array<number>(8).fill(8192));
    at.registry.faults.set('first.test', fault);
    const { open, told } = await use(at.loader, at.layer.folder.path, { stall: 'eio' });
    open.want(0, 8);
    await told.until(({ arrived }) => arrived.size === 8);
    assertTrue(at.layer, told);
    assert.equal(told.refused.size, 0);
  }
});

test('wrong content is never written: EIO for everybody, a line in the log, and another attempt when it is wanted again', async (t) => {
  const at = bench(t, [100_000, 100_000, 100_000, 5000, 70_000, 3000]);
  at.registry.faults.set('*', 'wrong');
  const { open, told } = await use(at.loader, at.layer.folder.path, { stall: 'wait' });
  for (let i = 0; i < 6; i++) {
    open.want(i, 1);
    await told.until(({ refused }) => refused.get(i) === E.IO);
  }
  assert.equal(told.arrived.size, 0);
  assert.ok(
    readFileSync(at.layer.folder.blob).every((byte) => byte === 0),
    'nothing was written',
  );
  assert.match(
    at.log.join('\n'),
    /chunk 1 from first\.test\/app sha256:[0-9a-f]{64} byte \d+ is wrong: expected [0-9a-f]{64}, found [0-9a-f]{64}/,
  );
  const [status] = await layersOf(at.loader);
  assert.match(status?.trouble ?? '', /wrong content/);
  at.registry.faults.clear();
  open.want(0, 6);
  await told.until(({ arrived }) => arrived.size === 6);
  assertTrue(at.layer, told);
});

test('a registry that asks for patience gets it', async (t) => {
  const at = bench(t, new Array<number>(8).fill(8192));
  at.registry.faults.set('*', 'busy');
  at.registry.retryAfter = 0.3;
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(0, 1);
  // Both sources are asked, once, and then again.
  while (at.registry.requests.length < 3) await sleep(5);
  const [, second = 0, third = 0] = at.registry.requests.map(({ when }) => when);
  // Never sooner; how much later is the machine's affair.
  assert.ok(third - second >= 300, `after ${third - second} ms`);
  at.registry.faults.clear();
  await told.until(({ arrived }) => arrived.has(0));
});

test('what this machine has is not fetched; what it claims to have and has not is', async (t) => {
  const layer = makeLayer(join(tempDir(t), 'layer'), new Array<number>(8).fill(8192));
  const registry = new FakeRegistry(layer.origin);
  const loader = new Loader({
    read: registry.read,
    local: async (_, i) => {
      if (i > 3) return undefined;
      const content = Buffer.from(layer.blob.subarray(layer.table.at(i), layer.table.at(i) + 8192));
      if (i === 3) content[0] = (content[0] as number) ^ 1;
      return content;
    },
  });
  t.after(() => loader.end());
  const { open, told } = await use(loader, layer.folder.path);
  for (const i of [0, 3, 5]) open.want(i, 1);
  await told.until(({ arrived }) => arrived.size === 3);
  assertTrue(layer, told);
  const { table } = layer;
  assert.equal(registry.bytes, table.stored(3) + table.stored(5), 'only what was not here came');
});

test('a layer is loaded by one process, and damaged ones are refused', async (t) => {
  const at = bench(t, [8192]);
  await use(at.loader, at.layer.folder.path);
  const other = new Loader({ read: at.registry.read });
  t.after(() => other.end());
  await assert.rejects(use(other, at.layer.folder.path), /another process loads this layer/);
  const damaged = makeLayer(join(tempDir(t), 'damaged'), [8192]);
  writeFileSync(damaged.folder.table, 'nonsense');
  await assert.rejects(use(other, damaged.folder.path), /chunk table: shorter than its head/);
  await assert.rejects(use(other, '/nowhere/at/all'), /no layer is there/);
});

test('eviction gives space back, oldest first; what goes is fetched again, and the layer can be completed again', async (t) => {
  const at = bench(t, new Array<number>(64).fill(65536));
  const { open, told } = await use(at.loader, at.layer.folder.path, {}, '/mnt');
  open.want(0, 63);
  await told.until(({ arrived }) => arrived.size === 63);
  open.used(7, 1);
  const before = statSync(at.layer.folder.blob).blocks;
  await assert.rejects(
    at.loader.perform({ op: 'evict', mountpoint: '/other', keep: 0 }),
    /no layer/,
  );
  await sleep(1100);
  open.used(3, 2);
  const answer = await at.loader.perform({ op: 'evict', mountpoint: '/mnt', keep: 2 * 65536 });
  assert.deepEqual(answer, { evictedBytes: 61 * 65536 });
  const [status] = await layersOf(at.loader);
  assert.equal(status?.residentChunks, 2);
  assert.deepEqual(status?.map, [
    [0, 3],
    [1, 2],
    [0, 59],
  ]);
  assert.ok(statSync(at.layer.folder.blob).blocks < before / 10, 'the space is free');
  const fetched = at.registry.requests.length;
  told.arrived.clear();
  open.want(3, 3);
  await told.until(({ arrived }) => arrived.size === 3);
  assert.equal(at.registry.requests.length, fetched + 1);
  assertTrue(at.layer, told);
  await at.loader.perform({ op: 'fill', mountpoint: '/mnt' });
  await told.until(({ completed }) => completed === 1);
  assert.ok(readFileSync(at.layer.folder.blob).equals(at.layer.blob));
});

test('a complete layer can be emptied while servers have it, not while somebody relies on its content', async (t) => {
  const at = bench(t, new Array<number>(16).fill(65536));
  const { told } = await use(at.loader, at.layer.folder.path, { fill: true });
  await told.until(({ completed }) => completed === 1);
  const { folder, table } = at.layer;
  const map = ResidencyMap.open(folder.map, table.count, false);
  t.after(() => map.close());
  const { generation } = map;
  const stays = (): void => {
    assert.ok(folder.isComplete && map.isComplete);
    assert.equal(map.generation, generation);
  };
  const blob = openSync(folder.blob, 'r');
  if (at.loader.isBusy) await once(at.loader, 'idle');
  await assert.rejects(evictIdle(folder, 0), /is in use/);
  closeSync(blob);
  stays();
  const hold = openSync(folder.meta, 'r');
  assert.equal(lockFile(hold, true), 0);
  await assert.rejects(evictIdle(folder, 0), /is in use/);
  closeSync(hold);
  stays();
  const asked = evictIdle(folder, 0, async () => {
    // Who is about to mount it must see that it may not.
    assert.ok(!folder.isComplete);
    assert.throws(() => LoadedLayer.open(folder), /another process/);
    throw new Error('not to be known');
  });
  await assert.rejects(asked, /not to be known/);
  stays();
  // What was recorded as used first stays longest.
  writeFileSync(folder.order, Buffer.from(Uint32Array.of(9, 3, 12).buffer));
  assert.equal(await evictIdle(folder, 2 * 65536, () => false), 14 * 65536);
  const here = [...new Array(16).keys()].filter((i) => map.isHere(i));
  assert.deepEqual(here, [3, 9]);
  assert.equal(map.isComplete, false);
  assert.equal(map.generation, generation + 1);
  assert.equal(folder.isComplete, false);
  const again = await use(at.loader, folder.path, { fill: true });
  await again.told.until(({ completed }) => completed === 1);
  assert.ok(readFileSync(folder.blob).equals(at.layer.blob));
  assert.ok(map.isComplete);
});

test('a complete layer is all here, also where whoever made its map was killed over it', (t) => {
  const { folder, table, blob } = makeLayer(join(tempDir(t), 'built'), manySizes(30));
  writeFileSync(folder.blob, blob);
  writeFileSync(folder.complete, '');
  for (const marked of [0, 7, 30]) {
    const begun = ResidencyMap.open(folder.map, table.count, true);
    for (let i = 0; i < marked; i++) begun.mark(i);
    begun.close();
    const layer = LoadedLayer.open(folder);
    assert.deepEqual([layer.absent, layer.hasUnsynced], [0, false]);
    assert.ok(layer.map.isComplete);
    layer.close();
    rmSync(folder.map);
  }
  // Something goes; the rest is what it was.
  const layer = LoadedLayer.open(folder);
  evict(layer, [3, 4]);
  layer.close();
  const again = LoadedLayer.open(folder);
  assert.equal(again.absent, 2);
  assert.ok(!again.map.isComplete);
  again.close();
});

test('eviction leaves bytes alone that share a block with what stays', async (t) => {
  const at = bench(t, [...new Array<number>(32).fill(512), 65536, 65536]);
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(0, 32);
  await told.until(({ arrived }) => arrived.size === 32);
  await sleep(1100);
  open.used(9, 1);
  open.used(20, 1);
  await at.loader.perform({ op: 'evict', mountpoint: '/mnt', keep: 1024 });
  const found = readFileSync(at.layer.folder.blob);
  for (const i of [9, 20]) {
    const from = 512 * i;
    assert.ok(found.subarray(from, from + 512).equals(at.layer.blob.subarray(from, from + 512)));
  }
});

test('eviction leaves bytes alone that share a block with what is just being written', async (t) => {
  const { layer } = bench(t, [512, 512, 8192]);
  const loaded = LoadedLayer.open(layer.folder);
  try {
    const [first, second] = [layer.blob.subarray(0, 512), layer.blob.subarray(512, 1024)];
    assert.ok(await loaded.put(0, first));
    writeSync(loaded.blob, second, 0, 512, 512);
    assert.equal(
      evict(loaded, [0], (i) => i === 1),
      512,
    );
    assert.ok(readFileSync(layer.folder.blob).subarray(512, 1024).equals(second));
  } finally {
    loaded.close();
  }
});

test('what was taken back is not looked for on this machine', async (t) => {
  const store = tempDir(t);
  mkdirSync(join(store, 'layers'));
  const layer = makeLayer(join(store, 'layers/sha256-it'), [8192, 8192]);
  const loaded = LoadedLayer.open(layer.folder);
  try {
    await loaded.put(0, layer.blob.subarray(0, 8192));
    const local = new LocalChunks(store);
    const find = () => local.find(layer.table.digest(0), 8192);
    assert.ok(layer.blob.subarray(0, 8192).equals(find() ?? new Uint8Array(0)));
    evict(loaded, [0]);
    assert.equal(find(), undefined);
  } finally {
    loaded.close();
  }
});
