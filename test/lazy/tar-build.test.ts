// Unpacking a large tar layer holds up nobody: it is broken off within a moment, and its process does other things meanwhile.
// Under test: src/lazy/tar/build-apart.ts and its thread.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { buildApart } from '../../src/lazy/tar/build-apart.js';
import { tempDir } from '../support/temp.js';
import { sha256, tarOf } from './tar-image.js';

const tree = (folder: string): Buffer => {
  mkdirSync(join(folder, 'tree'));
  for (let i = 0; i < 4; i++) writeFileSync(join(folder, `tree/${i}`), randomBytes(1_000_000));
  return tarOf(join(folder, 'tree'));
};

test('in a thread of its own, which ends when it is broken off', async (t) => {
  const folder = tempDir(t);
  const tar = tree(folder);
  const source = { registry: 'host', repository: 'app' };
  const build = (
    name: string,
    bytes: Buffer,
    signal?: AbortSignal,
  ): { layer: LayerFolder; built: Promise<void> } => {
    const staged = join(folder, name);
    mkdirSync(staged);
    const path = join(staged, 'compressed');
    writeFileSync(path, bytes);
    const digest = `sha256:${sha256(bytes)}`;
    const descriptor = { mediaType: 'application/x-tar', digest, size: bytes.length };
    const options = { descriptor, diffId: digest, source, store: folder };
    return { layer: new LayerFolder(staged), built: buildApart(options, staged, path, signal) };
  };

  const whole = build('whole', tar);
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await whole.built;
  clearInterval(timer);
  assert.ok(turns > 0);
  assert.ok(whole.layer.isComplete && !existsSync(join(whole.layer.path, 'compressed')));
  assert.ok(readFileSync(whole.layer.blob).length >= 4_000_000);

  const interrupt = new AbortController();
  const broken = build('broken', tar, interrupt.signal);
  interrupt.abort(new Error('enough'));
  await assert.rejects(broken.built, /enough/);
  assert.ok(!broken.layer.isComplete && !broken.layer.exists);
  await assert.rejects(build('late', tar, interrupt.signal).built, /enough/);

  const spoilt = Buffer.from(tar);
  spoilt.fill(0xff, 2_000_000, 2_002_000);
  const bad = build('bad', Buffer.concat([spoilt.subarray(0, 2_500_000)]));
  await assert.rejects(bad.built, { name: 'TreeError', message: /ends too early/ });
});
