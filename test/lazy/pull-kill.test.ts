// A pull that is killed at any of its requests leaves a store in which everything is right, and the next one goes on.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { listImages } from '../../src/lazy/image-record.js';
import { LayerFolder, STAGING } from '../../src/lazy/layer-folder.js';
import { pruneLayers } from '../../src/lazy/prune.js';
import { pushLayers } from '../../src/lazy/push/push.js';
import { discardStaged, stageLayer } from '../../src/lazy/staging.js';
import { mapMemory } from '../../src/linux/memory.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { tempDir } from '../support/temp.js';
import { sampleTree } from './sample-tree.js';

mapMemory();
const program = fileURLToPath(new URL('./pull-once.js', import.meta.url));

test('SIGKILL during a pull', async (t) => {
  const folder = tempDir(t);
  const fake = await startFakeRegistry(t);
  const registry = new Registry({ plainHttp: true, env: {}, retries: 0 });
  t.after(() => registry.close());
  const layer = await buildLayer(sampleTree({ files: 600 }), join(folder, 'built'));
  const name = `${fake.host}/tree:latest`;
  const pushed = await pushLayers(registry, parseReference(name), [layer], { packSize: 200_000 });
  const store = join(folder, 'store');
  const layersOf = () =>
    readdirSync(join(store, 'layers')).filter((one) => !one.startsWith(STAGING));

  /** @param kill at this request, counted from 1; its answer never comes. @returns requests for content. */
  const pull = async (how: 'lazy' | 'all', kill = Number.POSITIVE_INFINITY) => {
    let requests = 0;
    let ranges = 0;
    const child = spawn(process.execPath, [program, name, store, how], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
    fake.on = (request) => {
      if (request.headers.range !== undefined) ranges++;
      if (++requests < kill) return false;
      child.kill('SIGKILL');
      return true;
    };
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
      child.once('close', (...end) => resolve(end));
    });
    if (kill === Number.POSITIVE_INFINITY) assert.equal(code, 0, errors);
    else assert.equal(signal, 'SIGKILL', errors);
    return ranges;
  };

  // Manifest, configuration, table, metadata: then the layer is there.
  for (const kill of [1, 3, 4]) {
    await pull('lazy', kill);
    assert.deepEqual(listImages(store), []);
  }
  assert.deepEqual(layersOf(), []);
  await pull('all', 12);
  assert.equal(layersOf().length, 1);
  assert.deepEqual(listImages(store), []);
  const kept = new LayerFolder(join(store, 'layers', layersOf()[0] as string));
  assert.ok(!kept.isComplete);

  const rest = await pull('all');
  // What had come before is not fetched again.
  assert.ok(rest > 0 && rest < pushed.packs, `${rest} of ${pushed.packs}`);
  assert.equal(listImages(store).length, 1);
  assert.ok(kept.isComplete);
  for (const file of ['meta', 'blob'] as const) {
    assert.deepEqual(readFileSync(kept[file]), readFileSync(layer[file]), file);
  }
  // What killed ones leave goes, what somebody is making stays.
  await pull('lazy', 1);
  const dead = join(store, 'layers', `${STAGING}1-dead`);
  mkdirSync(dead);
  writeFileSync(join(dead, 'blob'), 'half');
  const alive = stageLayer(store);
  assert.ok(existsSync(dead), 'it may be about to be locked');
  pruneLayers(store, { now: Date.now() + 60_000 });
  assert.ok(!existsSync(dead) && existsSync(alive));
  discardStaged(alive);
  assert.deepEqual(readdirSync(join(store, 'layers')), layersOf());
});
