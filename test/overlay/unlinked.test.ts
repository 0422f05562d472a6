// Files without a name: unlinked while open, of a lower and of the upper, and O_TMPFILE.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, file } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, asUser, forgetNames, mapShared, must, O, show, stat, sys } from '../support/sys.js';
import { stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse'] });

const stOf = (fd: number) => {
  const st = stat(fd, '');
  assert.ok(typeof st !== 'number', show(st as number));
  return st;
};

/** Waits until a folder is empty: the server learns of a last close a moment after it. */
async function emptied(folder: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (readdirSync(folder).length > 0) {
    assert.ok(Date.now() < deadline, `left in ${folder}: ${readdirSync(folder)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

for (const disk of [false, true]) {
  const where = disk ? 'on disk' : 'on tmpfs';

  test(`an unlinked file of a lower is read, written, truncated, changed, ${where}`, {
    skip,
  }, async (t) => {
    const s = await stack(t, { disk, lowers: [{ 'd/f': file('hello') }] });
    const reader = s.open('d/f', O.RDONLY);
    const writerless = s.open('d/f', O.RDONLY);
    const before = stOf(reader);
    s.at((root) => must(sys.unlink(root, 'd/f')));
    assert.equal(String(sys.pread(reader, 9, 0)), 'hello');
    const after = stOf(reader);
    assert.equal(after.nlink, 0);
    assert.equal(after.ino, before.ino);
    assert.equal(after.size, 5);
    // Opened again through /proc, for writing: the copy gets no name.
    const writer = must(sys.open(AT.FDCWD, `/proc/self/fd/${reader}`, O.RDWR));
    assert.equal(sys.pwrite(writer, Buffer.from('J'), 0), 1);
    assert.equal(String(sys.pread(reader, 9, 0)), 'Jello');
    assert.equal(String(sys.pread(writerless, 9, 0)), 'Jello');
    assert.equal(sys.ftruncate(writer, 2), 0);
    assert.equal(String(sys.pread(reader, 9, 0)), 'Je');
    assert.equal(stOf(reader).size, 2);
    assert.equal(sys.fchmod(reader, 0o600), 0);
    assert.equal(stOf(writer).mode & 0o7777, 0o600);
    assert.equal(sys.fsetxattr(writer, 'user.k', Buffer.from('v')), 0);
    assert.equal(String(sys.fgetxattr(reader, 'user.k')), 'v');
    assert.equal(sys.fsync(writer), 0);
    assert.equal(stOf(reader).nlink, 0);
    assert.equal(stOf(reader).ino, before.ino);
    for (const fd of [reader, writer, writerless]) sys.close(fd);
    assert.deepEqual(readdirSync(s.path('d')), []);
    await emptied(join(s.work, 'work'));
    assert.equal(readFileSync(join(s.lowers[0], 'd/f'), 'latin1'), 'hello');
    await s.sameToKernel();
  });

  test(`an unlinked file of the upper is read, written, truncated, changed, ${where}`, {
    skip,
  }, async (t) => {
    const s = await stack(t, { disk, upper: { f: file('hello') } });
    const fd = s.open('f', O.RDWR);
    const { ino } = stOf(fd);
    s.at((root) => must(sys.unlink(root, 'f')));
    assert.equal(sys.pwrite(fd, Buffer.from('J'), 0), 1);
    assert.equal(String(sys.pread(fd, 9, 0)), 'Jello');
    assert.equal(sys.ftruncate(fd, 100), 0);
    assert.equal(stOf(fd).size, 100);
    assert.equal(stOf(fd).nlink, 0);
    assert.equal(stOf(fd).ino, ino);
    assert.equal(sys.fchmod(fd, 0o640), 0);
    assert.equal(stOf(fd).mode & 0o7777, 0o640);
    assert.equal(sys.chown(fd, '', 5, 6), 0);
    assert.equal(stOf(fd).uid, 5);
    assert.equal(sys.fsetxattr(fd, 'user.k', Buffer.from('v')), 0);
    assert.equal(String(sys.fgetxattr(fd, 'user.k')), 'v');
    const again = must(sys.open(AT.FDCWD, `/proc/self/fd/${fd}`, O.RDONLY));
    assert.equal(String(sys.pread(again, 5, 0)), 'Jello');
    sys.close(again);
    // A new file takes the name meanwhile.
    s.write('f', 'new');
    assert.equal(String(sys.pread(fd, 5, 0)), 'Jello');
    assert.equal(s.read('f'), 'new');
    sys.close(fd);
  });
}

for (const below of ['d', 'p/d']) {
  test(`a removed directory of a lower is changed through a descriptor: ${below}`, {
    skip,
  }, async (t) => {
    const s = await stack(t, { lowers: [{ [below]: dir() }] });
    const fd = s.open(below, O.RDONLY | O.DIRECTORY);
    const before = stOf(fd);
    s.at((root) => {
      must(sys.rmdir(root, below));
      if (below !== 'd') must(sys.rmdir(root, 'p'));
    });
    assert.equal(sys.fchmod(fd, 0o710), 0);
    assert.equal(sys.fsetxattr(fd, 'user.k', Buffer.from('v')), 0);
    assert.equal(sys.chown(fd, '', 5, 6), 0);
    const after = stOf(fd);
    assert.equal(after.mode & 0o7777, 0o710);
    assert.deepEqual([after.ino, after.uid, after.gid], [before.ino, 5, 6]);
    assert.equal(String(sys.fgetxattr(fd, 'user.k')), 'v');
    assert.equal(show(sys.mkdir(fd, 'new', 0o755)), 'ENOENT');
    assert.deepEqual(readdirSync(join(s.work, 'work')), []);
    sys.close(fd);
    await s.sameToKernel();
  });
}

test('an O_PATH descriptor of an unlinked file still names it', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ low: file('low') }], upper: { up: file('up') } });
  for (const name of ['low', 'up']) {
    const fd = s.open(name, O.PATH);
    const { ino } = stOf(fd);
    s.at((root) => must(sys.unlink(root, name)));
    assert.deepEqual([stOf(fd).ino, stOf(fd).nlink], [ino, 0]);
    const again = must(sys.open(AT.FDCWD, `/proc/self/fd/${fd}`, O.RDONLY));
    assert.equal(String(sys.pread(again, 9, 0)), name);
    sys.close(again);
    assert.equal(stOf(fd).ino, ino);
    sys.close(fd);
  }
});

test('a mapping outlives the name and the descriptor', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('lower'.repeat(2000)) }] });
  const fd = s.open('f', O.RDWR);
  const map = mapShared(fd, 8192, true);
  assert.ok(typeof map !== 'number');
  s.at((root) => must(sys.unlink(root, 'f')));
  sys.close(fd);
  map.bytes[4096] = 0x21;
  assert.equal(map.sync(), 0);
  assert.equal(map.bytes[0], 0x6c);
  map.unmap();
});

test('a file replaced by a rename stays readable for who has it open', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ a: file('old a'), b: file('old b') }] });
  const a = s.open('a', O.RDONLY);
  s.write('tmp', 'new a');
  s.at((root) => must(sys.rename(root, 'tmp', 'a')));
  assert.equal(String(sys.pread(a, 9, 0)), 'old a');
  assert.equal(stOf(a).nlink, 0);
  s.at((root) => must(sys.rename(root, 'b', 'a')));
  assert.equal(s.read('a'), 'old b');
  assert.equal(String(sys.pread(a, 9, 0)), 'old a');
  sys.close(a);
  await s.sameToKernel();
});

test('O_TMPFILE: no name, then one by linkat(2)', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ d: dir({ mode: 0o2777, gid: 77 }) }] });
  s.at((root) => {
    const fd = must(sys.open(root, 'd', O.TMPFILE | O.RDWR, 0o640));
    assert.equal(stOf(fd).nlink, 0);
    assert.equal(stOf(fd).mode & 0o7777, 0o640);
    assert.equal(stOf(fd).gid, 77);
    must(sys.pwrite(fd, Buffer.from('unnamed'), 0));
    assert.deepEqual(readdirSync(s.path('d')), []);
    must(sys.linkFd(fd, root, 'd/named'));
    assert.equal(stOf(fd).nlink, 1);
    assert.equal(s.read('d/named'), 'unnamed');
    assert.equal(show(sys.linkFd(fd, root, 'd/named')), 'EEXIST');
    must(sys.pwrite(fd, Buffer.from('U'), 0));
    assert.equal(s.read('d/named'), 'Unnamed');
    must(sys.link(root, 'd/named', 'd/second'));
    assert.equal(stOf(fd).nlink, 2);
    must(sys.unlink(root, 'd/named'));
    assert.equal(stOf(fd).nlink, 1);
    assert.equal(s.read('d/second'), 'Unnamed');
    sys.close(fd);
    // A user’s keeps set-user-id; set-group-id is not for strangers to the group.
    const users = asUser(1000, 1000, () => must(sys.open(root, 'd', O.TMPFILE | O.RDWR, 0o6755)));
    assert.deepEqual([stOf(users).uid, stOf(users).mode & 0o7777], [1000, 0o4755]);
    sys.close(users);
    // With O_EXCL it never gets one.
    const never = must(sys.open(root, 'd', O.TMPFILE | O.RDWR | O.EXCL, 0o640));
    assert.equal(show(sys.linkFd(never, root, 'never')), 'ENOENT');
    sys.close(never);
  });
  await s.sameToKernel();
});

test('an O_TMPFILE can take the place of a removed lower file', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('lower') }] });
  s.at((root) => {
    must(sys.unlink(root, 'f'));
    const fd = must(sys.open(root, '.', O.TMPFILE | O.RDWR, 0o644));
    must(sys.pwrite(fd, Buffer.from('upper'), 0));
    must(sys.linkFd(fd, root, 'f'));
    sys.close(fd);
  });
  assert.equal(s.read('f'), 'upper');
  await s.sameToKernel();
});

test('a removed directory that is somebody’s working directory: empty, and takes nothing', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    lowers: [{ low: dir(), merged: dir() }],
    upper: { up: dir(), merged: dir() },
  });
  s.at((root) => {
    for (const name of ['low', 'up', 'merged']) {
      const fd = must(sys.open(root, name, O.DIRECTORY));
      const { ino } = stOf(fd);
      must(sys.rmdir(root, name));
      assert.equal(stOf(fd).ino, ino, name);
      assert.equal(show(sys.open(fd, 'x', O.CREAT | O.WRONLY, 0o644)), 'ENOENT', name);
      assert.equal(show(sys.mkdir(fd, 'x', 0o755)), 'ENOENT', name);
      assert.equal(show(sys.open(fd, 'x', O.RDONLY)), 'ENOENT', name);
      sys.close(fd);
    }
  });
  await s.sameToKernel();
});

test('special files outlive their names', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [{ p: { type: 'fifo' }, l: { type: 'symlink', data: 'x' } }],
    upper: { q: { type: 'fifo' } },
  });
  s.at((root) => {
    for (const name of ['p', 'q', 'l']) {
      const fd = must(sys.open(root, name, O.PATH | O.NOFOLLOW));
      const { ino } = stOf(fd);
      must(sys.unlink(root, name));
      assert.equal(stOf(fd).ino, ino, name);
      sys.close(fd);
    }
  });
});

for (const closed of [false, true]) {
  const when = closed ? 'a while after' : 'directly after';
  test(`a file that lost one of three names while it was open has two, unmounted ${when} its close`, {
    skip,
  }, async (t) => {
    const lower = {
      f: file('low'),
      'e/f': { type: 'link', data: 'f' },
      'd/b': { type: 'link', data: 'f' },
    } as const;
    const s = await stack(t, { lowers: [lower] });
    const fd = s.open('d/b', O.RDWR);
    assert.equal(sys.pwrite(fd, Buffer.from('new'), 0), 3);
    s.at((root) => must(sys.unlink(root, 'd/b')));
    const nlink = () => statSync(s.path('f')).nlink;
    assert.equal(nlink(), 2);
    sys.close(fd);
    if (closed) {
      forgetNames(s.mnt);
      await emptied(join(s.work, 'work'));
    }
    await s.remount();
    assert.equal(nlink(), 2);
    s.at((root) => must(sys.unlink(root, 'f')));
    await s.remount();
    assert.equal(s.read('e/f'), 'new');
    await s.sameToKernel();
  });
}
