// Names are bytes: 255 of them, in any encoding, and paths of any length.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Entry, file, within } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, readdir, show, stat, sys } from '../support/sys.js';
import { stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

const odd = [
  'x'.repeat(255),
  '\xff'.repeat(255),
  '\xff\xfe',
  '\xc3\xbc',
  '\xc3',
  'new\nline',
  ' ',
  '-rf',
  'a:b,c\\d"e',
  '.wh.x',
  '.wh..wh..opq',
  '#1',
  '...',
];

test('names of bytes in lowers and the upper: found, made, renamed, removed', {
  skip,
}, async (t) => {
  const tree: Record<string, Entry> = {};
  for (const name of odd) tree[`d/${name}`] = file(name);
  const s = await stack(t, { lowers: [tree] });
  s.at((root) => {
    const d = must(sys.open(root, 'd', O.DIRECTORY));
    for (const name of odd) {
      const fd = must(sys.open(d, name, O.RDWR));
      assert.equal((sys.pread(fd, 300, 0) as Buffer).toString('latin1'), name);
      must(sys.pwrite(fd, Buffer.from('!'), 0));
      sys.close(fd);
      must(sys.rename(d, name, 'plain'));
      must(sys.rename(d, 'plain', name));
      must(sys.chmod(d, name, 0o600));
    }
    const entries = readdir(d);
    assert.ok(typeof entries !== 'number');
    const seen = entries.map(({ name }) => name).filter((name) => name !== '.' && name !== '..');
    assert.deepEqual(seen.sort(), [...odd].sort());
    must(sys.mkdir(root, 'e', 0o755));
    const e = must(sys.open(root, 'e', O.DIRECTORY));
    for (const name of odd) {
      sys.close(must(sys.open(e, name, O.CREAT | O.EXCL | O.WRONLY, 0o644)));
      must(sys.link(e, name, 'second'));
      must(sys.unlink(e, 'second'));
    }
    for (const name of odd.slice(0, 5)) must(sys.unlink(d, name));
    sys.close(e);
    sys.close(d);
  });
  await s.sameToKernel();
});

test('256 bytes are ENAMETOOLONG', { skip }, async (t) => {
  const s = await stack(t);
  const name = 'x'.repeat(256);
  s.at((root) => {
    assert.equal(show(sys.open(root, name, O.RDONLY)), 'ENAMETOOLONG');
    assert.equal(show(sys.mkdir(root, name, 0o755)), 'ENAMETOOLONG');
    assert.equal(show(sys.symlink('x', root, name)), 'ENAMETOOLONG');
    sys.close(must(sys.open(root, 'f', O.CREAT | O.WRONLY, 0o644)));
    assert.equal(show(sys.rename(root, 'f', name)), 'ENAMETOOLONG');
    const st = sys.statfs(root);
    assert.ok(typeof st !== 'number');
    assert.equal(st.namelen, 255);
  });
});

test('a tree deeper than PATH_MAX is copied up, renamed, listed and removed', {
  skip,
}, async (t) => {
  const part = 'd'.repeat(200);
  const deep = Array.from({ length: 45 }, () => part).join('/');
  const s = await stack(t, {
    lowers: [{ [`${deep}/f`]: file('deep') }, { [`${deep}/g`]: file('deeper') }],
  });
  s.at((root) => {
    within(root, `${deep}/f`, false, (folder, name) => {
      const fd = must(sys.open(folder, name, O.RDWR));
      must(sys.pwrite(fd, Buffer.from('D'), 0));
      assert.equal(String(sys.pread(fd, 9, 0)), 'Deep');
      sys.close(fd);
      must(sys.rename(folder, 'g', 'h'));
      must(sys.mkdir(folder, 'new', 0o755));
      const st = stat(folder, 'h');
      assert.ok(typeof st !== 'number');
      assert.equal(st.size, 6);
    });
  });
  await s.sameToKernel();
  await s.mount();
  s.at((root) => {
    const half = Array.from({ length: 22 }, () => part).join('/');
    // Its redirect would be longer than a redirect may be: EXDEV, as for any directory that cannot be moved.
    within(root, half, false, (folder, name) => {
      const result = sys.rename(folder, name, 'moved');
      assert.ok(result === 0 || show(result) === 'EXDEV', show(result));
    });
  });
  await s.sameToKernel();
});

test('a symlink target of 4095 bytes survives copy-up', { skip }, async (t) => {
  const target = 't'.repeat(4095);
  const s = await stack(t, { lowers: [{ l: { type: 'symlink', data: target } }] });
  s.at((root) => {
    must(sys.chown(root, 'l', 1, 1, AT.SYMLINK_NOFOLLOW));
    assert.equal(String(sys.readlink(root, 'l')), target);
    must(sys.symlink(target, root, 'm'));
    assert.equal(String(sys.readlink(root, 'm')), target);
  });
  await s.sameToKernel();
});
