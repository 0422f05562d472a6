// The small operations on trees: names, hard links, byte order, counts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import {
  add,
  count,
  dataExtents,
  dataOfEither,
  find,
  isDirectory,
  makeNode,
  memoryContent,
  nameProblem,
  remove,
  show,
  walk,
} from '../../src/tree/tree.js';

const dir = () => makeNode(S.IFDIR | 0o755);
const file = (size = 0) => makeNode(S.IFREG | 0o644, { size });

test('add and remove keep link counts', () => {
  const root = dir();
  const sub = dir();
  const leaf = file(3);
  add(root, 'sub', sub);
  add(root, 'a', leaf);
  add(sub, 'b', leaf);
  assert.deepEqual([root.links, sub.links, leaf.links], [3, 2, 2]);
  assert.equal(find(root, '/sub/b'), leaf);
  assert.equal(find(root, '/'), root);
  assert.equal(find(root, '/a/b'), undefined);
  assert.equal(remove(root, 'a'), leaf);
  assert.equal(remove(root, 'a'), undefined);
  assert.equal(remove(root, 'sub'), sub);
  assert.deepEqual([root.links, leaf.links], [2, 1]);
});

test('names that cannot be names are refused', () => {
  for (const name of ['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256)]) {
    assert.notEqual(nameProblem(name), undefined, name);
    assert.throws(() => add(dir(), name, file()), RangeError);
  }
  assert.equal(nameProblem('x'.repeat(255)), undefined);
  assert.equal(nameProblem('\xff\x01 ...'), undefined);
  const root = dir();
  add(root, 'a', file());
  assert.throws(() => add(root, 'a', file()), /taken/);
  assert.throws(() => add(file(), 'a', file()), /no directory/);
});

test('walk visits parents first, in byte order, and may be pruned', () => {
  const root = dir();
  const sub = dir();
  for (const name of ['b', '\xff', 'a', 'B', 'a.b']) add(root, name, file());
  add(root, 'ab', sub);
  add(sub, 'z', file());
  const seen: string[] = [];
  walk(root, (path) => void seen.push(path));
  assert.deepEqual(seen, ['/', '/B', '/a', '/a.b', '/ab', '/ab/z', '/b', '/\xff']);
  const pruned: string[] = [];
  walk(root, (path) => {
    pruned.push(path);
    return path !== '/ab';
  });
  assert.ok(!pruned.includes('/ab/z'));
});

test('walk goes as deep as the tree does', () => {
  const root = dir();
  let at = root;
  for (let i = 0; i < 50_000; i++) {
    const next = dir();
    add(at, 'd', next);
    at = next;
  }
  assert.equal(count(root).directories, 50_001);
});

test('count counts a hard link once', () => {
  const root = dir();
  const leaf = file(10);
  add(root, 'a', leaf);
  add(root, 'b', leaf);
  add(root, 'l', makeNode(S.IFLNK | 0o777, { target: 'a' }));
  add(root, 'null', makeNode(S.IFCHR | 0o666, { rdev: 0x103 }));
  assert.deepEqual(count(root), {
    nodes: 4,
    names: 4,
    directories: 1,
    files: 1,
    symlinks: 1,
    others: 1,
    bytes: 10,
  });
  assert.equal(find(root, 'l')?.size, 1);
  assert.equal(isDirectory(root), true);
  assert.equal(isDirectory(leaf), false);
});

test('extents of a file: all of it, those named, none', () => {
  const open = () => {
    throw new Error('not read here');
  };
  const extents = [{ at: 4096, length: 10 }];
  assert.deepEqual(dataExtents(file(5)), []);
  assert.deepEqual(dataExtents(makeNode(S.IFREG, { size: 5, content: { open } })), [
    { at: 0, length: 5 },
  ]);
  assert.equal(dataExtents(makeNode(S.IFREG, { size: 9000, content: { open, extents } })), extents);
});

test('names are shown readably', () => {
  const utf8 = Buffer.from('grün', 'utf8').toString('latin1');
  assert.equal(show(utf8), '"grün"');
  assert.equal(show('a\nb'), '"a\\x0ab"');
  assert.equal(show('\xff'), '"\\xff"');
  assert.equal(show('say "\\"'), '"say \\"\\\\\\""');
});

test('content in memory can be opened again', () => {
  const content = memoryContent(Buffer.from('abc'));
  for (let i = 0; i < 2; i++) {
    const opened = content.open();
    const out = Buffer.alloc(2);
    opened.read(1, out);
    opened.close();
    assert.equal(out.toString(), 'bc');
  }
});

test('of two files what neither has data of is not read, and what one has is', () => {
  const file = (...extents: { at: number; length: number }[]) => {
    const content = { extents, open: () => assert.fail('nothing is read here') };
    return makeNode(S.IFREG, { size: 1 << 40, content });
  };
  const a = file({ at: 10, length: 20 }, { at: 1000, length: 5 });
  const b = file({ at: 0, length: 12 }, { at: 25, length: 30 });
  const found = [...dataOfEither(a, b, 16)].map(({ at, length }) => [at, at + length]);
  assert.deepEqual(found, [
    [0, 12],
    [12, 28],
    [28, 30],
    [30, 46],
    [46, 55],
    [1000, 1005],
  ]);
  assert.deepEqual([...dataOfEither(makeNode(S.IFREG, { size: 9 }), file(), 16)], []);
});
