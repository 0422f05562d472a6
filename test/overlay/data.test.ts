// What is done through descriptors: direct and vectored ways of reading and writing, allocation, holes, locks.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { file } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { must, O, show, stat, sys } from '../support/sys.js';
import { run, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;
const O_DIRECT = process.arch === 'arm64' ? 0x10000 : 0x4000;
const page = 4096;

const pattern = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 7) & 0xff));

for (const disk of [false, true]) {
  test(`holes survive copy-up, ${disk ? 'on disk' : 'on tmpfs'}`, { skip }, async (t) => {
    const s = await stack(t, { disk, unmounted: true, size: '200m' });
    const sparse = join(s.lowers[0], 'sparse');
    // 64 KiB of data, a hole of 16 MiB, data, a hole to the end at 40 MiB.
    run('sh', [
      '-c',
      'dd if=/dev/zero bs=64k count=1 2>/dev/null | tr "\\0" a >"$0" &&' +
        'printf middle | dd of="$0" bs=1M seek=16 conv=notrunc 2>/dev/null && truncate -s 40M "$0"',
      sparse,
    ]);
    await s.mount();
    const before = statSync(sparse).blocks;
    s.at((root) => {
      const fd = must(sys.open(root, 'sparse', O.RDWR));
      must(sys.pwrite(fd, Buffer.from('A'), 0));
      assert.equal(sys.lseek(fd, 128 * 1024, SEEK_DATA), 16 << 20);
      assert.ok(sys.lseek(fd, 0, SEEK_HOLE) <= 128 * 1024);
      assert.equal(sys.lseek(fd, (16 << 20) + 65536, SEEK_HOLE), (16 << 20) + 65536);
      assert.equal(show(sys.lseek(fd, (16 << 20) + 65536, SEEK_DATA)), 'ENXIO');
      assert.equal(show(sys.lseek(fd, 41 << 20, SEEK_HOLE)), 'ENXIO');
      sys.close(fd);
    });
    const after = statSync(join(s.upper, 'sparse')).blocks;
    assert.ok(after <= before + 16, `${before} blocks became ${after}`);
    assert.equal(run('cmp', ['-i', '1', s.path('sparse'), sparse]), '');
    await s.sameToKernel();
  });
}

test('SEEK_DATA and SEEK_HOLE of a lower that is only read', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('x'.repeat(page), { size: 1 << 20 }) }] });
  const fd = s.open('f', O.RDONLY);
  assert.equal(sys.lseek(fd, 0, SEEK_HOLE), page);
  assert.equal(show(sys.lseek(fd, page, SEEK_DATA)), 'ENXIO');
  sys.close(fd);
});

test('O_DIRECT reads and writes, mixed with cached ones', { skip }, async (t) => {
  const s = await stack(t, { disk: true, lowers: [{ f: file(pattern(4 * page)) }] });
  const reader = s.open('f', O.RDONLY | O_DIRECT);
  // sys reads into a buffer of its own, whose alignment is unknown: dd does it right.
  sys.close(reader);
  const dd = (...args: string[]) => run('dd', ['bs=4096', 'status=none', ...args]);
  const copy = join(s.base, 'copy');
  dd(`if=${s.path('f')}`, `of=${copy}`, 'iflag=direct');
  assert.deepEqual(readFileSync(copy), pattern(4 * page));
  dd('if=/dev/zero', `of=${s.path('f')}`, 'oflag=direct', 'conv=notrunc', 'seek=1', 'count=1');
  const expected = pattern(4 * page).fill(0, page, 2 * page);
  assert.deepEqual(readFileSync(s.path('f')), expected);
  const fd = s.open('f', O.RDWR);
  must(sys.pwrite(fd, Buffer.alloc(page, 'c'), 2 * page));
  dd(`if=${s.path('f')}`, `of=${copy}`, 'iflag=direct');
  expected.fill('c', 2 * page, 3 * page);
  assert.deepEqual(readFileSync(copy), expected);
  sys.close(fd);
  dd(`if=${copy}`, `of=${s.path('new')}`, 'oflag=direct');
  assert.deepEqual(readFileSync(s.path('new')), expected);
});

for (const disk of [false, true]) {
  test(`fallocate: every mode, ${disk ? 'on disk' : 'on tmpfs'}`, { skip }, async (t) => {
    const s = await stack(t, { disk, lowers: [{ f: file(pattern(8 * page)) }] });
    const fd = s.open('f', O.RDWR);
    const expected = pattern(8 * page);
    assert.equal(sys.fallocate(fd, KEEP_SIZE, 0, 16 * page), 0);
    assert.equal(statSync(s.path('f')).size, 8 * page);
    assert.equal(sys.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, page, 2 * page), 0);
    expected.fill(0, page, 3 * page);
    assert.deepEqual(readFileSync(s.path('f')), expected);
    const zeroed = sys.fallocate(fd, ZERO_RANGE, 4 * page, page);
    if (disk) assert.equal(zeroed, 0);
    if (zeroed === 0) expected.fill(0, 4 * page, 5 * page);
    else assert.equal(show(zeroed), 'EOPNOTSUPP');
    assert.deepEqual(readFileSync(s.path('f')), expected);
    assert.equal(sys.fallocate(fd, 0, 0, 10 * page), 0);
    assert.equal(statSync(s.path('f')).size, 10 * page);
    // Longer than what the server does itself.
    assert.equal(sys.fallocate(fd, 0, 0, 8 << 20), 0);
    assert.equal(statSync(s.path('f')).size, 8 << 20);
    const reader = s.open('f', O.RDONLY);
    assert.equal(show(sys.fallocate(reader, 0, 0, page)), 'EBADF');
    sys.close(reader);
    sys.close(fd);
    await s.sameToKernel();
  });
}

test('copy_file_range between lower, upper and copied-up files', { skip }, async (t) => {
  const big = pattern(6 << 20);
  const s = await stack(t, { lowers: [{ low: file(big), target: file('t'.repeat(100)) }] });
  s.at((root) => {
    const from = must(sys.open(root, 'low', O.RDONLY));
    const to = must(sys.open(root, 'new', O.RDWR | O.CREAT, 0o644));
    for (let done = 0; done < big.length; ) {
      const n = must(sys.copyFileRange(from, done, to, done, big.length - done));
      assert.ok(n > 0);
      done += n;
    }
    const target = must(sys.open(root, 'target', O.RDWR));
    assert.equal(sys.copyFileRange(from, 100, target, 50, 1000), 1000);
    // Within one file.
    assert.equal(sys.copyFileRange(to, 0, to, 5 << 20, page), page);
    assert.equal(sys.copyFileRange(from, big.length, to, 0, 10), 0);
    for (const fd of [from, to, target]) sys.close(fd);
  });
  const expected = Buffer.from(big);
  big.copy(expected, 5 << 20, 0, page);
  assert.ok(readFileSync(s.path('new')).equals(expected));
  const target = readFileSync(s.path('target'));
  assert.equal(target.length, 1050);
  assert.ok(target.subarray(50).equals(big.subarray(100, 1100)));
  await s.sameToKernel();
});

test('O_APPEND appends, also through two descriptors and after copy-up', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('lower;') }] });
  const a = s.open('f', O.WRONLY | O.APPEND);
  const b = s.open('f', O.WRONLY | O.APPEND);
  for (let i = 0; i < 20; i++) must(sys.write(i % 2 ? a : b, Buffer.from(`${i};`)));
  sys.close(a);
  sys.close(b);
  assert.equal(s.read('f'), `lower;${Array.from({ length: 20 }, (_, i) => `${i};`).join('')}`);
});

test('flock, POSIX and OFD locks exclude each other and survive a copy-up', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('x'.repeat(100)) }] });
  const EAGAIN = 11;
  const LOCK_EX = 2;
  const LOCK_NB = 4;
  const LOCK_UN = 8;
  const a = s.open('f', O.RDONLY);
  must(sys.flock(a, LOCK_EX | LOCK_NB));
  const b = s.open('f', O.RDWR);
  assert.equal(-sys.flock(b, LOCK_EX | LOCK_NB), EAGAIN);
  must(sys.pwrite(b, Buffer.from('y'), 0));
  assert.equal(-sys.flock(b, LOCK_EX | LOCK_NB), EAGAIN);
  must(sys.flock(a, LOCK_UN));
  must(sys.flock(b, LOCK_EX | LOCK_NB));
  must(sys.flock(b, LOCK_UN));

  const c = s.open('f', O.RDWR);
  must(sys.ofdLock(b, 1, 0, 50));
  assert.equal(-sys.ofdLock(c, 1, 10, 10), EAGAIN);
  must(sys.ofdLock(c, 1, 50, 50));
  // POSIX locks, from another process.
  const script =
    'import fcntl,sys;f=open(sys.argv[1],"r+");fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)';
  const python = spawnSync('python3', ['-c', script, s.path('f')], { encoding: 'utf8' });
  assert.match(python.stderr, /BlockingIOError/);
  must(sys.ofdLock(b, 2, 0, 0));
  must(sys.ofdLock(c, 2, 0, 0));
  run('python3', ['-c', script, s.path('f')]);
  for (const fd of [a, b, c]) sys.close(fd);
});

test('fsync, fdatasync and syncfs, of files and directories', { skip }, async (t) => {
  for (const disk of [false, true]) {
    const s = await stack(t, { disk, lowers: [{ 'd/f': file('x') }] });
    const lower = s.open('d/f', O.RDONLY);
    assert.equal(sys.fsync(lower), 0);
    const fd = s.open('d/f', O.RDWR);
    must(sys.pwrite(fd, Buffer.from('y'), 0));
    assert.equal(sys.fsync(fd), 0);
    assert.equal(sys.fdatasync(fd), 0);
    assert.equal(sys.fsync(lower), 0);
    assert.equal(sys.syncfs(fd), 0);
    const folder = s.open('d', O.DIRECTORY);
    assert.equal(sys.fsync(folder), 0);
    for (const each of [lower, fd, folder]) sys.close(each);
    assert.equal(readFileSync(join(s.upper, 'd/f'), 'latin1'), 'y');
  }
});

test('statfs is that of the upper', { skip }, async (t) => {
  const s = await stack(t, { size: '32m' });
  const blocks = (path: string) => run('stat', ['-f', '-c', '%b %a %S %l', path]).trim();
  assert.equal(blocks(s.mnt), blocks(s.upper));
  s.write('f', 'x'.repeat(1 << 20));
  s.at((root) => {
    const fd = must(sys.open(root, 'f', O.RDONLY));
    sys.fsync(fd);
    sys.close(fd);
  });
  assert.equal(blocks(s.mnt), blocks(s.upper));
});

test('times are kept to the nanosecond, before and after 1970 and 2038', { skip }, async (t) => {
  const times: [string, readonly [number, number]][] = [
    ['old', [-1_000_000_000, 1]],
    ['y2038', [2_500_000_000, 999_999_999]],
    ['zero', [0, 0]],
  ];
  const s = await stack(t, {
    lowers: [Object.fromEntries(times.map(([name, mtime]) => [name, file('x', { mtime })]))],
  });
  s.at((root) => {
    for (const [name, [seconds, nanoseconds]] of times) {
      must(sys.chmod(root, name, 0o600));
      const st = stat(root, name);
      assert.ok(typeof st !== 'number');
      assert.equal(st.mtime, BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds), name);
      must(sys.utimens(root, name, [[seconds - 1, 5], 'omit']));
      const changed = stat(root, name);
      assert.ok(typeof changed !== 'number');
      assert.equal(changed.mtime, st.mtime);
      assert.equal(changed.atime, BigInt(seconds - 1) * 1_000_000_000n + 5n);
    }
  });
  await s.sameToKernel();
});

for (const disk of [false, true]) {
  test(`truncate to the same size sets the times that a plain file gets, ${disk ? 'on disk' : 'on tmpfs'}`, {
    skip,
  }, async (t) => {
    const old = { mtime: [1_000_000_000, 5] as const };
    const layer = { empty: file('', old), full: file('full', old), other: file('other', old) };
    const s = await stack(t, { disk, lowers: [layer], upper: { up: file('upper', old) } });
    // What the filesystem of the upper does to the same files of its own: this differs from one to the other.
    const plain = join(s.upper, '../plain');
    run('cp', ['-a', s.mnt, plain]);
    const folder = must(sys.open(-100, plain, O.RDONLY | O.DIRECTORY));
    t.after(() => sys.close(folder));
    const change = (root: number, name: string, size: number, opened: boolean): boolean => {
      const times = [0, 1].map((after) => {
        if (after === 1 && opened) {
          const fd = must(sys.open(root, name, O.RDWR));
          must(sys.ftruncate(fd, size));
          sys.close(fd);
        } else if (after === 1) must(sys.truncate(root, name, size));
        const st = stat(root, name);
        assert.ok(typeof st !== 'number');
        return st.mtime;
      });
      return times[0] !== times[1];
    };
    s.at((root) => {
      for (const [name, size, opened] of [
        ['empty', 0, false],
        ['full', 4, false],
        ['up', 5, false],
        ['other', 0, false],
        ['empty', 0, true],
        ['full', 4, true],
      ] as const) {
        const expected = change(folder, name, size, opened);
        assert.equal(change(root, name, size, opened), expected, `${name} ${size} ${opened}`);
      }
    });
  });
}
