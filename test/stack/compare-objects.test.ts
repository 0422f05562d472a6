// The objects of an image that are compared before a mount: of hostile images, and of those that are swapped.
// Under test: src/stack/compare-objects.ts and image-objects.ts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileType } from '../../src/erofs/format.js';
import { compareObjects } from '../../src/stack/compare-objects.js';
import { objectsOfImage } from '../../src/stack/image-objects.js';
import { openImage } from '../../src/stack/image-open.js';
import { sampleStore } from '../support/composefs.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

test('a directory that holds the root directory comes to an end', (t) => {
  const folder = tempDir(t);
  const sample = sampleStore(folder);
  const { image, close } = openImage(sample.image);
  const bin = image.lookup(image.inode(image.rootNid), Buffer.from('bin'), 0, 3);
  const bytes = readFileSync(sample.image);
  let changed = 0;
  for (let at = 0; at + 12 <= bytes.length; at += 4) {
    if (bytes.readBigUInt64LE(at) !== BigInt(bin ?? -1)) continue;
    if (bytes[at + 10] !== FileType.DIR) continue;
    bytes.writeBigUInt64LE(BigInt(image.rootNid), at);
    changed++;
  }
  close();
  assert.ok(changed > 0);
  const path = join(folder, 'cyclic');
  writeFileSync(path, bytes);
  const cyclic = openImage(path);
  t.after(cyclic.close);
  const files = objectsOfImage(cyclic.image).map(({ file }) => file);
  assert.deepEqual(files.sort(), ['/hard', '/large']);
});

test('the objects are those of the image whose digest is named', async (t) => {
  const sample = sampleStore(tempDir(t));
  const objects = [join(sample.store, 'objects')];
  const request = { image: sample.image, objects, every: true, kernelMay: false };
  await compareObjects({ ...request, digest: sample.digest });
  const digest = sample.digest.replace(/^./, (first) => (first === '0' ? '1' : '0'));
  await assert.rejects(compareObjects({ ...request, digest }), /has the fs-verity digest .*, not/);
});

test('an object on another mount is none: overlayfs does not see it either', {
  skip: requires({ root: true }),
}, async (t) => {
  const sample = sampleStore(tempDir(t));
  const objects = join(sample.store, 'objects');
  const request = { image: sample.image, objects: [objects], every: true, kernelMay: false };
  const { image, close } = openImage(sample.image);
  const [first] = objectsOfImage(image);
  close();
  const folder = join(objects, first?.digest?.slice(0, 2) as string);
  execFileSync('mount', ['--bind', folder, folder]);
  try {
    await assert.rejects(compareObjects({ ...request, digest: sample.digest }), /is missing/);
  } finally {
    execFileSync('umount', [folder]);
  }
});
