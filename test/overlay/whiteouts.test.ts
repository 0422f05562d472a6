// What hides what: whiteouts in all three forms, opaque marks, and new objects in their places.

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, file, type Tree, whiteout } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { must, O, S, show, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

const below: Tree = {
  f: file('below'),
  'd/x': file('x'),
  'd/y': file('y'),
  'e/z': file('z'),
  g: file('g'),
};

const listed = (s: Stack, path = '.') => readdirSync(s.path(path)).sort();

function hides(s: Stack, path: string): void {
  s.at((root) => assert.equal(show(sys.open(root, path, O.RDONLY)), 'ENOENT', path));
}

test('character devices 0/0 hide files and directories, in the upper and in lowers', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    upper: { f: whiteout },
    lowers: [{ d: whiteout, 'e/z': whiteout }, below],
  });
  assert.deepEqual(listed(s), ['e', 'g']);
  assert.deepEqual(listed(s, 'e'), []);
  for (const path of ['f', 'd', 'd/x', 'e/z']) hides(s, path);
  await s.sameToKernel();
});

test('a whiteout over nothing shows nothing', { skip }, async (t) => {
  const s = await stack(t, { upper: { f: whiteout, 'd/q': whiteout }, lowers: [{ d: dir() }] });
  assert.deepEqual(listed(s), ['d']);
  assert.deepEqual(listed(s, 'd'), []);
  s.at((root) => {
    must(sys.rmdir(root, 'd'));
    must(sys.mkdir(root, 'f', 0o755));
  });
  assert.deepEqual(listed(s), ['f']);
  await s.sameToKernel();
});

test('other character devices are shown', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ null: { type: 'chr' } }] });
  const st = s.at((root) => stat(root, 'null'));
  assert.ok(typeof st !== 'number');
  assert.equal(st.mode & S.IFMT, S.IFCHR);
  s.at((root) => assert.equal(show(sys.mknod(root, 'w', S.IFCHR, 0)), 'EPERM'));
});

test('whiteouts as files with an xattr, where the directory announces them', {
  skip,
}, async (t) => {
  const xattrs = { 'trusted.overlay.whiteout': 'y' };
  const s = await stack(t, {
    lowers: [
      {
        d: dir({ xattrs: { 'trusted.overlay.opaque': 'x' } }),
        'd/x': file('', { xattrs }),
        'd/shown': file('has content'),
      },
      below,
    ],
  });
  hides(s, 'd/x');
  assert.deepEqual(listed(s, 'd'), ['shown', 'y']);
  s.write('d/x', 'again');
  assert.equal(s.read('d/x'), 'again');
  s.at((root) => must(sys.unlink(root, 'd/x')));
  hides(s, 'd/x');
  await s.sameToKernel();
  // What shows nothing can be removed, which the kernel refuses.
  await s.mount();
  s.at((root) => {
    for (const name of ['shown', 'y']) must(sys.unlink(root, `d/${name}`));
    must(sys.rmdir(root, 'd'));
  });
  hides(s, 'd');
});

test('an opaque directory hides the one below it, in the upper and in lowers', {
  skip,
}, async (t) => {
  const opaque = { xattrs: { 'trusted.overlay.opaque': 'y' } };
  const s = await stack(t, {
    upper: { d: dir(opaque), 'd/own': file('1') },
    lowers: [{ e: dir(opaque), 'e/own': file('2') }, below, { 'e/far': file('3') }],
  });
  assert.deepEqual(listed(s, 'd'), ['own']);
  assert.deepEqual(listed(s, 'e'), ['own']);
  hides(s, 'd/x');
  hides(s, 'e/far');
  await s.sameToKernel();
});

test('a file hides a directory below, and a directory a file', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [{ d: file('now a file'), 'f/inner': file('') }, below, { 'd/deep': file('') }],
  });
  assert.equal(s.read('d'), 'now a file');
  assert.deepEqual(listed(s, 'f'), ['inner']);
  await s.sameToKernel();
});

test('a directory made in the place of a removed one is empty', { skip }, async (t) => {
  const s = await stack(t, { lowers: [below] });
  run('rm', ['-r', s.path('d')]);
  s.at((root) => must(sys.mkdir(root, 'd', 0o755)));
  assert.deepEqual(listed(s, 'd'), []);
  s.write('d/new', '');
  await s.remount();
  assert.deepEqual(listed(s, 'd'), ['new']);
  assert.equal(s.xattr(s.upper, 'd', 'trusted.overlay.opaque'), 'y');
  await s.sameToKernel();
});

test('every kind of object in the place of a whiteout', { skip }, async (t) => {
  const s = await stack(t, { lowers: [below, { s: file(''), p: file(''), l: file('') }] });
  s.at((root) => {
    for (const name of ['f', 's', 'p', 'l', 'g']) must(sys.unlink(root, name));
    must(sys.symlink('target', root, 's'));
    must(sys.mknod(root, 'p', S.IFIFO | 0o600));
    sys.close(must(sys.open(root, 'f', O.CREAT | O.EXCL | O.WRONLY, 0o604)));
    must(sys.link(root, 'f', 'l'));
    must(sys.mkdir(root, 'g', 0o700));
    assert.equal(show(sys.mkdir(root, 'f', 0o755)), 'EEXIST');
    must(sys.rename(root, 'd', 'moved'));
    must(sys.rename(root, 'e', 'd'));
  });
  assert.deepEqual(listed(s), ['d', 'f', 'g', 'l', 'moved', 'p', 's']);
  assert.deepEqual(listed(s, 'd'), ['z']);
  await s.sameToKernel();
});

test('aufs whiteouts: hidden with whiteouts=aufs, ordinary names without', {
  skip,
}, async (t) => {
  const layers = {
    lowers: [
      {
        '.wh.f': file(''),
        'd/.wh.x': file(''),
        'e/.wh..wh..opq': file(''),
        'e/own': file(''),
        '.wh.g': file(''),
      },
      below,
    ],
  };
  const s = await stack(t, { ...layers, options: 'whiteouts=aufs' });
  assert.deepEqual(listed(s), ['d', 'e']);
  assert.deepEqual(listed(s, 'd'), ['y']);
  assert.deepEqual(listed(s, 'e'), ['own']);
  for (const path of ['f', 'd/x', 'e/z', '.wh.f', 'e/.wh..wh..opq', '.wh.none']) hides(s, path);
  s.at((root) => {
    assert.equal(show(sys.open(root, '.wh.a', O.CREAT | O.WRONLY, 0o644)), 'EPERM');
    assert.equal(show(sys.mkdir(root, '.wh.a', 0o755)), 'EPERM');
    must(sys.rename(root, 'd', 'moved'));
    must(sys.mkdir(root, 'd', 0o755));
  });
  s.write('f', 'new');
  assert.deepEqual(listed(s, 'd'), []);
  assert.deepEqual(listed(s, 'moved'), ['y']);
  s.at((root) => {
    must(sys.unlink(root, 'f'));
    must(sys.unlink(root, 'moved/y'));
    must(sys.rmdir(root, 'moved'));
  });
  // What is removed here leaves the kernel's form, never a `.wh.` file of ours.
  assert.equal(existsSync(join(s.upper, '.wh.f')), false);
  await s.remount();
  assert.deepEqual(listed(s), ['d', 'e']);

  const plain = await stack(t, layers);
  assert.deepEqual(listed(plain), ['.wh.f', '.wh.g', 'd', 'e', 'f', 'g']);
  assert.deepEqual(listed(plain, 'd'), ['.wh.x', 'x', 'y']);
  await plain.sameToKernel();
});

test('aufs whiteouts in the upper give way to what is made in their place', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    upper: { '.wh.f': file(''), '.wh.d': file('') },
    lowers: [below],
    options: 'whiteouts=aufs',
  });
  assert.deepEqual(listed(s), ['e', 'g']);
  s.write('f', 'new');
  s.at((root) => must(sys.mkdir(root, 'd', 0o755)));
  assert.deepEqual(listed(s), ['d', 'e', 'f', 'g']);
  assert.deepEqual(listed(s, 'd'), []);
  await s.remount();
  assert.equal(s.read('f'), 'new');
  assert.deepEqual(listed(s, 'd'), []);
});

test('rmdir: ENOTEMPTY for what shows something, done where only whiteouts are left', {
  skip,
}, async (t) => {
  const s = await stack(t, { lowers: [below, { 'd/w': file('') }] });
  s.at((root) => {
    assert.equal(show(sys.rmdir(root, 'd')), 'ENOTEMPTY');
    for (const name of ['x', 'y', 'w']) must(sys.unlink(root, `d/${name}`));
    must(sys.rmdir(root, 'd'));
    assert.equal(show(sys.rmdir(root, 'd')), 'ENOENT');
    assert.equal(show(sys.rmdir(root, 'f')), 'ENOTDIR');
    assert.equal(show(sys.unlink(root, 'e')), 'EISDIR');
    // Over it a rename of another directory: it holds only whiteouts too.
    must(sys.unlink(root, 'e/z'));
    must(sys.mkdir(root, 'n', 0o755));
    must(sys.rename(root, 'n', 'e'));
  });
  assert.deepEqual(listed(s), ['e', 'f', 'g']);
  assert.deepEqual(readdirSync(join(s.work, 'work')), []);
  await s.sameToKernel();
});
