// A layer that has learned of another registry: where that one's places are wrong, gone or silent, those known before are taken.
// Under test: src/lazy/renew-layer.ts, the attempts of load/scheduler.ts and pull/fill.ts. No reader ever gets an error for it.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  type ChunkRecord,
  ChunkTable,
  Codec,
  encodeChunkTable,
} from '../../src/lazy/chunk-table.js';
import { type LayerRecord, type Origin, STAGING } from '../../src/lazy/layer-folder.js';
import type { ReadRange } from '../../src/lazy/load/fetch.js';
import { LoadedLayer } from '../../src/lazy/load/layer.js';
import { Loader } from '../../src/lazy/load/loader.js';
import { fillLayer } from '../../src/lazy/pull/fill.js';
import { renewLayer } from '../../src/lazy/renew-layer.js';
import { E } from '../../src/linux/errno.js';
import { mapMemory } from '../../src/linux/memory.js';
import { tempDir } from '../support/temp.js';
import { type FakeLayer, FakeRegistryError, makeLayer } from './fake-layer.js';
import { use } from './users.js';

mapMemory();

type Behaviour = 'right' | 'wrong' | 'absent' | 'network' | 'truncated';

interface Renewed {
  readonly layer: FakeLayer;
  /** Host -> what it does. */
  readonly hosts: Map<string, Behaviour>;
  readonly requests: string[];
  readonly read: ReadRange;
  /** Another registry that has the layer, each chunk so many bytes further behind in a pack of its own. */
  renew(host: string, shift: number): void;
}

/** A layer of 40 chunks, which first.test has. */
function renewable(t: { after(fn: () => void): void }): Renewed {
  const layer = makeLayer(join(tempDir(t), 'layer'), new Array<number>(40).fill(8192));
  const { table, folder, blob } = layer;
  const bare = new ChunkTable(readFileSync(folder.table)).layerId();
  const source = { registry: 'first.test', repository: 'app' };
  const record: LayerRecord = { ...folder.read(), id: bare, sources: [source] };
  writeFileSync(folder.record, JSON.stringify(record));
  const packs = new Map([[record.origins[0]?.digest, layer.origin]]);
  const owners = new Map([[record.origins[0]?.digest, 'first.test']]);
  const hosts = new Map<string, Behaviour>();
  const requests: string[] = [];
  return {
    layer,
    hosts,
    requests,
    read: async ({ registry }, { digest }, at, length) => {
      requests.push(registry);
      const does = hosts.get(registry) ?? 'right';
      if (owners.get(digest) !== registry) throw new FakeRegistryError('absent');
      if (does === 'absent' || does === 'network') throw new FakeRegistryError(does);
      const bytes = Buffer.from((packs.get(digest) as Buffer).subarray(at, at + length));
      if (does === 'wrong') bytes.fill(7);
      return does === 'truncated' ? bytes.subarray(1) : bytes;
    },
    renew: (host, shift) => {
      const pack = Buffer.concat([Buffer.alloc(shift), blob]);
      const digest = `sha256:${createHash('sha256').update(host).digest('hex')}`;
      const origin: Origin = { digest, size: pack.length, mediaType: 'pack' };
      packs.set(digest, pack);
      owners.set(digest, host);
      const records = Array.from(
        { length: table.count },
        (_, i): ChunkRecord => ({
          at: table.at(i),
          length: table.length(i),
          stored: table.length(i),
          from: table.at(i) + shift,
          skip: 0,
          origin: 0,
          codec: Codec.RAW,
          digest: table.digest(i),
        }),
      );
      const bytes = encodeChunkTable(records, table.blobSize, 1, table.metaDigest);
      renewLayer(folder, bytes, [origin], { registry: host, repository: 'app' });
    },
  };
}

const contentIsRight = ({ layer }: Renewed): void => {
  assert.ok(readFileSync(layer.folder.blob).equals(layer.blob));
};

for (const does of ['wrong', 'absent', 'network', 'truncated'] as const) {
  test(`the last one that was learned of is ${does}: nobody gets an error`, async (t) => {
    const at = renewable(t);
    at.renew('other.test', 4096);
    at.hosts.set('other.test', does);
    const loader = new Loader({ read: at.read, pause: [5, 20], quiet: 5 });
    t.after(() => loader.end());
    const { open, told } = await use(loader, at.layer.folder.path, { stall: 'eio' });
    open.want(3, 1);
    await told.until(() => told.arrived.has(3) || told.refused.size > 0);
    assert.deepEqual([...told.refused], []);
    // Whoever was right is asked first from then on.
    at.requests.length = 0;
    open.want(20, 1);
    await told.until(() => told.arrived.has(20) || told.refused.size > 0);
    assert.deepEqual(at.requests, ['first.test']);
    open.want(0, 40);
    await told.until(() => told.completed > 0 || told.refused.size > 0);
    assert.deepEqual([...told.refused], []);
    contentIsRight(at);
  });

  test(`and a pull of all content goes on, too, with one that is ${does}`, async (t) => {
    const at = renewable(t);
    at.renew('other.test', 4096);
    at.hosts.set('other.test', does);
    await fillLayer(at.layer.folder, { read: at.read });
    assert.ok(at.layer.folder.isComplete);
    contentIsRight(at);
  });
}

test('of several that were learned of any may be the one that is right', async (t) => {
  for (const right of ['first.test', 'second.test', 'third.test', 'fourth.test']) {
    const at = renewable(t);
    ['second.test', 'third.test', 'fourth.test'].forEach((host, i) => {
      at.renew(host, 4096 * (i + 1));
    });
    for (const host of ['first.test', 'second.test', 'third.test', 'fourth.test']) {
      at.hosts.set(host, host === right ? 'right' : 'wrong');
    }
    const loader = new Loader({ read: at.read, pause: [5, 20], quiet: 5 });
    const { open, told } = await use(loader, at.layer.folder.path, { stall: 'eio' });
    open.want(0, 40);
    await told.until(() => told.completed > 0 || told.refused.size > 0);
    assert.deepEqual([...told.refused], [], right);
    contentIsRight(at);
    await loader.end();
  }
});

test('where all of them are wrong there is an error, and nothing wrong is kept', async (t) => {
  const at = renewable(t);
  at.renew('other.test', 4096);
  for (const host of ['first.test', 'other.test']) at.hosts.set(host, 'wrong');
  const loader = new Loader({ read: at.read, pause: [5, 20], quiet: 5 });
  t.after(() => loader.end());
  const { open, told } = await use(loader, at.layer.folder.path);
  open.want(3, 1);
  await told.until(() => told.refused.size > 0);
  assert.deepEqual([...told.refused], [[3, E.IO]]);
  assert.ok(readFileSync(at.layer.folder.blob).every((byte) => byte === 0));
  // One of them cannot be asked now: that may pass.
  at.hosts.set('first.test', 'network');
  open.want(4, 1);
  while (at.requests.length < 12) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(!told.refused.has(4));
  at.hosts.set('first.test', 'right');
  await told.until(() => told.arrived.has(4));
});

test('killed between the record and the table: both are of one layer', async (t) => {
  const at = renewable(t);
  const { folder } = at.layer;
  const before = readFileSync(folder.table);
  at.renew('other.test', 4096);
  writeFileSync(folder.table, before);
  await fillLayer(folder, { read: at.read });
  contentIsRight(at);
});

test('the same again changes nothing, and what is kept is bounded', (t) => {
  const at = renewable(t);
  const { folder } = at.layer;
  const kept = (): string[] => readdirSync(folder.path).filter((name) => /^chunks-/.test(name));
  at.renew('other.test', 4096);
  assert.equal(kept().length, 1);
  const record = readFileSync(folder.record, 'utf8');
  at.renew('other.test', 4096);
  assert.equal(readFileSync(folder.record, 'utf8'), record);
  for (let i = 0; i < 6; i++) at.renew(`host${i}.test`, 4096 * (i + 2));
  assert.equal(kept().length, 3);
  for (const name of folder.read().older ?? []) assert.ok(existsSync(folder.olderTable(name)));
  const layer = LoadedLayer.open(folder);
  assert.equal(layer.places.length, 4);
  layer.close();
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.startsWith(STAGING)),
    [],
  );
});
