// Layers that nobody names are removed while images are pulled that have them, and either is killed: an image that is there has all its layers.
// Under test: src/lazy/{prune,hold-layer}.ts, pull/. `--rounds 100` for a campaign.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { listImages, removeImage } from '../../src/lazy/image-record.js';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { pullImage } from '../../src/lazy/pull/pull.js';
import { pushLayers } from '../../src/lazy/push/push.js';
import { mapMemory } from '../../src/linux/memory.js';
import { formatReference, parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { campaign } from '../support/campaign.js';
import { tempDir } from '../support/temp.js';
import { sampleTree } from './sample-tree.js';

mapMemory();
const rounds = campaign('rounds', 8);
const PRUNE = fileURLToPath(new URL('./prune-loop.js', import.meta.url));
const PULL = fileURLToPath(new URL('./pull-once.js', import.meta.url));

test('pulled and removed at the same time', async (t) => {
  const folder = tempDir(t);
  const fake = await startFakeRegistry(t);
  const registry = new Registry({ plainHttp: true, env: {}, retries: 0 });
  t.after(() => registry.close());
  const built: LayerFolder[] = [];
  for (const seed of [1, 2, 3]) {
    built.push(await buildLayer(sampleTree({ files: 40, seed }), join(folder, 'built')));
  }
  const ref = parseReference(`${fake.host}/tree:latest`);
  await pushLayers(registry, ref, built);
  fake.on = async () => {
    await sleep(Math.random() * 10);
    return false;
  };
  const store = join(folder, 'store');
  const hasAll = (): void => {
    for (const { layers } of listImages(store)) {
      assert.equal(layers.length, built.length);
      for (const id of layers) assert.ok(LayerFolder.of(store, id).exists, `${id} is missing`);
    }
  };

  let removed = 0;
  const prune = (): ChildProcess => {
    const child = spawn(process.execPath, [PRUNE, store], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      removed += text.split('\n').length - 1;
    });
    return child;
  };
  let pruner = prune();
  const untilPruned = async (): Promise<void> => {
    const isThere = (layer: LayerFolder) => LayerFolder.of(store, layer.read().id).exists;
    while (pruner.exitCode === null && built.some(isThere)) await sleep(5);
  };
  t.after(() => pruner.kill('SIGKILL'));
  for (let round = 0; round < rounds; round++) {
    const lazy = round % 2 === 0;
    await pullImage(registry, ref, store, { lazy, plainHttp: true });
    hasAll();
    removeImage(store, formatReference(ref));
    // Sometimes they are gone before the next one begins, sometimes while it looks.
    if (lazy) await untilPruned();
    else await sleep(Math.random() * 40);
    if (round % 4 !== 3) continue;
    const child = spawn(process.execPath, [PULL, formatReference(ref), store, 'all'], {
      stdio: 'ignore',
    });
    const ended = once(child, 'exit');
    await sleep(100 + Math.random() * 150);
    child.kill('SIGKILL');
    await ended;
    hasAll();
    pruner.kill('SIGKILL');
    await once(pruner, 'exit');
    hasAll();
    pruner = prune();
  }
  assert.ok(removed > rounds, `${removed} layers were removed`);
  await pullImage(registry, ref, store, { lazy: false, plainHttp: true });
  hasAll();
  for (const layer of built) {
    const pulled = LayerFolder.of(store, layer.read().id);
    assert.ok(pulled.isComplete);
    for (const file of ['meta', 'blob'] as const) {
      assert.deepEqual(readFileSync(pulled[file]), readFileSync(layer[file]), file);
    }
  }
  t.diagnostic(`${removed} layers were removed`);
});
