import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DirectoryLayer, setFdLimit } from '../../src/layer/directory.js';
import { O } from '../../src/linux/constants.js';
import { close, openAt, pread, renameAt, statFd } from '../../src/linux/files.js';
import { mapMemory, putBytes, scratch } from '../../src/linux/memory.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { layerSuite } from './suite.js';
import { type Entry, file, makeTree, type Tree } from './tree.js';

mapMemory();
const NAME = scratch + 0x14000;
const NAME_2 = scratch + 0x15000;

function name(text: string, at = NAME): number {
  putBytes(at, text);
  return at;
}

let index = 0;

function directoryLayer(t: TestContext, tree: Tree): DirectoryLayer {
  const folder = join(tempDir(t), 'layer');
  mkdirSync(folder);
  makeTree(folder, tree);
  const rootFd = openAt(-100, name(folder), O.PATH | O.DIRECTORY);
  assert.ok(rootFd >= 0);
  const layer = new DirectoryLayer({
    index: index++,
    label: folder,
    rootFd,
    uuid: new Uint8Array(16),
    magic: 0,
  });
  t.after(() => layer.close());
  return layer;
}

layerSuite('directory layer', directoryLayer);

test('with few descriptors every directory is still reached, and few are open', (t) => {
  setFdLimit(1);
  t.after(() => setFdLimit(4096));
  const tree: Record<string, Entry> = {};
  for (let i = 0; i < 200; i++) tree[`d${i}/sub/leaf`] = file(String(i));
  const layer = directoryLayer(t, tree);
  const before = readdirSync('/proc/self/fd').length;
  const records: number[] = [];
  for (let i = 0; i < 200; i++) {
    const d = layer.enter(layer.root, name(`d${i}`), `d${i}`.length);
    records.push(layer.enter(d, name('sub'), 3));
    layer.release(d);
  }
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 200; i++) {
      const k = (i * 37 + round) % 200;
      const fd = layer.open(records[k], name('leaf'));
      assert.ok(fd >= 0);
      const length = pread(fd, NAME_2, 10, 0);
      assert.equal(length, String(k).length);
      close(fd);
    }
  }
  const open = readdirSync('/proc/self/fd').length - before;
  assert.ok(open <= 40, `${open} descriptors`);
  for (const record of records) layer.release(record);
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('a descriptor stays open while others are asked for, deeper than the limit', (t) => {
  setFdLimit(1);
  t.after(() => setFdLimit(4096));
  const deep = Array.from({ length: 300 }, (_, i) => `n${i}`).join('/');
  const layer = directoryLayer(t, { [`a/${deep}/x`]: file('a'), [`b/${deep}/y`]: file('b') });
  const reach = (top: string) => {
    let at = layer.enter(layer.root, name(top), 1);
    for (let i = 0; i < 300; i++) {
      const next = layer.enter(at, name(`n${i}`), `n${i}`.length);
      layer.release(at);
      at = next;
    }
    return at;
  };
  const a = reach('a');
  const b = reach('b');
  const fdA = layer.fd(a);
  const fdB = layer.fd(b);
  assert.equal(renameAt(fdA, name('x'), fdB, name('z', NAME_2)), 0);
  assert.ok(layer.stat(b, name('z')) > 0);
  assert.ok(layer.stat(a, name('x')) < 0);
  layer.release(a);
  layer.release(b);
});

test('a record that moved is reached by its new place', (t) => {
  setFdLimit(1);
  t.after(() => setFdLimit(4096));
  const tree: Record<string, Entry> = { 'from/d/leaf': file('1'), 'to/x': file('') };
  for (let i = 0; i < 100; i++) tree[`other${i}/x`] = file('');
  const layer = directoryLayer(t, tree);
  const from = layer.enter(layer.root, name('from'), 4);
  const to = layer.enter(layer.root, name('to'), 2);
  const d = layer.enter(from, name('d'), 1);
  assert.ok(layer.stat(d, name('leaf')) > 0);
  renameAt(layer.fd(from), name('d'), layer.fd(to), name('moved', NAME_2));
  layer.moved(d, to, name('moved'), 5);
  layer.release(from);
  // Push its descriptor out, so that it must be found again.
  for (let i = 0; i < 100; i++) {
    const other = layer.enter(layer.root, name(`other${i}`), `other${i}`.length);
    assert.ok(layer.stat(other, name('x')) > 0);
    layer.release(other);
  }
  assert.ok(layer.stat(d, name('leaf')) > 0);
  layer.release(d);
  layer.release(to);
});

test('reading leaves access times alone', { skip: requires({ root: true }) }, (t) => {
  const layer = directoryLayer(t, {
    f: file('x', { mtime: [1000, 0] }),
    'd/x': file(''),
    d: { type: 'dir', mtime: [1000, 0] },
  });
  const fd = layer.open(layer.root, name('f'));
  pread(fd, NAME_2, 1, 0);
  close(fd);
  const d = layer.enter(layer.root, name('d'), 1);
  layer.list(d, () => {});
  layer.release(d);
  assert.equal(statSync(join(layer.label, 'f')).atimeMs, 1_000_000);
  assert.equal(statSync(join(layer.label, 'd')).atimeMs, 1_000_000);
});

test('the root keeps its descriptor', (t) => {
  const layer = directoryLayer(t, { f: file('') });
  const fd = layer.fd(layer.root);
  assert.ok(statFd(fd) > 0);
  assert.equal(layer.fd(layer.root), fd);
});
