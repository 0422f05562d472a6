// The six behaviours that overlayfs documents as non-standard, which are standard here, and the atime of lowers.
// Documentation/filesystems/overlayfs.rst, "Non-standard behavior".

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { dir, file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { mapShared, must, O, show, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

/** Both where data is copied inline (tmpfs) and where a worker copies and syncs it. */
const places: [string, { disk: boolean }][] = [
  ['on tmpfs', { disk: false }],
  ['on disk', { disk: true }],
];

const big = 'B'.repeat(5 << 20);

for (const [where, plan] of places) {
  test(`a descriptor opened for reading before the copy-up sees later writes, ${where}`, {
    skip,
  }, async (t) => {
    const s = await stack(t, { ...plan, lowers: [{ f: file('old'), big: file(big) }] });
    for (const [name, old] of [
      ['f', 'old'],
      ['big', 'BBB'],
    ]) {
      const reader = s.open(name, O.RDONLY);
      assert.equal(String(sys.pread(reader, 3, 0)), old);
      const writer = s.open(name, O.WRONLY);
      must(sys.pwrite(writer, Buffer.from('new'), 0));
      assert.equal(String(sys.pread(reader, 3, 0)), 'new');
      sys.close(writer);
      const again = s.open(name, O.RDWR | O.TRUNC);
      must(sys.pwrite(again, Buffer.from('third'), 0));
      assert.equal(String(sys.pread(reader, 100, 0)), 'third');
      sys.close(again);
      sys.close(reader);
      assert.equal(readFileSync(join(s.lowers[0], name), 'latin1').slice(0, 3), old);
    }
  });

  test(`a shared mapping made before the copy-up sees later writes, ${where}`, {
    skip,
  }, async (t) => {
    const s = await stack(t, { ...plan, lowers: [{ f: file('a'.repeat(8192)) }] });
    const reader = s.open('f', O.RDONLY);
    const map = mapShared(reader, 8192, false);
    assert.ok(typeof map !== 'number', show(map as number));
    assert.equal(map.bytes[5000], 0x61);
    const writer = s.open('f', O.RDWR);
    must(sys.pwrite(writer, Buffer.from('z'), 5000));
    assert.equal(map.bytes[5000], 0x7a);
    const writable = mapShared(writer, 8192, true);
    assert.ok(typeof writable !== 'number');
    writable.bytes[6000] = 0x79;
    assert.equal(map.bytes[6000], 0x79);
    const byte = Buffer.alloc(1);
    byte[0] = 0x79;
    assert.deepEqual(sys.pread(reader, 1, 6000), byte);
    writable.sync();
    writable.unmap();
    map.unmap();
    sys.close(writer);
    sys.close(reader);
    await s.remount();
    assert.equal(s.read('f')[6000], 'y');
    assert.equal(readFileSync(join(s.lowers[0], 'f'), 'latin1'), 'a'.repeat(8192));
  });
}

test('st_ino and st_dev stay the same over copy-up, and over a remount', { skip }, async (t) => {
  const tree: Tree = {
    f: file('x'),
    d: dir(),
    'd/inner': file('y'),
    l: { type: 'symlink', data: 'f' },
    p: { type: 'fifo' },
    c: { type: 'chr' },
  };
  const s = await stack(t, { lowers: [tree] });
  const ids = () =>
    s.at((root) =>
      Object.keys(tree).map((name) => {
        const st = stat(root, name, 0x100);
        assert.ok(typeof st !== 'number');
        return { name, ino: st.ino, dev: st.dev };
      }),
    );
  const before = ids();
  assert.equal(new Set(before.map(({ dev }) => dev)).size, 1);
  s.at((root) => {
    for (const name of Object.keys(tree)) must(sys.chown(root, name, 3, 4, 0x100));
  });
  assert.deepEqual(ids(), before);
  await s.remount();
  const inos = (list: typeof before) => list.map(({ name, ino }) => [name, ino]);
  assert.deepEqual(inos(ids()), inos(before));
});

for (const index of ['on', 'off']) {
  test(`hard links stay one file, index=${index}`, { skip }, async (t) => {
    const lower: Tree = {
      a: file('one'),
      b: { type: 'link', data: 'a' },
      'd/c': { type: 'link', data: 'a' },
    };
    const s = await stack(t, { lowers: [lower], options: `index=${index}` });
    const names = ['a', 'b', 'd/c'];
    const look = () => s.at((root) => names.map((name) => stat(root, name)));
    const same = (nlink: number) => {
      const stats = look();
      for (const st of stats) {
        assert.ok(typeof st !== 'number');
        const first = stats[0];
        assert.ok(typeof first !== 'number');
        assert.equal(st.ino, first.ino);
        assert.equal(st.nlink, nlink);
      }
    };
    same(3);
    s.write('b', 'two');
    for (const name of names) assert.equal(s.read(name), 'two');
    same(3);
    s.at((root) => must(sys.chmod(root, 'd/c', 0o600)));
    assert.equal(statSync(s.path('a')).mode & 0o777, 0o600);
    if (index === 'on') {
      await s.remount();
      for (const name of names) assert.equal(s.read(name), 'two');
      same(3);
      s.write('d/c', 'three');
      s.at((root) => must(sys.link(root, 'a', 'd/new')));
      same(4);
      s.at((root) => must(sys.unlink(root, 'b')));
      names[1] = 'd/new';
      same(3);
      for (const name of names) assert.equal(s.read(name), 'three');
      await s.sameToKernel();
    }
    assert.equal(readFileSync(join(s.lowers[0], 'a'), 'latin1'), 'one');
  });
}

test('a name less of a lower file stays one less after a remount', { skip }, async (t) => {
  const lower: Record<string, Tree[string]> = {};
  for (const name of ['f', 'g']) {
    lower[name] = file('one');
    for (const other of [`${name}1`, `${name}2`]) lower[other] = { type: 'link', data: name };
  }
  const s = await stack(t, { lowers: [lower], upper: { new: file('new') } });
  s.at((root) => {
    must(sys.unlink(root, 'f1'));
    must(sys.rename(root, 'new', 'g'));
  });
  for (let i = 0; i < 2; i++) {
    const links = ['f', 'f2', 'g', 'g1', 'g2'].map((name) => statSync(s.path(name)).nlink);
    assert.deepEqual(links, [2, 2, 1, 2, 2]);
    await s.remount();
  }
  s.at((root) => {
    must(sys.unlink(root, 'f'));
    must(sys.unlink(root, 'f2'));
  });
  await s.sameToKernel();
});

test('what takes the place of a name does not get the count of the names', { skip }, async (t) => {
  const lower: Tree = {
    a: file('one'),
    b: { type: 'link', data: 'a' },
    c: { type: 'link', data: 'a' },
    d: { type: 'link', data: 'a' },
  };
  const s = await stack(t, { lowers: [lower], upper: { new: file('new') } });
  s.at((root) => {
    must(sys.chmod(root, 'a', 0o600));
    for (const name of 'bcd') assert.equal(statSync(s.path(name)).nlink, 4);
    must(sys.rename(root, 'new', 'a'));
    must(sys.link(root, 'b', 'e'));
    must(sys.unlink(root, 'b'));
  });
  const links = () => ['a', 'c', 'd', 'e'].map((name) => statSync(s.path(name)).nlink);
  assert.deepEqual(links(), [1, 3, 3, 3]);
  for (const name of 'ab') assert.equal(s.xattr(s.upper, name, 'trusted.overlay.nlink'), 'ENODATA');
  await s.remount();
  assert.deepEqual(links(), [1, 3, 3, 3]);
  await s.sameToKernel();
});

test('a name that is not in the upper can take over from one that is, after a remount', {
  skip,
}, async (t) => {
  const lower: Tree = { a: file('one'), b: { type: 'link', data: 'a' } };
  const s = await stack(t, { lowers: [lower] });
  s.write('a', 'two');
  await s.remount();
  assert.equal(statSync(s.path('a')).nlink, 2);
  assert.equal(statSync(s.path('b')).nlink, 2);
  s.at((root) => must(sys.unlink(root, 'a')));
  assert.equal(statSync(s.path('b')).nlink, 1);
  assert.equal(s.read('b'), 'two');
  s.write('b', 'three');
  await s.sameToKernel();
});

test('a name that cannot be removed stays what it was', { skip }, async (t) => {
  const s = await stack(t, {
    upper: { f: file('one'), g: { type: 'link', data: 'f' } },
    disk: true,
  });
  const immutable = (flag: string) => run('chattr', [flag, join(s.upper, 'f')]);
  s.at((root) => {
    assert.ok(typeof stat(root, 'f') !== 'number');
    immutable('+i');
    assert.equal(show(sys.unlink(root, 'f')), 'EPERM');
    immutable('-i');
    must(sys.unlink(root, 'f'));
    must(sys.unlink(root, 'g'));
  });
  assert.deepEqual([...s.tree().lines.keys()], ['']);
});

test('a name in the upper that takes over from one that is not can be removed', {
  skip,
}, async (t) => {
  const lower: Tree = { a: file('one'), b: { type: 'link', data: 'a' } };
  const s = await stack(t, { lowers: [lower] });
  s.at((root) => must(sys.chmod(root, 'a', 0o600)));
  await s.remount();
  s.at((root) => {
    assert.equal(statSync(s.path('b')).nlink, 2);
    assert.equal(statSync(s.path('a')).nlink, 2);
    must(sys.unlink(root, 'b'));
    must(sys.unlink(root, 'a'));
  });
  assert.deepEqual([...s.tree().lines.keys()], ['']);
  await s.sameToKernel();
});

test('a link of a copied-up file into a new directory is the same file after remounts', {
  skip,
}, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('one') }] });
  const same = () => assert.equal(statSync(s.path('d/g')).ino, statSync(s.path('f')).ino);
  s.at((root) => must(sys.chmod(root, 'f', 0o600)));
  await s.remount();
  s.at((root) => {
    must(sys.mkdir(root, 'd', 0o755));
    must(sys.link(root, 'f', 'd/g'));
  });
  same();
  await s.remount();
  same();
  await s.sameToKernel();
});

test('an open descriptor of one name sees what is written through another', { skip }, async (t) => {
  const lower: Tree = { a: file('one'), b: { type: 'link', data: 'a' } };
  const s = await stack(t, { lowers: [lower] });
  const reader = s.open('a', O.RDONLY);
  s.write('b', 'two');
  assert.equal(String(sys.pread(reader, 10, 0)), 'two');
  sys.close(reader);
});

test('directories of lowers can be renamed, merged ones too', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [
      { 'd/top': file('t'), 'd/sub/x': file('x') },
      { 'd/bottom': file('b'), e: dir() },
    ],
  });
  const ino = statSync(s.path('d')).ino;
  s.at((root) => must(sys.rename(root, 'd', 'e/moved')));
  assert.equal(statSync(s.path('e/moved')).ino, ino);
  const listed = () => run('find', [s.mnt, '-printf', '%P\n']).trim().split('\n').sort();
  const expected = [
    'e',
    'e/moved',
    'e/moved/bottom',
    'e/moved/sub',
    'e/moved/sub/x',
    'e/moved/top',
  ];
  assert.deepEqual(listed(), expected);
  s.write('e/moved/sub/x', 'changed');
  s.at((root) => must(sys.rename(root, 'e', 'f')));
  assert.equal(s.read('f/moved/sub/x'), 'changed');
  assert.equal(s.read('f/moved/bottom'), 'b');
  // The old name is free for something else, which shows nothing of the old.
  mkdirSync(s.path('d'));
  assert.deepEqual(run('ls', ['-A', s.path('d')]), '');
  await s.sameToKernel();
});

test('redirect_dir=off: EXDEV for a directory with something below it', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ 'd/x': file('') }], options: 'redirect_dir=off' });
  s.at((root) => {
    assert.equal(show(sys.rename(root, 'd', 'e')), 'EXDEV');
    must(sys.mkdir(root, 'pure', 0o755));
    must(sys.rename(root, 'pure', 'renamed'));
  });
  await s.sameToKernel('redirect_dir=off,index=on');
});

function start(s: Stack, t: TestContext, name: string): ChildProcess {
  const child = spawn(s.path(name), ['60'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

test('a running program is ETXTBSY, from a lower as from the upper', { skip }, async (t) => {
  const s = await stack(t, { unmounted: true });
  copyFileSync('/bin/sleep', join(s.lowers[0], 'lower'));
  copyFileSync('/bin/sleep', join(s.upper, 'upper'));
  copyFileSync('/bin/sleep', join(s.lowers[0], 'copied'));
  await s.mount();
  s.at((root) => must(sys.chmod(root, 'copied', 0o755)));
  for (const name of ['lower', 'upper', 'copied']) {
    const child = start(s, t, name);
    await new Promise((resolve) => child.once('spawn', resolve));
    // The fork is reported before the exec is done.
    for (
      let i = 0;
      i < 3000 && !readFileSync(`/proc/${child.pid}/comm`, 'utf8').startsWith(name);
      i++
    ) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    s.at((root) => {
      assert.equal(show(sys.open(root, name, O.WRONLY)), 'ETXTBSY', name);
      assert.equal(show(sys.open(root, name, O.RDWR | O.TRUNC)), 'ETXTBSY', name);
      assert.equal(show(sys.truncate(root, name, 0)), 'ETXTBSY', name);
      // Its metadata may change meanwhile, which copies it up.
      must(sys.chmod(root, name, 0o700));
      assert.equal(show(sys.open(root, name, O.WRONLY)), 'ETXTBSY', name);
    });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
    const fd = s.open(name, O.WRONLY);
    sys.close(fd);
  }
});

test('a file open for writing cannot be run', { skip }, async (t) => {
  const s = await stack(t, { unmounted: true });
  copyFileSync('/bin/true', join(s.lowers[0], 'prog'));
  await s.mount();
  const fd = s.open('prog', O.WRONLY);
  assert.throws(() => run(s.path('prog'), []), { code: 'ETXTBSY' });
  sys.close(fd);
  run(s.path('prog'), []);
});

test('reading, listing, copying up and running never touch the atime of a lower', {
  skip,
}, async (t) => {
  const old: readonly [number, number] = [1_000_000_000, 5];
  const lower: Tree = {
    f: file('x'.repeat(10_000), { mtime: old }),
    up: file('y'.repeat(10_000), { mtime: old }),
    d: dir({ mtime: old }),
    'd/in': file('', { mtime: old }),
    l: { type: 'symlink', data: 'f', mtime: old },
  };
  const s = await stack(t, { lowers: [lower, { d: dir({ mtime: old }) }] });
  s.read('f');
  const fd = s.open('f', O.RDONLY);
  const map = mapShared(fd, 4096, false);
  if (typeof map !== 'number') {
    assert.equal(map.bytes[0], 0x78);
    map.unmap();
  }
  sys.close(fd);
  run('ls', ['-lR', s.mnt]);
  run('readlink', [s.path('l')]);
  s.at((root) => must(sys.chmod(root, 'up', 0o600)));
  const writer = s.open('up', O.WRONLY);
  must(sys.pwrite(writer, Buffer.from('z'), 0));
  sys.close(writer);
  await s.unmount();
  for (const layer of s.lowers) {
    s.at((root) => {
      for (const name of Object.keys(lower)) {
        const st = stat(root, name, 0x100);
        if (typeof st === 'number') continue;
        assert.equal(st.atime, 1_000_000_000_000_000_005n, name);
      }
    }, layer);
  }
});
