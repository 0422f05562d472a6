// varve images --verify finds every byte that is not what was pulled, and --repair has it fetched again.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { layersOf } from '../../src/lazy/local-chunks.js';
import { addImage, mixed, tarOf } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

interface Verdict {
  readonly ok: boolean;
  readonly layers: readonly {
    readonly id: string;
    readonly images: readonly string[];
    readonly chunks: number;
    readonly damaged: readonly number[];
    readonly files: readonly string[];
    readonly fault?: string;
    readonly repaired?: boolean;
    readonly why?: string;
  }[];
}

/** Turns one byte of a file around. */
function spoil(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  const byte = Uint8Array.of((readFileSync(path)[at] as number) ^ 0x10);
  writeSync(fd, byte, 0, 1, at);
  fsyncSync(fd);
  closeSync(fd);
}

test('damage is found, named and made good', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'dir'), { recursive: true });
  writeFileSync(join(tree, 'dir/large'), mixed(900_000, 1));
  writeFileSync(join(tree, 'small\x1b[2J'), mixed(3000, 2));
  const ref = `${fake.host}/os:1`;
  await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
  const caller = new Caller(join(folder, 'user'));
  await caller.must('pull', '--plain-http', '-q', ref);
  const [layer] = layersOf(join(caller.folder, 'images'));
  assert.ok(layer !== undefined);
  const table = new ChunkTable(readFileSync(layer.table));
  const whole = readFileSync(layer.blob);
  const look = async (code: number, ...words: string[]): Promise<Verdict> => {
    const ran = await caller.varve('images', '--json', '--plain-http', ...words);
    assert.equal(ran.code, code, ran.err + ran.out);
    return JSON.parse(ran.out) as Verdict;
  };

  const fine = await look(0, '--verify');
  assert.equal(fine.layers[0]?.chunks, table.count);

  // One byte of a chunk in the middle, and the end of the blob.
  spoil(layer.blob, table.at(0));
  spoil(layer.blob, table.at(3) + 77);
  const last = table.count - 1;
  truncateSync(layer.blob, table.at(last));
  const damaged = await look(3, '--verify', ref);
  assert.deepEqual(damaged.layers[0]?.damaged, [0, 3, last]);
  assert.equal(damaged.layers[0]?.images[0], ref);
  const text = await caller.varve('images', '--verify');
  assert.equal(text.code, 3);
  const lines = text.out.split('\n');
  assert.ok(lines[0]?.endsWith(`(${ref}): 3 of ${table.count} chunks damaged`), text.out);
  assert.deepEqual(lines.slice(1, 3).sort(), ['  /dir/large', '  /small\\x1b[2J']);
  assert.match(text.out, /1 layer damaged: 1 layer, .* here\n$/);

  // The registry is away, then has something else, then is well.
  fake.on = (_, response) => response.writeHead(404).end() !== undefined;
  const away = await look(3, '--repair');
  assert.equal(away.layers[0]?.repaired, false);
  assert.match(away.layers[0]?.why ?? '', /404/);
  fake.on = undefined;
  const [origin] = layer.read().origins;
  const pack = fake.blobs.get(origin?.digest ?? '') as Buffer;
  fake.blobs.set(origin?.digest as string, Buffer.alloc(pack.length, 7));
  const wrong = await look(3, '--repair');
  assert.match(wrong.layers[0]?.why ?? '', /not what the image says/);
  fake.blobs.set(origin?.digest as string, pack);
  const requests = fake.requests.length;
  const repaired = await look(0, '--repair');
  assert.deepEqual(repaired.layers[0]?.repaired, true);
  assert.ok(readFileSync(layer.blob).equals(whole));
  assert.ok(layer.isComplete);
  assert.ok(fake.requests.length - requests <= 4, 'only what was damaged is fetched');

  // Metadata, table, record: the layer is pulled anew, whole as it was.
  for (const [path, at] of [
    [layer.meta, 1100],
    [layer.table, 40],
    [layer.table, 200],
    [layer.record, 0],
  ] as const) {
    spoil(path, at);
    const [found] = (await look(0, '--repair')).layers;
    assert.ok(found?.fault !== undefined && found.repaired === true, path);
    assert.ok(readFileSync(layer.blob).equals(whole));
    assert.ok(layer.isComplete);
  }
  rmSync(layer.record);
  assert.equal((await look(0, '--repair')).layers[0]?.fault, 'is missing');
  assert.equal((await caller.must('images')).out.split('\n').length, 3);
});

test('of a layer that is not complete what is here is compared, and nothing is fetched', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), mixed(700_000, 3));
  const ref = `${fake.host}/os:1`;
  await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
  const caller = new Caller(join(folder, 'user'));
  await caller.must('pull', '--plain-http', '-q', '--lazy', ref);
  const before = fake.requests.length;
  const ran = await caller.must('images', '--verify');
  assert.match(ran.out, /: whole: 1 layer, 0 B here\n$/);
  assert.equal(fake.requests.length, before);

  await caller.must('pull', '--plain-http', '-q', ref);
  const keep = await caller.must('evict', '--keep', '300K', ref);
  assert.equal(keep.code, 0);
  const [layer] = layersOf(join(caller.folder, 'images'));
  assert.ok(layer !== undefined && !layer.isComplete && existsSync(layer.map));
  const table = new ChunkTable(readFileSync(layer.table));
  // What is here lies at the beginning; a byte of what is not does not count.
  spoil(layer.blob, table.at(table.count - 1));
  await caller.must('images', '--verify');
  spoil(layer.blob, table.at(1) + 5);
  const found = await caller.varve('images', '--verify');
  assert.equal(found.code, 3);
  assert.match(found.out, /: 1 of \d+ chunks damaged\n {2}\/file\n/);
  const { blocks } = statSync(layer.blob);
  await caller.must('images', '--repair');
  assert.ok(!layer.isComplete && statSync(layer.blob).blocks === blocks);
  await caller.must('images', '--verify');
});

test('layers of existing images: tar in gzip, and one that only a whole pull brings back', {
  skip: requires({ packages: ['zstd'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), mixed(1_500_000, 4));
  const tar = tarOf(tree);
  const caller = new Caller(join(folder, 'user'));
  const forms = [
    ['gzip', gzipSync(tar)],
    ['zstd', execFileSync('zstd', ['-c'], { input: tar, maxBuffer: 1 << 24 })],
  ] as const;
  for (const [form, bytes] of forms) {
    addImage(fake, form, [{ bytes }], [tar]);
    const ref = `${fake.host}/${form}:tag`;
    await caller.must('pull', '--plain-http', '-q', ref);
    const layers = layersOf(join(caller.folder, 'images'));
    const layer = layers.find((one) => one.read().form === `tar+${form}`);
    assert.ok(layer !== undefined);
    const table = new ChunkTable(readFileSync(layer.table));
    const whole = readFileSync(layer.blob);
    spoil(layer.blob, table.at(4) + 9);
    const found = await caller.must('images', '--repair', '--plain-http', ref);
    assert.match(found.out, /: 1 of \d+ chunks damaged: repaired\n {2}\/file\n/);
    assert.ok(readFileSync(layer.blob).equals(whole), form);
    assert.ok(layer.isComplete);
  }
});
