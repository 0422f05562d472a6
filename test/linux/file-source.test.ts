// Files and devices as byte sources: sizes, exact reads, and what is refused.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileSource } from '../../src/linux/file-source.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

test('a file is read at offsets, and not beyond its end', (t) => {
  const path = join(tempDir(t), 'file');
  writeFileSync(path, 'some bytes');
  const source = FileSource.open(path);
  t.after(() => source.close());
  assert.equal(source.size, 10);
  const out = Buffer.alloc(5);
  source.read(5, out);
  assert.equal(out.toString(), 'bytes');
  source.read(10, Buffer.alloc(0));
  assert.throws(() => source.read(6, out), RangeError);
  truncateSync(path, 7);
  assert.throws(() => source.read(5, out), { name: 'SysError', message: /pread .*: EIO/ });
});

test('a folder and a missing file are refused by name', (t) => {
  const folder = tempDir(t);
  assert.throws(() => FileSource.open(folder), { message: `read ${folder}: EISDIR` });
  assert.throws(() => FileSource.open(join(folder, 'none')), { code: 'ENOENT' });
});

test('a block device has a size', {
  skip: requires({ root: true, features: ['loop'], packages: ['util-linux'] }),
}, (t) => {
  const path = join(tempDir(t), 'disk');
  writeFileSync(path, Buffer.alloc(65536, 7));
  const args = ['-r', '-f', '--show', path];
  const device = execFileSync('losetup', args, { encoding: 'utf8' }).trim();
  t.after(() => execFileSync('losetup', ['-d', device]));
  const source = FileSource.open(device);
  t.after(() => source.close());
  assert.equal(source.size, 65536);
  const out = Buffer.alloc(100);
  source.read(65436, out);
  assert.deepEqual(out, Buffer.alloc(100, 7));
});
