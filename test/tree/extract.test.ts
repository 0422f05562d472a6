// Trees on disk: what is extracted scans as the same tree, nothing outside is touched, a failure leaves nothing.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { TreeError } from '../../src/tree/errors.js';
import { type ExtractOptions, extractTree } from '../../src/tree/extract.js';
import { scan } from '../../src/tree/scan.js';
import {
  add,
  dataExtents,
  find,
  makeNode,
  memoryContent,
  type TreeNode,
} from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';
import { isRoot, requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir, withTempDir } from '../support/temp.js';
import { makeEverything } from './archives.js';
import { randomTree } from './random.js';

const dir = (mode = 0o755) => makeNode(S.IFDIR | mode, { mtime: 1 });
const file = (text: string, mode = 0o644) =>
  makeNode(S.IFREG | mode, { size: text.length, content: memoryContent(Buffer.from(text)) });

/** Extracts to a new folder and compares what is there with the tree. */
function roundTrip(tree: TreeNode, folder: string, options: ExtractOptions = {}): void {
  const target = join(folder, 'out');
  assert.deepEqual(extractTree(tree, target, options), []);
  const back = scan(target);
  try {
    assert.equal(showDifferences(compareTrees(tree, back.root)), '');
  } finally {
    back.close();
  }
}

test('one of everything', { skip: requires({ root: true }) }, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'in'));
  makeEverything(join(d, 'in'));
  const source = scan(join(d, 'in'));
  roundTrip(source.root, d);
  source.close();
  // File systems differ in how much around the data they allocate.
  const back = scan(join(d, 'out'));
  const data = dataExtents(find(back.root, 'sparse') as TreeNode);
  back.close();
  assert.equal(data.length, 40);
  assert.ok(data.reduce((sum, { length }) => sum + length, 0) < 10_000_000);
  // By another program: contents and links, of what it can compare.
  const special = ['fifo', 'chr', 'blk'].map((name) => `--exclude=${name}`);
  execFileSync('diff', ['-r', '--no-dereference', ...special, join(d, 'in'), join(d, 'out')]);
});

test('capabilities, ACLs and their inheritance', {
  skip: requires({ root: true, packages: ['acl', 'libcap2-bin'] }),
}, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'in/sub'), { recursive: true });
  fs.writeFileSync(join(d, 'in/sub/prog'), '', { mode: 0o755 });
  fs.writeFileSync(join(d, 'in/sub/plain'), '', { mode: 0o640 });
  fs.chownSync(join(d, 'in/sub/prog'), 1000, 1000);
  execFileSync('setcap', ['cap_net_raw+ep', join(d, 'in/sub/prog')]);
  execFileSync('setfacl', ['-m', 'u:1234:rwx', join(d, 'in/sub/plain')]);
  execFileSync('setfacl', ['-d', '-m', 'u:1234:r--', join(d, 'in/sub')]);
  const source = scan(join(d, 'in'));
  roundTrip(source.root, d);
  source.close();
});

const needs = { skip: requires({ root: true }) };

test('random tree, extraction, scan: the same tree', needs, async () => {
  await fc.assert(
    fc.asyncProperty(randomTree({ holes: true, maxSize: 20_000 }), async (tree) => {
      await withTempDir((d) => roundTrip(tree, d));
    }),
    { numRuns: campaign('rounds', 40), seed: campaign('seed', 1) },
  );
});

test('deeper than PATH_MAX and than descriptors are held', (t) => {
  const d = tempDir(t);
  const tree = dir();
  let at = tree;
  for (let i = 0; i < 200; i++) {
    const next = dir();
    add(at, `level-${String(i).padStart(3, '0')}-${'x'.repeat(60)}`, next);
    add(at, 'zz-after', file(String(i)));
    at = next;
  }
  const leaf = file('deep');
  add(at, 'leaf', leaf);
  add(tree, 'zz-link', leaf);
  own(tree);
  roundTrip(tree, d);
});

/** Gives all nodes this process's ids. */
function own(tree: TreeNode): void {
  const nodes = [tree];
  for (const node of nodes) {
    node.uid = process.getuid?.() ?? 0;
    node.gid = process.getgid?.() ?? 0;
    nodes.push(...(node.entries?.values() ?? []));
  }
}

test('names and graphs that would leave the target are refused, and nothing stays', (t) => {
  const d = tempDir(t);
  for (const name of ['..', '.', 'a/b', '../x', '', 'a\0b', '/abs']) {
    const tree = dir();
    add(tree, 'first', file('x'));
    tree.entries!.set(name, file('evil'));
    assert.throws(() => extractTree(tree, join(d, 'out')), TreeError, name);
    assert.deepEqual(fs.readdirSync(d), []);
  }
  const loop = dir();
  loop.entries!.set('again', loop);
  assert.throws(() => extractTree(loop, join(d, 'out')), /more than one name/);
  assert.throws(() => extractTree(file('x'), join(d, 'out')), /only a directory/);
  assert.deepEqual(fs.readdirSync(d), []);
});

test('symlinks of the target are not followed', (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'outside'));
  fs.writeFileSync(join(d, 'outside/file'), 'untouched');
  fs.mkdirSync(join(d, 'target'));
  fs.symlinkSync('../outside', join(d, 'target/dir'));
  fs.symlinkSync('../outside/file', join(d, 'target/file'));
  const tree = dir();
  add(tree, 'file', file('new'));
  extractTree(tree, join(d, 'target'), { merge: true });
  assert.equal(fs.readFileSync(join(d, 'outside/file'), 'utf8'), 'untouched');
  assert.equal(fs.readFileSync(join(d, 'target/file'), 'utf8'), 'new');
  assert.ok(fs.lstatSync(join(d, 'target/file')).isFile());
  const sub = dir();
  add(sub, 'file', file('evil'));
  add(tree, 'dir', sub);
  assert.throws(
    () => extractTree(tree, join(d, 'target'), { merge: true }),
    /"dir\/?": (ELOOP|ENOTDIR)/,
  );
  fs.symlinkSync('outside', join(d, 'link'));
  assert.throws(() => extractTree(tree, join(d, 'link')), /symlinks are not followed/);
  fs.writeFileSync(join(d, 'plain'), '');
  assert.throws(() => extractTree(tree, join(d, 'plain')), /no directory/);
  assert.throws(() => extractTree(tree, join(d, 'absent/out')), /absent: ENOENT/);
  assert.deepEqual(fs.readdirSync(join(d, 'outside')), ['file']);
});

test('an empty directory is filled, one with entries is not', (t) => {
  const d = tempDir(t);
  const tree = dir(0o700);
  add(tree, 'a', file('new'));
  fs.mkdirSync(join(d, 'out'));
  extractTree(tree, join(d, 'out'));
  assert.equal(fs.statSync(join(d, 'out')).mode & 0o777, 0o700);
  assert.throws(() => extractTree(tree, join(d, 'out')), /is not empty/);
  fs.writeFileSync(join(d, 'out/other'), 'kept');
  fs.writeFileSync(join(d, 'out/a'), 'old');
  extractTree(tree, join(d, 'out'), { merge: true });
  assert.equal(fs.readFileSync(join(d, 'out/a'), 'utf8'), 'new');
  assert.equal(fs.readFileSync(join(d, 'out/other'), 'utf8'), 'kept');
});

test('a failure on the way leaves nothing, however the modes are', (t) => {
  const d = tempDir(t);
  const tree = dir();
  const sealed = dir(0);
  add(tree, 'a', sealed);
  add(sealed, 'inner', dir(0));
  add(sealed, 'file', file('x', 0));
  const open = () => {
    throw new TreeError('the source is gone');
  };
  add(tree, 'z', makeNode(S.IFREG | 0o644, { size: 5, content: { open } }));
  assert.throws(() => extractTree(tree, join(d, 'out')), /the source is gone/);
  const stored = dir();
  add(stored, 'z', makeNode(S.IFREG | 0o644, { size: 5, backing: { path: 'ab/cd' } }));
  assert.throws(() => extractTree(stored, join(d, 'out')), /object of a store/);
  assert.deepEqual(fs.readdirSync(d), []);
  const openBacking = () => memoryContent(Buffer.from('bytes')).open();
  extractTree(stored, join(d, 'out'), { openBacking });
  assert.equal(fs.readFileSync(join(d, 'out/z'), 'utf8'), 'bytes');
});

test('a name that somebody takes meanwhile is left alone', (t) => {
  const d = tempDir(t);
  const tree = dir();
  const open = () => {
    fs.mkdirSync(join(d, 'out'));
    return memoryContent(Buffer.from('x')).open();
  };
  add(tree, 'a', makeNode(S.IFREG | 0o644, { size: 1, content: { open } }));
  assert.throws(() => extractTree(tree, join(d, 'out')), /rename to .*out: EEXIST/);
  assert.deepEqual(fs.readdirSync(d), ['out']);
  assert.deepEqual(fs.readdirSync(join(d, 'out')), []);
});

test('as a plain user: own files, no set-id bits, what is not permitted is told', (t) => {
  const d = tempDir(t);
  fs.chmodSync(d, 0o777);
  const tree = dir();
  tree.uid = 77;
  const setuid = file('x', 0o6755);
  setuid.uid = 77;
  add(tree, 'setuid', setuid);
  add(tree, 'null', makeNode(S.IFCHR | 0o666, { rdev: 0x103 }));
  add(tree, 'white', makeNode(S.IFCHR, { rdev: 0 }));
  add(tree, 'zero', makeNode(S.IFCHR | 0o666, { rdev: 0x105 }));
  const marked = file('y');
  marked.xattrs = new Map([
    ['trusted.x', Buffer.from('1')],
    ['user.x', Buffer.from('2')],
  ]);
  add(tree, 'marked', marked);
  // The same process with another user's ids: the file system checks those of this thread.
  if (isRoot()) process.seteuid?.(65_534);
  try {
    const warnings = extractTree(tree, join(d, 'out'));
    const text = warnings.map(({ problem, path, count }) => `${path} ${count}: ${problem}`).sort();
    assert.equal(text.length, 2, text.join('\n'));
    assert.match(text[0] as string, /^marked 1: xattrs "trusted\.\*" cannot be set here \(EPERM\)/);
    assert.match(text[1] as string, /^null 2: devices need root/);
  } finally {
    if (process.getuid?.() === 0) process.seteuid?.(0);
  }
  assert.equal(fs.statSync(join(d, 'out/setuid')).mode & 0o7777, 0o755);
  assert.ok(fs.existsSync(join(d, 'out/white')));
  assert.ok(!fs.existsSync(join(d, 'out/null')));
  const fd = must(sys.open(AT.FDCWD, join(d, 'out'), O.DIRECTORY));
  assert.deepEqual(sys.listxattr(fd, 'marked'), ['user.x']);
  sys.close(fd);
});
