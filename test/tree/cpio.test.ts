// cpio archives as trees: what GNU cpio writes, initramfs files of several parts, and what is hostile.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { readCpio } from '../../src/tree/cpio-read.js';
import { TreeError } from '../../src/tree/errors.js';
import { scan } from '../../src/tree/scan.js';
import { find, type TreeNode } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { contentOf, makeEverything, withArchive, withPipe } from './archives.js';

/** All of a folder as GNU cpio packs it. */
function cpio(folder: string, format: string): Buffer {
  const script = `cd "$0" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H ${format}`;
  return execFileSync('sh', ['-c', script, folder], { maxBuffer: 1 << 28 });
}

function sameAsFolder(root: TreeNode, folder: string): void {
  const source = scan(folder);
  try {
    const differences = compareTrees(source.root, root);
    // Whole seconds are all that the format has.
    const rest = differences.filter(({ aspect }) => aspect !== 'time');
    assert.equal(showDifferences(rest), '');
    const wrong = differences.find(({ path }) => {
      const at = path.slice(1);
      return find(source.root, at)?.mtime !== find(root, at)?.mtime;
    });
    assert.equal(wrong, undefined);
  } finally {
    source.close();
  }
}

/** One of everything but what takes 60 MB in a format without holes. */
function makeFolder(path: string): void {
  fs.mkdirSync(path);
  makeEverything(path);
  fs.rmSync(join(path, 'sparse'));
}

const whole = { skip: requires({ root: true, packages: ['cpio', 'zstd', 'lz4', 'xz-utils'] }) };

for (const format of ['newc', 'crc', 'odc']) {
  test(`what GNU cpio writes as ${format}`, whole, (t) => {
    const d = tempDir(t);
    makeFolder(join(d, 'in'));
    // 16 bits are all that a device number has there.
    if (format === 'odc') fs.rmSync(join(d, 'in/blk'));
    withArchive(readCpio, cpio(join(d, 'in'), format), d, (tree) => {
      sameAsFolder(tree, join(d, 'in'));
      assert.equal(find(tree, 'a-hard'), find(tree, 'z-hard'));
      assert.equal(contentOf(find(tree, 'a-hard')), 'linked');
    });
    withPipe(readCpio, join(d, 'archive'), d, (tree) => sameAsFolder(tree, join(d, 'in')));
  });
}

test('an initramfs: early part, then compressed ones, zeros between them', whole, (t) => {
  const d = tempDir(t);
  makeFolder(join(d, 'in'));
  fs.mkdirSync(join(d, 'early/kernel/x86/microcode'), { recursive: true });
  fs.writeFileSync(join(d, 'early/kernel/x86/microcode/GenuineIntel.bin'), 'microcode');
  fs.mkdirSync(join(d, 'late'));
  fs.writeFileSync(join(d, 'late/plain'), 'replaced');
  const early = cpio(join(d, 'early'), 'newc');
  const main = cpio(join(d, 'in'), 'newc');
  const late = cpio(join(d, 'late'), 'newc');
  const tools: readonly (readonly string[])[] = [
    ['gzip', '-c'],
    ['zstd', '-c', '-q'],
    ['xz', '-c', '--check=crc32'],
    ['xz', '-c', '--format=lzma'],
    ['lz4', '-c', '-q'],
    ['lz4', '-c', '-q', '-l'],
  ];
  for (const [command, ...args] of tools) {
    const pack = (input: Buffer) =>
      execFileSync(command as string, args, { input, maxBuffer: 1 << 28 });
    const zeros = Buffer.alloc(512);
    for (const parts of [
      [early, pack(main), zeros, pack(late)],
      [early, zeros, pack(Buffer.concat([main, zeros, late]))],
      [early, pack(main), zeros, late],
    ]) {
      withArchive(readCpio, Buffer.concat(parts), d, (tree) => {
        assert.equal(contentOf(find(tree, 'plain')), 'replaced', command);
        assert.equal(contentOf(find(tree, 'kernel/x86/microcode/GenuineIntel.bin')), 'microcode');
        assert.equal(contentOf(find(tree, 'z-hard')), 'linked');
        assert.equal(find(tree, 'sub dir')!.mode, S.IFDIR | 0o1777);
      });
    }
  }
});

test('names that are no UTF-8', whole, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'in'));
  const fd = must(sys.open(AT.FDCWD, join(d, 'in'), O.DIRECTORY));
  must(sys.mkdir(fd, '\xff\xfe', 0o755));
  must(sys.symlink('\x80', fd, 'l'));
  sys.close(fd);
  withArchive(readCpio, cpio(join(d, 'in'), 'newc'), d, (tree) =>
    sameAsFolder(tree, join(d, 'in')),
  );
});

interface Member {
  magic?: string;
  ino?: number;
  mode?: number;
  nlink?: number;
  size?: number;
  rdevMajor?: number;
  nameSize?: number;
  check?: number;
  data?: string;
}

/** A member in the newc form. */
function newc(name: string, member: Member = {}): Buffer {
  const { data = '' } = member;
  const numbers = [
    member.ino ?? 1,
    member.mode ?? 0o100644,
    0,
    0,
    member.nlink ?? 1,
    0,
    member.size ?? data.length,
    0,
    0,
    member.rdevMajor ?? 0,
    0,
    member.nameSize ?? name.length + 1,
    member.check ?? 0,
  ];
  const head =
    (member.magic ?? '070701') + numbers.map((n) => n.toString(16).padStart(8, '0')).join('');
  const aligned = (text: string) => text + '\0'.repeat((4 - (text.length % 4)) % 4);
  return Buffer.from(aligned(`${head}${name}\0`) + aligned(data), 'latin1');
}

const trailer = newc('TRAILER!!!');
const archive = (...members: Buffer[]) => Buffer.concat([...members, trailer]);

test('hard links mean one archive, their data comes with any of them', (t) => {
  const bytes = Buffer.concat([
    archive(
      newc('a', { ino: 5, nlink: 2 }),
      newc('b', { ino: 5, nlink: 2, data: 'both' }),
      newc('alone', { ino: 5, nlink: 1, data: 'x' }),
    ),
    Buffer.alloc(300),
    archive(newc('other', { ino: 5, nlink: 2, data: 'other' })),
  ]);
  withArchive(readCpio, bytes, tempDir(t), (tree) => {
    assert.equal(find(tree, 'a'), find(tree, 'b'));
    assert.equal(contentOf(find(tree, 'a')), 'both');
    assert.notEqual(find(tree, 'alone'), find(tree, 'a'));
    assert.equal(find(tree, 'other')?.links, 1);
    assert.equal(find(tree, 'a')?.links, 2);
  });
});

test('paths are made safe, parents made, no trailer needed', (t) => {
  const bytes = Buffer.concat([newc('/../etc/x', { data: 'abc' }), newc('.', { mode: 0o40700 })]);
  withArchive(readCpio, bytes, tempDir(t), (tree) => {
    assert.equal(contentOf(find(tree, 'etc/x')), 'abc');
    assert.equal(tree.mode, S.IFDIR | 0o700);
  });
});

const badHex = newc('a');
badHex.write('g', 30);
const hostile: readonly (readonly [what: string, bytes: Buffer, message: RegExp])[] = [
  ['nothing', Buffer.alloc(0), /no cpio archive: it is empty/],
  ['zeros', Buffer.alloc(2000), /no cpio archive: it is empty/],
  ['text', Buffer.from('hello, world'), /cpio header at byte 0: magic "hello,"/],
  ['the binary format', Buffer.from([0xc7, 0x71, 0, 0, 0, 0, 0]), /old binary format/],
  ['junk behind an archive', Buffer.concat([trailer, Buffer.from('junk')]), /magic "junk"/],
  ['a header that is cut', newc('a').subarray(0, 60), /ends too early: 110 bytes wanted, 60/],
  ['a name that is cut', newc('a'.repeat(100)).subarray(0, 150), /ends too early/],
  ['data that is cut', newc('a', { data: 'x'.repeat(1000) }).subarray(0, 500), /ends too early/],
  ['a size of 4 GiB', archive(newc('a', { size: 0xffff_ffff })), /ends too early/],
  ['a name of 4 GiB', archive(newc('a', { nameSize: 0xffff_ffff })), /namesize 4294967295/],
  ['an empty name', archive(newc('', {})), /namesize 1 is out of range/],
  ['a name without NUL', archive(newc('abcd', { nameSize: 3 })), /does not end with a NUL/],
  ['a number that is none', badHex, /is no number/],
  ['a mode without type', archive(newc('a', { mode: 0o644 })), /mode 644/],
  ['a symlink without target', archive(newc('a', { mode: 0o120777 })), /filesize 0 for a symlink/],
  [
    'a target of 1 GiB',
    archive(newc('a', { mode: 0o120777, size: 1 << 30 })),
    /filesize .* for a symlink/,
  ],
  [
    'a device of 33 bits',
    archive(newc('a', { mode: 0o20644, rdevMajor: 0x1000 })),
    /no device of Linux/,
  ],
  [
    'a wrong sum',
    archive(newc('a', { magic: '070702', data: 'abc', check: 5 })),
    /check is 5, the data sums up to 294/,
  ],
  ['a file below a file', archive(newc('a'), newc('a/b', { ino: 2 })), /lies below "a"/],
  ['compressed in compressed', Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), /ends too early/],
];

test('hostile archives are named errors', async (t) => {
  for (const [what, bytes, message] of hostile) {
    await t.test(what, (t) => {
      const d = tempDir(t);
      assert.throws(
        () => withArchive(readCpio, bytes, d, () => {}),
        (error: Error) => {
          assert.ok(error instanceof TreeError, String(error.stack));
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});

test('random damage never does more than fail', whole, (t) => {
  const d = tempDir(t);
  makeFolder(join(d, 'in'));
  const input = cpio(join(d, 'in'), 'newc');
  const packed = execFileSync('zstd', ['-c', '-q'], { input });
  let state = 1;
  const random = (below: number) => (state = (state * 48_271) % 0x7fff_ffff) % below;
  for (let i = 0; i < 300; i++) {
    const damaged = Buffer.from(i % 3 === 0 ? packed : input);
    for (let k = random(8); k >= 0; k--) damaged[random(damaged.length)] = random(256);
    const cut = random(3) === 0 ? damaged.subarray(0, random(damaged.length)) : damaged;
    try {
      withArchive(readCpio, cut, d, () => {});
    } catch (error) {
      assert.ok(error instanceof TreeError, `${i}: ${(error as Error).stack}`);
    }
  }
});
