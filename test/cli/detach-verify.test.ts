// varve detach --wait --verify: whoever lets the registry go knows that what has come is what it had.

import assert from 'node:assert/strict';
import { closeSync, fsyncSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { LayerFolder } from '../../src/lazy/layer-folder.js';
import { layersOf } from '../../src/lazy/local-chunks.js';
import { KERNEL_WAY } from '../lazy/kernel-place.js';
import { mixed } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** Content of one byte: what was there is gone. */
function spoil({ blob }: LayerFolder, at: number): void {
  const fd = openSync(blob, 'r+');
  writeSync(fd, Uint8Array.of(0x99, 0x99, 0x99), 0, 3, at);
  fsyncSync(fd);
  closeSync(fd);
}

for (const backend of ['fuse', 'kernel'] as const) {
  const needs = backend === 'fuse' ? ({ features: ['fuse'] } as const) : KERNEL_WAY;
  test(`a mount by ${backend} is read back when all is here`, {
    skip: requires(needs),
  }, async (t) => {
    const fake = await startFakeRegistry(t);
    const folder = tempDir(t);
    const [tree, mnt] = [join(folder, 'tree'), join(folder, 'mnt')];
    for (const path of [tree, mnt]) mkdirSync(path);
    writeFileSync(join(tree, 'file'), mixed(700_000, 5));
    const ref = `${fake.host}/os:1`;
    await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
    const caller = new Caller(join(folder, 'user'));
    await caller.must('mount', '--lazy', '--plain-http', '-q', `--backend=${backend}`, ref, mnt);
    t.after(() => caller.varve('umount', '--force', mnt));

    const whole = await caller.must('detach', '--wait', '--verify', mnt);
    const said = `${mnt}: everything is here and whole: 1 layer, `;
    assert.ok(whole.out.startsWith(said), whole.out);
    assert.match(whole.out, / here; no loader is needed\n$/);
    const [layer] = layersOf(join(caller.folder, 'images'));
    assert.ok(layer?.isComplete);

    spoil(layer, 200_000);
    // Of a mount that needs no loader any more, too.
    const text = await caller.varve('detach', '--verify', mnt);
    assert.equal(text.code, 3, text.err);
    const [first, second, last] = text.out.split('\n');
    assert.ok(first?.endsWith(`(${ref}): 1 of 6 chunks damaged`), text.out);
    assert.equal(second, '  /file');
    assert.ok(last?.startsWith(`${mnt}: 1 layer damaged: 1 layer, `), text.out);
    if (backend === 'kernel') return;
    const json = await caller.varve('detach', '--verify', '--json', mnt);
    const { ok, state, layers } = JSON.parse(json.out) as {
      ok: boolean;
      state: string;
      layers: { damaged: number[] }[];
    };
    assert.deepEqual(
      [json.code, ok, state, layers.map(({ damaged }) => damaged)],
      [3, false, 'damaged', [[1]]],
    );
    // What is damaged is not given to the kernel.
    const swapped = await caller.varve('detach', '--swap', '--verify', mnt);
    assert.equal(swapped.code, 3);
    await caller.must('images', '--repair', '--plain-http', '-q');
    await caller.must('detach', '--wait', '--verify', '-q', mnt);
  });
}

test('what --verify cannot look at is said', {
  skip: requires({ features: ['fuse'] }),
}, async (t) => {
  const folder = tempDir(t);
  const caller = new Caller(join(folder, 'user'));
  const [lower, mnt] = [join(folder, 'lower'), join(folder, 'mnt')];
  for (const path of [lower, mnt]) mkdirSync(path);
  await caller.must('mount', '-q', '--backend=fuse', '-o', `lowerdir=${lower}`, mnt);
  t.after(() => caller.varve('umount', '--force', mnt));
  const none = await caller.varve('detach', '--verify', mnt);
  assert.equal(none.code, 2);
  assert.match(none.err, /no layer of an image store is known of it/);
  const lowered = await caller.varve('detach', '--verify', '--lower', '1', mnt);
  assert.equal(lowered.code, 2);
  assert.match(lowered.err, /leave --lower out/);
});
