// Digests of layers whose content is not all here: compared or refused, never ignored, whichever way the mount takes.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { layersOf } from '../../src/lazy/local-chunks.js';
import { KERNEL_WAY } from '../lazy/kernel-place.js';
import { mixed } from '../lazy/tar-image.js';
import { sha256, startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** Changes one byte of a file, or what was changed back. */
function turn(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

test('digest= and REF@DIGEST, by the kernel and by the server', {
  skip: requires({ ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'fuse'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), mixed(500_000, 1));
  const push = ['push', '--plain-http', '-q', tree, `${fake.host}/os:1`];
  const digest = (await new Caller(join(folder, 'pusher')).must(...push)).out.trim();
  const ref = `${fake.host}/os@${digest}`;
  const caller = new Caller(join(folder, 'user'));
  const mnt = join(folder, 'mnt');
  mkdirSync(mnt);
  await caller.must('pull', '--plain-http', '-q', '--lazy', ref);
  const [layer] = layersOf(join(caller.folder, 'images'));
  assert.ok(layer !== undefined);
  const { id } = layer.read();
  const mount = (backend: string, ...flags: string[]) =>
    caller.varve('mount', '--lazy', '--no-fill', `--backend=${backend}`, ...flags, ref, mnt);
  const option = (text: string): [string, string] => ['-o', `digest=${text}`];
  for (const backend of ['kernel', 'fuse']) {
    const other = await mount(backend, ...option(`sha256:${'0'.repeat(64)}`));
    assert.equal(other.code, 3, other.err);
    assert.match(other.err, new RegExp(`not all of its content .* name its id .*${id}`));
    // Of a layer that is not complete the metadata alone prove nothing.
    const meta = await mount(backend, ...option(sha256(readFileSync(layer.meta))));
    assert.equal(meta.code, 3, meta.err);
    const right = await mount(backend, ...option(id));
    assert.equal(right.code, 0, right.err);
    await caller.must('umount', mnt);
    turn(layer.meta, 1100);
    const changed = await mount(backend);
    assert.equal(changed.code, 3, changed.err);
    assert.match(changed.err, /meta\.erofs: is not what the chunk table says: .*--repair/);
    turn(layer.meta, 1100);
  }
  await caller.must('pull', '--plain-http', '-q', ref);
  const right = await mount('kernel', ...option(id));
  assert.equal(right.code, 0, right.err);
  await caller.must('umount', mnt);
  const table = new ChunkTable(readFileSync(layer.table));
  turn(layer.blob, table.at(2));
  for (const backend of ['kernel', 'fuse']) {
    const changed = await mount(backend, ...option(id));
    assert.equal(changed.code, 3, changed.err);
    assert.match(changed.err, /chunk 2 is another one: .*--repair/);
  }
  turn(layer.blob, table.at(2));
  const files = [layer.meta, layer.blob].flatMap((path) => option(sha256(readFileSync(path))));
  const both = await mount('kernel', ...files);
  assert.equal(both.code, 0, both.err);
  await caller.must('umount', mnt);
});
