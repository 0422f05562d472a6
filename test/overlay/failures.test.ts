// What goes wrong under the mount: no space in the middle of a copy-up, an upper that may not be written, busy folders.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { must, O, show, sys } from '../support/sys.js';
import { mountExt4, run, type Stack, stack } from './stack.js';

const skip = requires({
  root: true,
  packages: ['e2fsprogs'],
  features: ['fuse', 'overlayfs', 'loop', 'ext4', 'tmpfs'],
});

const big = 8 << 20;
const tree: Tree = {
  big: file('B'.repeat(big), { mode: 0o640 }),
  other: file('other'),
  'd/e/deep': file('D'.repeat(big)),
};

/** A stack whose upper and workdir lie on a small filesystem of their own. */
async function smallUpper(t: TestContext, kind: 'tmpfs' | 'ext4'): Promise<Stack> {
  const s = await stack(t, { lowers: [tree], size: '128m', unmounted: true });
  const small = join(s.base, 'small');
  if (kind === 'ext4') mountExt4(small, join(s.base, 'image'), 6);
  else {
    mkdirSync(small);
    run('mount', ['-t', 'tmpfs', '-o', 'size=6m,mode=755', 'tmpfs', small]);
  }
  for (const folder of ['up', 'work']) {
    mkdirSync(join(small, folder));
    rmSync(join(s.base, folder), { recursive: true });
    run('ln', ['-s', join(small, folder), join(s.base, folder)]);
  }
  return s.mount();
}

for (const kind of ['tmpfs', 'ext4'] as const) {
  test(`ENOSPC in the middle of a copy-up, ${kind}: nothing half done, and it works once there is room`, {
    skip,
  }, async (t) => {
    const s = await smallUpper(t, kind);
    const before = s.tree().lines;
    const reader = s.open('big', O.RDONLY);
    s.at((root) => {
      for (let i = 0; i < 3; i++) {
        assert.equal(show(sys.open(root, 'big', O.RDWR)), 'ENOSPC');
        assert.equal(show(sys.chmod(root, 'big', 0o600)), 'ENOSPC');
        assert.equal(show(sys.truncate(root, 'd/e/deep', big - 1)), 'ENOSPC');
        assert.equal(show(sys.rename(root, 'big', 'renamed')), 'ENOSPC');
        assert.equal(show(sys.link(root, 'big', 'linked')), 'ENOSPC');
      }
      assert.equal(String(sys.pread(reader, 4, big - 4)), 'BBBB');
      // What needs little goes on meanwhile.
      must(sys.chmod(root, 'other', 0o600));
      must(sys.chmod(root, 'other', 0o644));
    });
    assert.deepEqual(s.tree().lines, before);
    assert.deepEqual(readdirSync(join(s.work, 'work')), []);
    assert.equal(existsSync(join(s.upper, 'big')), false);
    assert.equal(existsSync(join(s.upper, 'd/e/deep')), false);
    // Truncated to nothing it needs no room.
    s.at((root) => sys.close(must(sys.open(root, 'd/e/deep', O.WRONLY | O.TRUNC))));
    assert.equal(statSync(s.path('d/e/deep')).size, 0);
    if (kind === 'tmpfs') {
      run('mount', ['-o', 'remount,size=32m', join(s.base, 'small')]);
      s.at((root) => {
        const fd = must(sys.open(root, 'big', O.RDWR));
        must(sys.pwrite(fd, Buffer.from('!'), 0));
        assert.equal(String(sys.pread(reader, 2, 0)), '!B');
        sys.close(fd);
      });
      assert.equal(s.read('big'), `!${'B'.repeat(big - 1)}`);
    }
    sys.close(reader);
    await s.sameToKernel();
  });
}

/** Bytes that the upper's filesystem has left. */
function roomLeft(s: Stack): number {
  const { bavail, bsize } = statfsSync(join(s.base, 'small'));
  return bavail * bsize;
}

test('ENOSPC while writing is told to the writer, and room freed is room again', {
  skip,
}, async (t) => {
  const s = await smallUpper(t, 'tmpfs');
  s.at((root) => {
    const fd = must(sys.open(root, 'fill', O.CREAT | O.RDWR, 0o644));
    const block = Buffer.alloc(1 << 20, 'f');
    let written = 0;
    let result = 0;
    for (let i = 0; i < 12 && result >= 0; i++) {
      result = sys.pwrite(fd, block, written);
      if (result >= 0) written += result;
    }
    // With cached writes the error may come when they are written out.
    if (result >= 0) result = sys.fsync(fd);
    assert.equal(show(result), 'ENOSPC');
    sys.close(fd);
    must(sys.unlink(root, 'fill'));
    sys.close(must(sys.open(root, 'again', O.CREAT | O.EXCL | O.RDWR, 0o644)));
  });
  // close(2) does not wait for the server: the room is free when it has seen the RELEASE.
  const deadline = Date.now() + 60_000;
  while (roomLeft(s) < 1 << 20 && Date.now() < deadline) await setTimeout(20);
  s.write('again', 'a'.repeat(1 << 20));
  assert.equal(statSync(s.path('again')).size, 1 << 20);
});

test('no inodes left: create, mkdir and whiteouts fail with ENOSPC and change nothing', {
  skip,
}, async (t) => {
  const s = await smallUpper(t, 'tmpfs');
  const small = join(s.base, 'small');
  s.at((root) => must(sys.mkdir(root, 'mine', 0o755)));
  const used = run('df', ['--output=iused', small]).trim().split('\n')[1].trim();
  run('mount', ['-o', `remount,nr_inodes=${used}`, small]);
  const before = s.tree().lines;
  s.at((root) => {
    assert.equal(show(sys.open(root, 'new', O.CREAT | O.WRONLY, 0o644)), 'ENOSPC');
    assert.equal(show(sys.mkdir(root, 'new', 0o755)), 'ENOSPC');
    assert.equal(show(sys.symlink('x', root, 'new')), 'ENOSPC');
    assert.equal(show(sys.unlink(root, 'other')), 'ENOSPC');
    assert.equal(show(sys.chmod(root, 'other', 0o600)), 'ENOSPC');
    assert.equal(show(sys.rename(root, 'other', 'mine/x')), 'ENOSPC');
  });
  assert.deepEqual(s.tree().lines, before);
  run('mount', ['-o', 'remount,nr_inodes=1000', small]);
  s.at((root) => {
    must(sys.rename(root, 'other', 'mine/x'));
    must(sys.unlink(root, 'big'));
  });
  await s.sameToKernel();
});

test('without an upper every change is EROFS, and reading works', { skip }, async (t) => {
  const s = await stack(t, { lowers: [tree, { second: file('2') }], readOnly: true });
  s.at((root) => {
    const refused = [
      sys.open(root, 'other', O.RDWR),
      sys.open(root, 'new', O.CREAT | O.WRONLY, 0o644),
      sys.mkdir(root, 'new', 0o755),
      sys.unlink(root, 'other'),
      sys.rename(root, 'other', 'new'),
      sys.chmod(root, 'other', 0o600),
      sys.chown(root, 'other', 1, 1),
      sys.setxattr(root, 'other', 'user.k', Buffer.from('v')),
      sys.link(root, 'other', 'new'),
      sys.truncate(root, 'other', 0),
      sys.utimens(root, 'other', ['now', 'now']),
    ];
    for (const result of refused) assert.equal(show(result), 'EROFS');
  });
  assert.equal(s.read('other'), 'other');
  assert.equal(s.read('second'), '2');
});

test('an upper whose filesystem turns read-only: EROFS, nothing lost', { skip }, async (t) => {
  const s = await smallUpper(t, 'ext4');
  s.write('mine', 'written');
  await s.remount();
  const small = join(s.base, 'small');
  run('mount', ['-o', 'remount,ro', small]);
  s.at((root) => {
    assert.equal(show(sys.open(root, 'new', O.CREAT | O.WRONLY, 0o644)), 'EROFS');
    assert.equal(show(sys.unlink(root, 'other')), 'EROFS');
    assert.equal(show(sys.chmod(root, 'other', 0o600)), 'EROFS');
    assert.equal(show(sys.chmod(root, 'mine', 0o600)), 'EROFS');
    assert.equal(show(sys.open(root, 'mine', O.RDWR)), 'EROFS');
  });
  assert.equal(s.read('mine'), 'written');
  assert.equal(s.read('other'), 'other');
  run('mount', ['-o', 'remount,rw', small]);
  s.write('mine', 'again');
  assert.equal(s.read('mine'), 'again');
});

test('a work directory in use is refused, and so is one on another filesystem', {
  skip,
}, async (t) => {
  const s = await stack(t, { lowers: [tree] });
  const other = join(s.base, 'mnt2');
  mkdirSync(other);
  const again = await stack(t, { lowers: [tree], unmounted: true });
  Object.assign(again, { upper: s.upper, work: s.work });
  await assert.rejects(again.mount(), /in use by another mount/);
  Object.assign(again, { upper: join(s.base, 'other'), work: join(again.base, 'work') });
  mkdirSync(again.upper);
  await assert.rejects(again.mount(), /filesystem/);
  assert.equal(s.read('other'), 'other');
});
