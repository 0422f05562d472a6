// Our own form in a registry: what is pushed is what is pulled, and what the registry has is not pushed again.

import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { listImages, readImage, removeImage } from '../../src/lazy/image-record.js';
import { LayerFolder, STAGING } from '../../src/lazy/layer-folder.js';
import { evictIdle } from '../../src/lazy/load/evict.js';
import { unitMates } from '../../src/lazy/load/runs.js';
import { pruneLayers } from '../../src/lazy/prune.js';
import { pullImage } from '../../src/lazy/pull/pull.js';
import { type PushOptions, pushLayers } from '../../src/lazy/push/push.js';
import { mapMemory } from '../../src/linux/memory.js';
import { formatReference, parseReference } from '../../src/oci/reference.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { plainClient } from '../oci/plain-client.js';
import { startRealRegistry } from '../oci/real-registry.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { sampleTree } from './sample-tree.js';

mapMemory();

const plain = { lazy: false, plainHttp: true };

/** What a complete layer is: its metadata, and each chunk of its content. */
function contentOf(layer: LayerFolder): { meta: Buffer; blob: Buffer } {
  return { meta: readFileSync(layer.meta), blob: readFileSync(layer.blob) };
}

test('pushed to a registry and pulled from it: the same files', {
  skip: requires({ packages: ['docker-registry'] }),
}, async (t) => {
  const { host } = await startRealRegistry(t);
  const folder = tempDir(t);
  const registry = plainClient(t);
  const ref = parseReference(`${host}/some/tree:one`);
  const below = await buildLayer(sampleTree({ files: 300 }), join(folder, 'here'));
  const above = await buildLayer(sampleTree({ files: 40, seed: 2 }), join(folder, 'here'));
  const config = { env: ['A=b'], entrypoint: ['/bin/sh', '-c'], user: '1:2', workdir: '/w' };
  writeFileSync(above.order, Uint8Array.of(3, 0, 0, 0, 1, 0, 0, 0));

  const report = await pushLayers(registry, ref, [below, above], { config, packSize: 1 << 20 });
  assert.ok(report.newPacks > 1 && report.packs === report.newPacks);
  assert.equal(report.knownChunks, 0);
  // The layers that were pushed know where they lie now.
  assert.deepEqual(below.read().sources, [{ registry: host, repository: 'some/tree' }]);
  assert.equal(new ChunkTable(readFileSync(below.table)).origins, report.packs);

  const store = join(folder, 'there');
  /** What a loader may begin with: all but the metadata, and nothing that would make it a layer. */
  const staged: string[][] = [];
  const lazy = await pullImage(registry, ref, store, {
    lazy: true,
    plainHttp: true,
    onStaged: (path) => {
      assert.ok(basename(path).startsWith(STAGING));
      assert.equal(
        LayerFolder.ofImage(join(path, 'meta.erofs'))?.read().sources[0]?.registry,
        host,
      );
      staged.push(readdirSync(path).sort());
    },
  });
  assert.deepEqual(
    staged.sort((a, b) => a.length - b.length),
    [
      ['blob', 'chunks', 'layer.json'],
      ['blob', 'chunks', 'layer.json', 'order'],
    ],
  );
  assert.equal(lazy.digest, report.digest);
  assert.deepEqual(lazy.config, config);
  assert.deepEqual(lazy.layers, [below.read().id, above.read().id]);
  const layers = lazy.layers.map((id) => LayerFolder.of(store, id));
  for (const layer of layers) {
    assert.ok(!layer.isComplete && !existsSync(layer.map));
    assert.deepEqual(layer.read().sources, [
      { registry: host, repository: 'some/tree', plainHttp: true },
    ]);
  }
  assert.deepEqual(readFileSync((layers[1] as LayerFolder).order), readFileSync(above.order));

  // A layer that is here without one takes the order of a later push.
  rmSync((layers[1] as LayerFolder).order);
  await pullImage(registry, ref, store, plain);
  assert.deepEqual(readFileSync((layers[1] as LayerFolder).order), readFileSync(above.order));
  for (const [i, layer] of [below, above].entries()) {
    const pulled = layers[i] as LayerFolder;
    assert.ok(pulled.isComplete);
    assert.deepEqual(contentOf(pulled), contentOf(layer));
  }
  assert.deepEqual(readImage(store, formatReference(ref)), lazy);
  assert.deepEqual(
    readdirSync(join(store, 'layers')).sort(),
    lazy.layers.map((id) => id.replace(':', '-')).sort(),
  );

  assert.equal(pruneLayers(store).layers, 0);
  assert.ok(removeImage(store, formatReference(ref)));
  assert.deepEqual(listImages(store), []);
  const pruned = pruneLayers(store);
  assert.equal(pruned.layers, 2);
  assert.ok(pruned.bytes > 1_000_000);
  assert.deepEqual(readdirSync(join(store, 'layers')), []);
});

test('the same tree again uploads nothing, one of which 5 % has changed less than 10 %', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const registry = plainClient(t);
  const ref = parseReference(`${fake.host}/tree:latest`);
  /** Each push is that of another machine: a copy of the layer as it was built. */
  const push = async (layer: LayerFolder, name: string, options: PushOptions = {}, to = ref) => {
    const path = join(folder, name);
    cpSync(layer.path, path, { recursive: true });
    const sum = () => [...fake.blobs.values()].reduce((bytes, { length }) => bytes + length, 0);
    const before = sum();
    const report = await pushLayers(registry, to, [new LayerFolder(path)], options);
    assert.equal(report.uploaded, sum() - before);
    return report;
  };
  const tree = await buildLayer(sampleTree({ files: 2000 }), folder);
  const first = await push(tree, 'first');
  assert.ok(first.uploaded > 10_000_000);
  const again = await push(tree, 'again');
  assert.equal(again.uploaded, 0);
  assert.equal(again.digest, first.digest);

  const other = await buildLayer(sampleTree({ files: 2000, changedEvery: 20 }), folder);
  const changed = await push(other, 'changed');
  const share = changed.uploaded / first.uploaded;
  assert.ok(share < 0.1, `${share} of the first push`);
  t.diagnostic(`5 % of the files changed: ${(share * 100).toFixed(1)} % uploaded`);

  // Another tag, and another repository, know nothing unless they are told what they are like.
  for (const name of ['tree:next', 'copy:latest']) {
    const to = parseReference(`${fake.host}/${name}`);
    const like = await push(other, name.replace(':', '-'), { like: [ref] }, to);
    assert.equal(like.uploaded, 0);
    assert.equal(like.digest, changed.digest);
  }
});

test('a pack of which little is used is not kept for it', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const registry = plainClient(t);
  const ref = parseReference(`${fake.host}/tree:latest`);
  const push = async (files: number) => {
    const layer = await buildLayer(sampleTree({ files }), join(folder, `store-${files}`));
    return pushLayers(registry, ref, [layer]);
  };
  assert.deepEqual((await push(400)).packs, 1);
  const most = await push(380);
  assert.deepEqual([most.packs, most.newPacks, most.knownChunks], [1, 0, most.chunks]);
  const few = await push(40);
  assert.deepEqual([few.packs, few.newPacks, few.knownChunks], [1, 1, 0]);
});

test('a layer that was pushed may be emptied and comes again, one that lies nowhere else may not', async (t) => {
  const fake = await startFakeRegistry(t);
  const store = tempDir(t);
  const registry = plainClient(t);
  const ref = parseReference(`${fake.host}/tree:latest`);
  const layer = await buildLayer(sampleTree({ files: 60 }), store);
  const before = contentOf(layer);
  assert.equal(await evictIdle(layer, 0), 0);
  assert.ok(layer.isComplete);
  await pushLayers(registry, ref, [layer], { plainHttp: true });
  assert.ok((await evictIdle(layer, 0)) > 0);
  assert.ok(!layer.isComplete);
  assert.ok(contentOf(layer).blob.every((byte) => byte === 0));

  await pullImage(registry, ref, store, plain);
  assert.ok(layer.isComplete);
  assert.deepEqual(contentOf(layer), before);

  // Without the registry, by building it again.
  await evictIdle(layer, 0);
  await fake.stop();
  await buildLayer(sampleTree({ files: 60 }), store);
  assert.ok(layer.isComplete);
  assert.deepEqual(contentOf(layer), before);
});

test('a layer that lies in two repositories comes from the one that has it', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const registry = plainClient(t);
  const tree = await buildLayer(sampleTree({ files: 100 }), folder);
  const push = async (name: string, options: PushOptions) => {
    const path = join(folder, name);
    cpSync(tree.path, path, { recursive: true });
    const ref = parseReference(`${fake.host}/${name}:latest`);
    await pushLayers(registry, ref, [new LayerFolder(path)], options);
    return { ref, origins: new LayerFolder(path).read().origins };
  };
  const one = await push('one', { packSize: 500_000 });
  const two = await push('two', { level: 1 });
  const store = join(folder, 'store');
  const { layers } = await pullImage(registry, one.ref, store, { lazy: true });
  const layer = LayerFolder.of(store, layers[0] as string);
  const whole = new ChunkTable(readFileSync(layer.table));
  await pullImage(registry, two.ref, store, { lazy: true });
  // Numbers of origins stay: whoever has read the table before goes on with it.
  assert.deepEqual(layer.read().origins, [...one.origins, ...two.origins]);
  assert.deepEqual(
    layer.read().sources.map(({ repository }) => repository),
    ['two', 'one'],
  );
  const table = new ChunkTable(readFileSync(layer.table));
  assert.equal(table.layerId(), whole.layerId());
  assert.equal(table.origin(0), one.origins.length);

  for (const { digest } of one.origins) fake.blobs.delete(digest);
  await pullImage(registry, two.ref, store, { lazy: false });
  assert.deepEqual(contentOf(layer), contentOf(tree));
});

test('chunks that another layer of the store has are not fetched', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const registry = plainClient(t);
  const push = async (name: string, changedEvery?: number) => {
    const layer = await buildLayer(sampleTree({ files: 200, changedEvery }), join(folder, 'here'));
    const ref = parseReference(`${fake.host}/${name}:latest`);
    return { ref, report: await pushLayers(registry, ref, [layer]) };
  };
  const one = await push('one');
  const two = await push('two', 20);
  const store = join(folder, 'there');
  await pullImage(registry, one.ref, store, plain);
  let fetched = 0;
  fake.on = (request, response) => {
    const isPack = request.headers.range !== undefined;
    if (isPack)
      response.on('finish', () => (fetched += Number(response.getHeader('content-length'))));
    return false;
  };
  await pullImage(registry, two.ref, store, plain);
  assert.ok(
    fetched > 0 && fetched < 0.2 * two.report.uploaded,
    `${fetched} of ${two.report.uploaded}`,
  );
});

test('chunks that were first used together lie together, and are fetched together', async (t) => {
  const fake = await startFakeRegistry(t);
  const layer = await buildLayer(sampleTree({ files: 60 }), tempDir(t));
  const built = new ChunkTable(readFileSync(layer.table));
  const small = Array.from({ length: built.count }, (_, i) => i).filter(
    (i) => built.length(i) < 9000,
  );
  const order = [20, 3, 15].map((i) => small[i] as number);
  writeFileSync(layer.order, Uint8Array.from(order.flatMap((i) => [i, 0, 0, 0])));
  await pushLayers(plainClient(t), parseReference(`${fake.host}/tree:latest`), [layer]);
  const table = new ChunkTable(readFileSync(layer.table));
  const units = new Map<number, number[]>();
  for (let i = 0; i < table.count; i++) {
    units.set(table.from(i), [...(units.get(table.from(i)) ?? []), i]);
  }
  assert.deepEqual(
    units.get(0),
    order.toSorted((a, b) => a - b),
  );
  for (const chunks of units.values()) {
    for (const i of chunks) assert.deepEqual(unitMates(table, i), chunks);
  }
});
