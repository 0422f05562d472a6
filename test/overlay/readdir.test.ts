// Listings: offsets that hold while entries come and go, d_ino and d_type that agree with stat, large directories.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, type Entry, file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { getdents, type Entry as Listed, must, O, readdir, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

function list(s: Stack, name: string): Listed[] {
  const fd = s.open(name, O.DIRECTORY);
  const entries = readdir(fd);
  sys.close(fd);
  assert.ok(typeof entries !== 'number');
  return entries;
}

const names = (entries: Listed[]) =>
  entries
    .map(({ name }) => name)
    .filter((name) => name !== '.' && name !== '..')
    .sort();

/** Files f0, f1, ... in `folder`. */
function files(folder: string, from: number, to: number): Tree {
  const tree: Record<string, Entry> = { [folder]: dir() };
  for (let i = from; i < to; i++) tree[`${folder}/f${i}`] = file('');
  return tree;
}

/** The same folder in each kind: of a lower alone, of the upper alone, merged, and with copied-up entries in it. */
async function kinds(s: Stack, count: number): Promise<string[]> {
  s.at((root) => {
    for (let i = 0; i < count; i += 3) must(sys.chmod(root, `impure/f${i}`, 0o600));
  });
  return ['lower', 'upper', 'merged', 'impure'];
}

const plan = (count: number) => ({
  lowers: [
    { ...files('merged', 0, count / 2), ...files('lower', 0, count) },
    { ...files('merged', count / 4, (count * 3) / 4), ...files('impure', 0, count) },
  ],
  upper: { ...files('upper', 0, count), ...files('merged', count / 2, count) },
});

test('every entry once, d_ino and d_type as stat says, in directories of every kind', {
  skip,
}, async (t) => {
  const s = await stack(t, plan(200));
  const expected = names(list(s, 'upper'));
  assert.equal(expected.length, 200);
  for (const kind of await kinds(s, 200)) {
    const entries = list(s, kind);
    assert.deepEqual(names(entries), expected, kind);
    const fd = s.open(kind, O.DIRECTORY);
    for (const { name, ino, type } of entries) {
      const st = stat(fd, name, 0x100);
      assert.ok(typeof st !== 'number');
      assert.equal(ino, st.ino, `${kind}/${name}`);
      assert.equal(type, st.mode >>> 12, `${kind}/${name}`);
    }
    sys.close(fd);
  }
  await s.remount();
  // Listed before anything was looked up: numbers come from the marks on disk.
  const first = new Map(list(s, 'impure').map(({ name, ino }) => [name, ino]));
  const fd = s.open('impure', O.DIRECTORY);
  for (const [name, ino] of first) {
    const st = stat(fd, name);
    assert.ok(typeof st !== 'number');
    if (name !== '..') assert.equal(ino, st.ino, name);
  }
  sys.close(fd);
});

test('offsets hold: entries removed and added meanwhile disturb no other', { skip }, async (t) => {
  const count = 400;
  const s = await stack(t, plan(count));
  for (const kind of await kinds(s, count)) {
    const fd = s.open(kind, O.DIRECTORY);
    const seen: string[] = [];
    for (let round = 0; ; round++) {
      const some = getdents(fd, 1000);
      assert.ok(typeof some !== 'number');
      if (some.length === 0) break;
      seen.push(...some.map(({ name }) => name));
      s.at((root) => {
        const gone = some.find(({ name }) => name.startsWith('f'));
        if (gone !== undefined) must(sys.unlink(root, `${kind}/${gone.name}`));
        sys.close(must(sys.open(root, `${kind}/new${round}`, O.CREAT | O.WRONLY, 0o644)));
      });
    }
    const old = seen.filter((name) => name.startsWith('f'));
    assert.equal(old.length, count, kind);
    assert.equal(new Set(seen).size, seen.length, kind);
    // From the beginning again: what is there now.
    const now = readdir(fd);
    assert.ok(typeof now !== 'number');
    assert.equal(now.filter(({ name }) => name.startsWith('new')).length > 0, true, kind);
    assert.deepEqual(names(now), names(list(s, kind)), kind);
    sys.close(fd);
  }
});

test('rm -rf of directories of every kind, and what the kernel then shows', { skip }, async (t) => {
  const s = await stack(t, plan(400));
  for (const kind of await kinds(s, 400)) run('rm', ['-rf', s.path(kind)]);
  assert.deepEqual(names(list(s, '.')), []);
  await s.sameToKernel();
});

test('seekdir goes back to where telldir was, in any order', { skip }, async (t) => {
  const s = await stack(t, plan(200));
  for (const kind of await kinds(s, 200)) {
    const fd = s.open(kind, O.DIRECTORY);
    const all: Listed[] = [];
    for (;;) {
      const some = getdents(fd, 500);
      assert.ok(typeof some !== 'number');
      if (some.length === 0) break;
      all.push(...some);
    }
    for (let i = 0; i < all.length - 1; i += 7) {
      const k = (i * 31) % (all.length - 1);
      must(sys.lseek(fd, Number(all[k].offset), 0));
      const next = getdents(fd, 300);
      assert.ok(typeof next !== 'number');
      assert.equal(next[0].name, all[k + 1].name, `${kind} after ${all[k].name}`);
    }
    // An offset stays good in another open of the same directory that has read nothing yet.
    const other = s.open(kind, O.DIRECTORY);
    must(sys.lseek(other, Number(all[50].offset), 0));
    const next = getdents(other, 300);
    assert.ok(typeof next !== 'number');
    assert.equal(next[0].name, all[51].name, kind);
    sys.close(other);
    must(sys.lseek(fd, Number(all[all.length - 1].offset), 0));
    assert.deepEqual(getdents(fd), []);
    sys.close(fd);
  }
});

test('a directory of 100,000 entries, merged and removed', { skip }, async (t) => {
  const s = await stack(t, { size: '300m', unmounted: true });
  const script = `cd "$1" && seq -f 'n%06g' "$2" "$3" | xargs touch`;
  const fill = (layer: string, from: number, to: number) => {
    mkdirSync(join(layer, 'big'));
    run('sh', ['-c', script, 'sh', join(layer, 'big'), String(from), String(to)]);
  };
  fill(s.lowers[0], 1, 70_000);
  fill(s.upper, 50_001, 100_000);
  await s.mount();
  const entries = list(s, 'big');
  assert.equal(entries.length, 100_002);
  assert.equal(new Set(entries.map(({ name }) => name)).size, 100_002);
  assert.equal(run('sh', ['-c', `ls -f "$0" | wc -l`, s.path('big')]).trim(), '100002');
  s.at((root) => {
    const st = stat(root, 'big/n099999');
    assert.ok(typeof st !== 'number');
    must(sys.unlink(root, 'big/n000001'));
    must(sys.unlink(root, 'big/n060000'));
    must(sys.unlink(root, 'big/n100000'));
  });
  assert.equal(list(s, 'big').length, 99_999);
});

test('dot and dot-dot have the numbers of the directory and its parent', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ 'a/b': dir() }], upper: { 'a/b/c': dir() } });
  for (const path of ['.', 'a', 'a/b', 'a/b/c']) {
    const entries = list(s, path);
    const ino = (name: string) => entries.find((entry) => entry.name === name)?.ino;
    const st = s.at((root) => stat(root, path));
    assert.ok(typeof st !== 'number');
    assert.equal(ino('.'), st.ino, path);
    if (path === '.') continue;
    const up = s.at((root) => stat(root, `${path}/..`));
    assert.ok(typeof up !== 'number');
    assert.equal(ino('..'), up.ino, path);
  }
});
