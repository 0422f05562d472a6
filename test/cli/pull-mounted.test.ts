// `varve pull` of an image that is mounted lazily: whoever loads it for the mount fetches the rest, whichever way that takes.
// Under test: src/stack/fill-loaded.ts, src/lazy/pull/fill.ts.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { layersOf } from '../../src/lazy/local-chunks.js';
import { KERNEL_WAY } from '../lazy/kernel-place.js';
import { mixed } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

for (const backend of ['kernel', 'fuse'] as const) {
  test(`pull of what is mounted, by ${backend}`, {
    skip: requires({ ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'fuse'] }),
  }, async (t) => {
    const fake = await startFakeRegistry(t);
    const folder = tempDir(t);
    const [tree, mnt] = [join(folder, 'tree'), join(folder, 'mnt')];
    for (const path of [tree, mnt]) mkdirSync(path);
    const content = mixed(3_000_000, 1);
    writeFileSync(join(tree, 'file'), content);
    const ref = `${fake.host}/os:1`;
    await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
    const caller = new Caller(join(folder, 'user'));
    const how = ['--plain-http', '-q', '--lazy', '--no-fill', '--no-prefetch'];
    await caller.must('mount', ...how, `--backend=${backend}`, ref, mnt);
    t.after(() => caller.varve('umount', '-q', mnt));
    const [layer] = layersOf(join(caller.folder, 'images'));
    assert.equal(layer?.isComplete, false);
    const pulled = JSON.parse((await caller.must('pull', '--plain-http', '--json', ref)).out);
    assert.equal(pulled.complete, true);
    assert.equal(layer?.isComplete, true);
    assert.ok((await caller.must('status', '--json', mnt)).out.includes(mnt));
    // This process is the registry, and reads nothing that might be fetched: all is here.
    assert.ok(readFileSync(join(mnt, 'file')).equals(content));
  });
}
