// Objects by digest: paths, what is opened and what is refused, and what verification finds.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { E } from '../../src/linux/errno.js';
import {
  digestOfPath,
  isDigest,
  objectPath,
  openObject,
  openObjects,
  verifyObject,
} from '../../src/store/objects.js';
import { verityDigest } from '../../src/store/verity.js';
import { tempDir } from '../support/temp.js';

/** Makes an object. @returns its digest. */
function put(folder: string, text: string, digest = verityDigest(Buffer.from(text))): string {
  const hex = digest.toString('hex');
  const path = join(folder, objectPath(hex));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return hex;
}

test('what names an object, and what an image may say', () => {
  const hex = 'ab'.repeat(32);
  assert.equal(objectPath(hex), `ab/${'ab'.repeat(31)}`);
  for (const good of [hex, 'ab'.repeat(64)]) {
    assert.ok(isDigest(good));
    assert.equal(digestOfPath(objectPath(good)), good);
    assert.equal(digestOfPath(`/${objectPath(good)}`), good);
  }
  for (const bad of ['', 'ab', hex.slice(1), hex.toUpperCase(), `${hex}00`, `..${hex.slice(2)}`]) {
    assert.ok(!isDigest(bad), bad);
    assert.equal(digestOfPath(objectPath(bad)), undefined, bad);
  }
  for (const bad of ['../../etc/passwd', hex, `a/${hex.slice(1)}`, `ab/${hex.slice(2)}/..`]) {
    assert.equal(digestOfPath(bad), undefined, bad);
  }
});

test('objects of either layout are opened by digest', (t) => {
  for (const inner of ['', 'objects']) {
    const store = tempDir(t);
    const hex = put(join(store, inner), 'content');
    const objects = openObjects(store);
    t.after(() => objects.close());
    const fd = objects.open(hex);
    assert.ok(fd !== undefined);
    const out = Buffer.alloc(10);
    assert.equal(out.toString('latin1', 0, readSync(fd, out)), 'content');
    assert.ok(verifyObject(fd, hex));
    closeSync(fd);
    assert.equal(objects.open('00'.repeat(32)), undefined);
  }
});

test('only regular files inside the store are opened', (t) => {
  const store = tempDir(t);
  const outside = join(tempDir(t), 'secret');
  writeFileSync(outside, 'secret');
  const fd = openSync(store, 'r');
  t.after(() => closeSync(fd));
  const link = 'aa'.repeat(32);
  mkdirSync(join(store, 'aa'));
  symlinkSync(outside, join(store, objectPath(link)));
  assert.equal(openObject(fd, link), -E.LOOP);
  symlinkSync(dirname(outside), join(store, 'bb'));
  assert.equal(openObject(fd, 'bb'.repeat(32)), -E.LOOP);
  const folder = 'aabb'.repeat(16);
  mkdirSync(join(store, objectPath(folder)));
  assert.equal(openObject(fd, folder), -E.INVAL);
  // Opening a fifo waits for its other end.
  const fifo = 'aacc'.repeat(16);
  execFileSync('mkfifo', [join(store, objectPath(fifo))]);
  assert.equal(openObject(fd, fifo), -E.INVAL);
  for (const bad of ['', '../x', '/etc/passwd', outside])
    assert.equal(openObject(fd, bad), -E.INVAL);
});

test('content that is not what the name says is found', (t) => {
  const store = tempDir(t);
  const objects = openObjects(store);
  t.after(() => objects.close());
  const bytes = Buffer.from('x'.repeat(9000));
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const digest = verityDigest(bytes, algorithm);
    for (const [text, good] of [
      [bytes.toString(), true],
      [`y${bytes.toString().slice(1)}`, false],
      [bytes.toString().slice(1), false],
      [`${bytes}\0`, false],
      ['', false],
    ] as const) {
      const fd = objects.open(put(store, text, digest)) as number;
      assert.equal(verifyObject(fd, digest.toString('hex')), good);
      assert.equal(verifyObject(fd, digest.toString('hex'), true), good);
      closeSync(fd);
    }
  }
});
