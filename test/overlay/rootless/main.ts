// What a plain user can do inside a user namespace of its own: run by rootless.alone.test.ts in there, as a program.
// Uses the same stacks as the tests, with user.overlay marks; throws, and so fails, at the first difference.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { file, type Tree } from '../../layer/tree.js';
import { mapShared, must, O, show, stat, sys } from '../../support/sys.js';
import { type Plan, run, type Stack, stack } from '../stack.js';

const lower: Tree = {
  f: file('lower', { mode: 0o640 }),
  one: file('1'),
  two: { type: 'link', data: 'one' },
  'd/x': file('x'),
  'd/sub/y': file('y'),
  e: { type: 'dir', mode: 0o2775 },
  big: file('b'.repeat(5 << 20)),
  l: { type: 'symlink', data: 'f' },
};
const below: Tree = { 'd/w': file('w'), gone: file('') };

async function scene(name: string, plan: Plan, act: (s: Stack) => Promise<void>): Promise<void> {
  const after: (() => void | Promise<void>)[] = [];
  try {
    const s = await stack({ after: (fn) => void after.push(fn) }, plan);
    await act(s);
    console.log(`ok ${name}`);
  } finally {
    for (const fn of after.reverse()) await fn();
  }
}

await scene(
  'changes of every kind, and the kernel agrees',
  { lowers: [lower, below] },
  async (s) => {
    const reader = s.open('f', O.RDONLY);
    const inode = statSync(s.path('f')).ino;
    s.write('f', 'upper');
    assert.equal(String(sys.pread(reader, 9, 0)), 'upper');
    assert.equal(statSync(s.path('f')).ino, inode);
    sys.close(reader);
    s.at((root) => {
      must(sys.unlink(root, 'gone'));
      sys.close(must(sys.open(root, 'gone', O.CREAT | O.EXCL | O.WRONLY, 0o644)));
      must(sys.unlink(root, 'd/x'));
      must(sys.mkdir(root, 'd/x', 0o755));
      must(sys.symlink('there', root, 'e/link'));
      must(sys.mknod(root, 'e/fifo', 0o010600));
      must(sys.setxattr(root, 'big', 'user.x', Buffer.from('v')));
    });
    await s.sameToKernel('userxattr');
  },
);

// The kernel has no index in a user namespace: there the names part.
await scene('hard links stay one file, over a remount too', { lowers: [lower] }, async (s) => {
  s.at((root) => must(sys.chmod(root, 'two', 0o600)));
  for (let i = 0; i < 2; i++) {
    assert.equal(statSync(s.path('one')).mode & 0o777, 0o600);
    assert.equal(statSync(s.path('one')).nlink, 2);
    assert.equal(statSync(s.path('one')).ino, statSync(s.path('two')).ino);
    await s.remount();
  }
});

await scene('directory rename by redirect', { lowers: [lower, below] }, async (s) => {
  s.at((root) => must(sys.rename(root, 'd', 'e/moved')));
  await s.remount();
  assert.deepEqual(readdirSync(s.path('e/moved')).sort(), ['sub', 'w', 'x']);
  assert.equal(s.read('e/moved/sub/y'), 'y');
  assert.match(s.xattr(s.upper, 'e/moved', 'user.overlay.redirect'), /^(\/d|d)$/);
});

await scene('shared mappings, written and read', { lowers: [lower] }, async (s) => {
  const reader = s.open('big', O.RDONLY);
  const map = mapShared(reader, 8192, false);
  assert.ok(typeof map !== 'number', show(map as number));
  assert.equal(map.bytes[4096], 0x62);
  const writer = s.open('big', O.RDWR);
  const writable = mapShared(writer, 8192, true);
  assert.ok(typeof writable !== 'number');
  writable.bytes[4096] = 0x21;
  writable.sync();
  assert.equal(map.bytes[4096], 0x21);
  must(sys.pwrite(writer, Buffer.from('?'), 4097));
  assert.equal(map.bytes[4097], 0x3f);
  writable.unmap();
  map.unmap();
  sys.close(writer);
  sys.close(reader);
  await s.remount();
  assert.equal(s.read('big').slice(4095, 4099), 'b!?b');
  assert.equal(readFileSync(join(s.lowers[0], 'big'), 'latin1')[4096], 'b');
});

await scene('unlinked files', { lowers: [lower], upper: { up: file('up') } }, async (s) => {
  for (const name of ['f', 'up']) {
    const fd = s.open(name, O.RDWR);
    s.at((root) => must(sys.unlink(root, name)));
    must(sys.pwrite(fd, Buffer.from('!'), 0));
    assert.equal(sys.ftruncate(fd, 1), 0);
    assert.equal(String(sys.pread(fd, 9, 0)), '!');
    const st = stat(fd, '');
    assert.ok(typeof st !== 'number');
    assert.equal(st.nlink, 0);
    sys.close(fd);
  }
  await s.sameToKernel('userxattr');
});

await scene('a tree is copied in, changed and removed', { lowers: [{}] }, async (s) => {
  run('sh', [
    '-ec',
    'cp -r --preserve=mode,timestamps,links /usr/share/doc/bash "$0/doc" && diff -r /usr/share/doc/bash "$0/doc"',
    s.mnt,
  ]);
  await s.remount();
  run('diff', ['-r', '/usr/share/doc/bash', s.path('doc')]);
  run('rm', ['-rf', s.path('doc')]);
  assert.deepEqual(readdirSync(s.mnt), []);
});

await scene('permissions are checked', { lowers: [lower] }, async (s) => {
  // The one user of this namespace is its root; without capabilities modes count again.
  const script = 'test ! -r "$1" && ! cat "$1" && test -r "$2" && cat "$2"';
  s.at((root) => must(sys.chmod(root, 'f', 0)));
  const result = spawnSync(
    'setpriv',
    [
      '--bounding-set=-all',
      '--inh-caps=-all',
      'sh',
      '-c',
      script,
      'sh',
      s.path('f'),
      s.path('one'),
    ],
    { encoding: 'utf8' },
  );
  assert.equal(result.status, 0, result.stderr);
  assert.equal(result.stdout, '1');
});
