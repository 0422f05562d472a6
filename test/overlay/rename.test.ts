// renameat2(2): every kind over every kind, with each flag, against what the kernel's overlayfs answers.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, type Entry, file, type Tree, whiteout } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { show, stat, sys } from '../support/sys.js';
import { type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

const NOREPLACE = 1;
const EXCHANGE = 2;
const WHITEOUT = 4;

/** One object of each kind, by name: where it lies and what it is. */
const upper: Tree = {
  upfile: file('upfile'),
  updir: dir(),
  upfull: dir(),
  'upfull/x': file(''),
  merged: dir(),
  'merged/up': file(''),
  hollow: dir(),
  'hollow/in': whiteout,
  uplink: { type: 'symlink', data: 'upfile' },
  gone: whiteout,
};
const lower: Tree = {
  lowfile: file('lowfile'),
  lowdir: dir(),
  lowfull: dir(),
  'lowfull/x': file(''),
  merged: dir(),
  'merged/low': file(''),
  'hollow/in': file(''),
  lowlink: { type: 'symlink', data: 'lowfile' },
  gone: file('hidden'),
};
const kinds = [
  ...['upfile', 'updir', 'upfull', 'merged', 'hollow', 'uplink'],
  ...['lowfile', 'lowdir', 'lowfull', 'lowlink'],
];

/** Each pair in a folder of its own, so that one mount takes them all. */
function pairs(): { folder: string; from: string; to: string; flags: number }[] {
  const all = [];
  for (const flags of [0, NOREPLACE, EXCHANGE]) {
    for (const from of [...kinds, 'gone']) {
      for (const to of [...kinds, 'gone', 'none']) {
        if (from !== to) all.push({ folder: `${flags}-${from}-${to}`, from, to, flags });
      }
    }
  }
  return all;
}

function layer(tree: Tree): Tree {
  const all: Record<string, Entry> = {};
  for (const { folder, from, to } of pairs()) {
    for (const [path, entry] of Object.entries(tree)) {
      if ([from, to].includes(path.split('/')[0])) all[`${folder}/${path}`] = entry;
    }
  }
  return all;
}

function renameAll(s: Stack): Map<string, string> {
  return s.at((root) => {
    const results = new Map<string, string>();
    for (const { folder, from, to, flags } of pairs()) {
      const result = sys.rename(root, `${folder}/${from}`, `${folder}/${to}`, flags);
      const after = readdirSync(s.path(folder)).sort().join(' ');
      results.set(folder, `${show(result)}: ${after}`);
    }
    return results;
  });
}

test('every kind over every kind, plain, NOREPLACE and EXCHANGE: as the kernel does it', {
  skip,
}, async (t) => {
  const plan = { upper: layer(upper), lowers: [layer(lower)] };
  const ours = await stack(t, plan);
  const theirs = await stack(t, { ...plan, unmounted: true });
  theirs.kernelMount();
  const expected = renameAll(theirs);
  const results = renameAll(ours);
  for (const [folder, result] of expected) assert.equal(results.get(folder), result, folder);
  assert.deepEqual([...ours.tree().lines], [...theirs.tree(false).lines]);
  theirs.kernelUnmount();
  assert.deepEqual(readdirSync(join(ours.work, 'work')), []);
  await ours.sameToKernel();
});

test('inode numbers go with the names', { skip }, async (t) => {
  const s = await stack(t, { upper, lowers: [lower] });
  const ino = (root: number, name: string) => {
    const st = stat(root, name, 0x100);
    return typeof st === 'number' ? show(st) : st.ino;
  };
  s.at((root) => {
    for (const [from, to] of [
      ['lowfile', 'upfile'],
      ['merged', 'updir'],
      ['lowlink', 'lowfull'],
    ]) {
      const [a, b] = [ino(root, from), ino(root, to)];
      assert.equal(sys.rename(root, from, to, EXCHANGE), 0);
      assert.deepEqual([ino(root, to), ino(root, from)], [a, b]);
      assert.equal(sys.rename(root, to, 'third'), 0);
      assert.equal(ino(root, 'third'), a);
      assert.equal(sys.rename(root, 'third', to), 0);
    }
  });
  await s.sameToKernel();
});

test('refused: into itself, unknown flags, contradicting flags, whiteouts by users', {
  skip,
}, async (t) => {
  const s = await stack(t, { upper, lowers: [lower] });
  s.at((root) => {
    assert.equal(show(sys.rename(root, 'merged', 'merged/in')), 'EINVAL');
    assert.equal(show(sys.rename(root, 'lowfile', 'none', 8)), 'EINVAL');
    assert.equal(show(sys.rename(root, 'lowfile', 'upfile', NOREPLACE | EXCHANGE)), 'EINVAL');
    assert.equal(show(sys.rename(root, 'missing', 'none')), 'ENOENT');
    assert.equal(show(sys.rename(root, 'lowfile', 'lowfile')), '0');
    const result = show(sys.rename(root, 'lowfile', 'none', WHITEOUT));
    assert.ok(['0', 'EINVAL'].includes(result), result);
  });
});

test('a chain of renames of directories in one another, over a remount', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [{ 'a/b/c/f': file('f'), 'x/y': dir() }, { 'a/b/g': file('g') }],
  });
  const must0 = (result: number) => assert.equal(show(result), '0');
  s.at((root) => {
    must0(sys.rename(root, 'a/b', 'x/y/b'));
    must0(sys.rename(root, 'x', 'a/x'));
    must0(sys.rename(root, 'a/x/y/b/c', 'c'));
    must0(sys.rename(root, 'a', 'z'));
  });
  assert.equal(s.read('c/f'), 'f');
  assert.equal(s.read('z/x/y/b/g'), 'g');
  await s.remount();
  s.at((root) => {
    must0(sys.rename(root, 'c', 'z/x/y/b/c'));
    must0(sys.rename(root, 'z/x/y/b', 'a'));
  });
  assert.equal(s.read('a/c/f'), 'f');
  assert.equal(s.read('a/g'), 'g');
  await s.sameToKernel();
});
