import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountLoop, waitUntilUnused } from './loop.js';
import { requires } from './requires.js';
import { tempDir } from './temp.js';

test('an image is mounted again when nobody holds its last mount any more', {
  skip: requires({ root: true, features: ['loop', 'squashfs'], packages: ['squashfs-tools'] }),
}, (t) => {
  const folder = tempDir(t);
  const [source, image, first, other] = ['source', 'image', 'first', 'other'].map((name) =>
    join(folder, name),
  ) as [string, string, string, string];
  for (const path of [source, first, other]) mkdirSync(path);
  writeFileSync(join(source, 'file'), 'content');
  execFileSync('mksquashfs', [source, image, '-quiet', '-no-progress']);
  mountLoop(image, first);
  execFileSync('mount', ['--bind', first, other]);
  execFileSync('umount', [first]);
  assert.throws(() => waitUntilUnused(image, 0), /somebody still holds a mount of it: .*image/s);
  execFileSync('umount', [other]);
  mountLoop(image, first);
  assert.equal(readFileSync(join(first, 'file'), 'utf8'), 'content');
});
