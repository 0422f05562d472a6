// tar archives that are written: GNU tar and our reader read the same tree, equal trees give equal bytes.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { scan } from '../../src/tree/scan.js';
import { readTar } from '../../src/tree/tar-read.js';
import { writeTar } from '../../src/tree/tar-write.js';
import {
  add,
  find,
  makeNode,
  memoryContent,
  remove,
  type TreeNode,
  walk,
} from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { makeEverything, withArchive } from './archives.js';
import { randomTree } from './random.js';

function packed(root: TreeNode): Buffer {
  const parts: Buffer[] = [];
  writeTar(root, (bytes) => void parts.push(Buffer.from(bytes)));
  return Buffer.concat(parts);
}

test('random tree, tar, tree: the same tree and the same bytes', (t) => {
  const d = tempDir(t);
  fc.assert(
    fc.property(randomTree({ holes: true }), (tree) => {
      walk(tree, (_path, node, parent, name) => {
        if ((node.mode & S.IFMT) === S.IFSOCK) remove(parent as TreeNode, name);
      });
      const bytes = packed(tree);
      withArchive(readTar, bytes, d, (back) => {
        assert.equal(showDifferences(compareTrees(tree, back)), '');
        assert.ok(packed(back).equals(bytes));
      });
    }),
    { numRuns: campaign('rounds', 100), seed: campaign('seed', 1) },
  );
});

test('GNU tar extracts what was packed', {
  skip: requires({ root: true, commands: ['tar'] }),
}, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'in'));
  fs.mkdirSync(join(d, 'out'));
  makeEverything(join(d, 'in'));
  const fd = must(sys.open(AT.FDCWD, join(d, 'in'), O.DIRECTORY));
  must(sys.setxattr(fd, 'plain', 'user.a=b%', Buffer.from([0, 255, 10])));
  must(sys.mkdir(fd, '\xff\xfe', 0o755));
  must(
    sys.utimens(fd, '\xff\xfe', [
      [0, 0],
      [-2, 750_000_000],
    ]),
  );
  must(sys.chown(fd, 'empty', 4_000_000_000, 70_000));
  sys.close(fd);
  const source = scan(join(d, 'in'));
  fs.writeFileSync(join(d, 'x.tar'), packed(source.root));
  execFileSync('tar', [
    '-C',
    join(d, 'out'),
    '-xpf',
    join(d, 'x.tar'),
    '--xattrs',
    '--xattrs-include=*',
    '--numeric-owner',
  ]);
  const back = scan(join(d, 'out'));
  assert.equal(showDifferences(compareTrees(source.root, back.root)), '');
  assert.ok(fs.statSync(join(d, 'x.tar')).size < 5_000_000);
  source.close();
  back.close();
});

test('what a field cannot hold goes into records', (t) => {
  const root = makeNode(S.IFDIR | 0o755);
  const long = 'n'.repeat(255);
  const node = makeNode(S.IFREG | 0o600, {
    uid: 0xffff_fffe,
    mtime: -1,
    mtimeNsec: 999_999_999,
    size: 1,
    content: memoryContent(Buffer.from('x')),
  });
  add(root, long, node);
  add(root, 'z', node);
  add(root, 'link', makeNode(S.IFLNK | 0o777, { target: 't'.repeat(4000) }));
  withArchive(readTar, packed(root), tempDir(t), (back) => {
    assert.equal(showDifferences(compareTrees(root, back)), '');
    assert.equal(find(back, 'z'), find(back, long));
  });
});

test('sockets and objects of unknown stores are refused', () => {
  const root = makeNode(S.IFDIR | 0o755);
  add(root, 's', makeNode(S.IFSOCK | 0o755));
  assert.throws(() => packed(root), /"s" is a socket/);
  remove(root, 's');
  add(root, 'o', makeNode(S.IFREG, { size: 5, backing: { path: 'ab/cd' } }));
  assert.throws(() => packed(root), /object of a store/);
});
