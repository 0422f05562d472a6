// The writer of cpio archives: what it writes is read by GNU cpio and by our own reader, and is the same each time.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { readCpio } from '../../src/tree/cpio-read.js';
import { writeCpio } from '../../src/tree/cpio-write.js';
import { scan } from '../../src/tree/scan.js';
import { add, find, makeNode, type TreeNode } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeEverything, withArchive } from './archives.js';

function bytesOf(root: TreeNode): Buffer {
  const pieces: Buffer[] = [];
  writeCpio(root, (piece) => pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}

const whole = { skip: requires({ root: true, packages: ['cpio'] }) };

test('one of everything, read by GNU cpio and by ourselves', whole, (t) => {
  const d = tempDir(t);
  const folder = join(d, 'in');
  fs.mkdirSync(folder);
  makeEverything(folder);
  fs.rmSync(join(folder, 'sparse'));
  const source = scan(folder);
  t.after(() => source.close());
  const archive = bytesOf(source.root);
  assert.ok(archive.equals(bytesOf(source.root)));
  // The format knows neither of these.
  const rest = (other: TreeNode): string =>
    showDifferences(
      compareTrees(source.root, other).filter(
        ({ path, aspect }) => path !== '/' && aspect !== 'time' && aspect !== 'xattr',
      ),
    );
  withArchive(readCpio, archive, d, (root) => {
    assert.equal(rest(root), '');
    assert.equal(find(root, 'a-hard'), find(root, 'z-hard'));
  });
  const out = join(d, 'out');
  fs.mkdirSync(out);
  execFileSync('cpio', ['-i', '-d', '--quiet'], { cwd: out, input: archive });
  const extracted = scan(out);
  t.after(() => extracted.close());
  assert.equal(rest(extracted.root), '');
});

test('a file that the format cannot hold is named', () => {
  const root = makeNode(S.IFDIR | 0o755);
  add(root, 'huge', makeNode(S.IFREG | 0o644, { size: 2 ** 32 }));
  assert.throws(() => bytesOf(root), /"\/huge" has 4294967296 bytes: cpio holds less than 4 GiB/);
});

/** Header of a file named x of root, mode 0644, one byte, time 1. */
const ONE = [
  '070701',
  '00000001', // ino
  '000081A4', // mode
  '00000000', // uid
  '00000000', // gid
  '00000001', // nlink
  '00000001', // mtime
  '00000000', // filesize
  '00000000',
  '00000000', // dev
  '00000000',
  '00000000', // rdev
  '00000002', // namesize
  '00000000', // check
  'x\0',
].join('');

test('a header, field by field', () => {
  const root = makeNode(S.IFDIR | 0o755);
  add(root, 'x', makeNode(S.IFREG | 0o644, { mtime: 1 }));
  assert.equal(bytesOf(root).toString('latin1', 0, ONE.length), ONE);
});
