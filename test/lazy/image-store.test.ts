// The image store: where it is, records of images, and which layers may go.

import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { LayerHolds } from '../../src/lazy/hold-layer.js';
import {
  type ImageRecord,
  imageStorePath,
  listImages,
  readImage,
  removeImage,
  writeImage,
} from '../../src/lazy/image-record.js';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { forgetLayers, writeNote } from '../../src/lazy/podman/records.js';
import { pruneLayers } from '../../src/lazy/prune.js';
import { mapMemory } from '../../src/linux/memory.js';
import { lockFile } from '../../src/linux/peer.js';
import { tempDir } from '../support/temp.js';
import { sampleTree } from './sample-tree.js';

mapMemory();

const image = (name: string, layers: readonly string[] = []): ImageRecord => ({
  version: 1,
  name,
  digest: `sha256:${'0'.repeat(64)}`,
  platform: 'linux/amd64',
  config: {},
  layers,
});

test('the store is what the flag says, then the environment, then the place of the user', () => {
  const env = { VARVE_IMAGES: '/some/where', HOME: '/home/me' };
  assert.equal(imageStorePath('/given', env), '/given');
  assert.equal(imageStorePath(undefined, env), '/some/where');
  const own = imageStorePath(undefined, { HOME: '/home/me', XDG_DATA_HOME: '/data' });
  const isRoot = process.geteuid?.() === 0;
  assert.equal(own, isRoot ? '/var/lib/varve/images' : '/data/varve/images');
});

test('images by name: any reference is one, and what is no record is said to be none', (t) => {
  const store = tempDir(t);
  assert.deepEqual(listImages(store), []);
  const long = `localhost:5000/${'deep/'.repeat(50)}name`;
  const names = [
    `${long}:a`,
    `${long}:b`,
    'docker.io/library/debian:12',
    'a.b:1/c@sha256:00',
  ].sort();
  for (const name of names) writeImage(store, image(name));
  assert.deepEqual(
    listImages(store).map(({ name }) => name),
    names,
  );
  writeImage(store, image(`${long}:a`, ['sha256:1']));
  assert.deepEqual(readImage(store, `${long}:a`)?.layers, ['sha256:1']);
  assert.deepEqual(readImage(store, `${long}:b`)?.layers, []);
  assert.equal(readImage(store, `${long}:c`), undefined);
  assert.ok(removeImage(store, `${long}:a`));
  assert.ok(!removeImage(store, `${long}:a`));
  const [file = ''] = readdirSync(join(store, 'images'));
  writeFileSync(join(store, 'images', file), '{');
  assert.throws(() => listImages(store), /is no JSON; remove it and pull the image again/);
  writeFileSync(join(store, 'images', file), '{"version":2}');
  assert.throws(() => listImages(store), /version 2/);
});

test('a layer that somebody holds stays, and who comes too late finds none', async (t) => {
  const store = tempDir(t);
  const layer = await buildLayer(sampleTree({ files: 5 }), store);
  const { id } = layer.read();
  const holds = new LayerHolds(store);
  assert.ok(await holds.hold(id));
  assert.deepEqual(pruneLayers(store).inUse, [id]);
  assert.ok(layer.exists);
  holds.release();
  // Whoever removes it has it locked: who wants to hold it waits for that.
  const blob = openSync(layer.blob, 'r');
  assert.equal(lockFile(blob), 0);
  const waiting = holds.hold(id);
  await sleep(30);
  renameSync(layer.path, join(store, 'gone'));
  closeSync(blob);
  assert.ok(!(await waiting));
  let got = 0;
  await holds.holdAs(id, async () => {
    got++;
    await buildLayer(sampleTree({ files: 5 }), store);
    // Somebody who prunes at once.
    if (got === 1) assert.equal(pruneLayers(store).layers, 1);
  });
  assert.equal(got, 2);
  assert.equal(pruneLayers(store).layers, 0);
  holds.release();
  assert.equal(pruneLayers(store).layers, 1);
});

test('layers go that no image names, unless somebody uses them', async (t) => {
  const store = tempDir(t);
  const build = (seed: number) => buildLayer(sampleTree({ files: 5, seed }), store);
  const [named, loaded, served, kept, gone] = [
    await build(1),
    await build(2),
    await build(3),
    await build(4),
    await build(5),
  ];
  writeImage(store, image('localhost/one:1', [named.read().id]));
  const loader = openSync(loaded.lock, 'a');
  assert.equal(lockFile(loader), 0);
  const server = openSync(served.meta, 'r');
  assert.equal(lockFile(server, true), 0);
  const young = join(store, 'layers/.new-1-young');
  mkdirSync(young);
  const ids = (...folders: LayerFolder[]) => folders.map((folder) => folder.read().id).sort();

  const goneId = gone.read().id;
  const pruned = pruneLayers(store, { keep: new Set(ids(kept)) });
  assert.equal(pruned.layers, 1);
  assert.deepEqual([...pruned.inUse].sort(), ids(loaded, served));
  assert.ok(!LayerFolder.of(store, goneId).exists);
  for (const folder of [named, loaded, served, kept]) assert.ok(folder.exists);
  assert.ok(existsSync(young));

  closeSync(loader);
  closeSync(server);
  // What a layer store shows.
  const digest = `sha256:${'1'.repeat(64)}`;
  const blob = { digest, size: 1, mediaType: 'application/vnd.oci.image.layer.v1.tar' };
  const note = { reference: 'localhost/two:1', digest, blob, diffId: digest, bytes: 1 };
  const { number } = writeNote(store, { ...note, layer: kept.read().id });
  assert.equal(writeNote(store, { ...note, layer: kept.read().id }).number, number);
  assert.equal(pruneLayers(store).layers, 2);
  assert.ok(kept.exists);
  assert.ok(forgetLayers(store, note.reference));
  assert.ok(!forgetLayers(store, note.reference));
  assert.equal(pruneLayers(store).layers, 1);
  assert.ok(named.exists);
  // A number never means another layer again.
  assert.ok(writeNote(store, { ...note, layer: named.read().id }).number > number);
});
