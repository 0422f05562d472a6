// tar archives as trees: what GNU tar writes in each format, other dialects by hand, and what is hostile.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { type CompareOptions, compareTrees, showDifferences } from '../../src/tree/compare.js';
import { ArchiveError, TreeError } from '../../src/tree/errors.js';
import { scan } from '../../src/tree/scan.js';
import { readTar } from '../../src/tree/tar-read.js';
import { dataExtents, find, type TreeNode } from '../../src/tree/tree.js';
import { file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { contentOf, makeEverything, withArchive, withPipe } from './archives.js';

const tar = (folder: string, archive: string, ...args: string[]) =>
  execFileSync('tar', ['-C', folder, '-cf', archive, ...args, '.'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });

/** Asserts that a tree is what is in a folder. */
function sameAsFolder(root: TreeNode, folder: string, options: CompareOptions = {}): void {
  const source = scan(folder);
  try {
    assert.equal(showDifferences(compareTrees(source.root, root, options)), '');
  } finally {
    source.close();
  }
}

const root = { skip: requires({ root: true, commands: ['tar'] }) };
const whole = { skip: requires({ root: true, packages: ['zstd', 'xz-utils', 'lz4'] }) };

for (const format of ['posix', 'gnu', 'ustar', 'v7', 'oldgnu']) {
  test(`what GNU tar writes as ${format}`, root, (t) => {
    const d = tempDir(t);
    const folder = join(d, 'in');
    fs.mkdirSync(folder);
    const isOld = format === 'v7' || format === 'ustar';
    const bigIds: Tree = isOld ? {} : { big: file('', { uid: 3_000_000_000, gid: 70_000 }) };
    makeEverything(folder, bigIds);
    const fd = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
    if (!isOld)
      must(
        sys.utimens(fd, 'empty', [
          [0, 0],
          [-1_000_000, 250_000_000],
        ]),
      );
    must(
      sys.utimens(fd, 'fifo', [
        [0, 0],
        [1_500_000_000, 999_999_999],
      ]),
    );
    // Long names and devices are not in v7, long link targets not in ustar.
    if (isOld) {
      for (const name of fs.readdirSync(folder)) {
        if (name.startsWith('long') || name === 'sub dir')
          fs.rmSync(join(folder, name), { recursive: true });
        if (format === 'v7' && ['chr', 'blk', 'fifo'].includes(name)) fs.rmSync(join(folder, name));
      }
    }
    sys.close(fd);
    const archive = join(d, 'x.tar');
    tar(folder, archive, `--format=${format}`, '--numeric-owner', ...(isOld ? [] : ['--sparse']));
    const ignore = format === 'posix' ? [] : (['time'] as const);
    const options: CompareOptions = { ignore };
    withArchive(readTar, archive, d, (tree) => {
      sameAsFolder(tree, folder, options);
      assert.equal(find(tree, 'a-hard'), find(tree, 'z-hard'));
      if (!isOld) {
        assert.equal(dataExtents(find(tree, 'sparse') as TreeNode).length, 40);
        assert.equal(find(tree, 'empty')?.mtime, -1_000_000);
      }
    });
    withPipe(readTar, archive, d, (tree) => sameAsFolder(tree, folder, options));
  });
}

for (const version of ['0.0', '0.1', '1.0']) {
  test(`sparse files of PAX version ${version}`, root, (t) => {
    const d = tempDir(t);
    fs.mkdirSync(join(d, 'in'));
    const fd = fs.openSync(join(d, 'in/holes'), 'w');
    for (let i = 0; i < 100; i++) fs.writeSync(fd, `data ${i}`, 99_991 * i);
    fs.ftruncateSync(fd, 10_000_000);
    fs.closeSync(fd);
    fs.writeFileSync(join(d, 'in/only-hole'), '');
    fs.truncateSync(join(d, 'in/only-hole'), 5_000_000);
    fs.writeFileSync(join(d, 'in/z'), 'after it');
    const archive = join(d, 'x.tar');
    tar(join(d, 'in'), archive, '--format=posix', '--sparse', `--sparse-version=${version}`);
    assert.ok(fs.statSync(archive).size < 2_000_000);
    withArchive(readTar, archive, d, (tree) => {
      sameAsFolder(tree, join(d, 'in'));
      assert.ok(dataExtents(find(tree, 'holes') as TreeNode).length > 50);
      assert.deepEqual(dataExtents(find(tree, 'only-hole') as TreeNode), []);
    });
  });
}

test('xattrs, capabilities and ACLs of GNU tar', {
  skip: requires({ root: true, packages: ['acl', 'libcap2-bin'] }),
}, (t) => {
  const d = tempDir(t);
  const folder = join(d, 'in');
  fs.mkdirSync(folder);
  for (const name of ['a', 'b']) fs.writeFileSync(join(folder, name), name);
  fs.mkdirSync(join(folder, 'dir'));
  const fd = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  must(sys.setxattr(fd, 'a', 'user.binary', Buffer.from([0, 255, 10, 61, 0])));
  must(sys.setxattr(fd, 'a', 'user.a=b%3D', Buffer.from('x')));
  must(sys.setxattr(fd, 'dir', 'trusted.overlay.opaque', Buffer.from('y')));
  sys.close(fd);
  execFileSync('setcap', ['cap_net_raw+ep', join(folder, 'b')]);
  execFileSync('setfacl', [
    '-m',
    'u:1234:rwx,u:nobody:---,g:70000:r-x,g:mail:rwx',
    join(folder, 'b'),
  ]);
  execFileSync('setfacl', ['-d', '-m', 'u:1234:r--', join(folder, 'dir')]);
  const archive = join(d, 'x.tar');
  tar(
    folder,
    archive,
    '--xattrs',
    '--xattrs-include=*',
    '--acls',
    '--format=posix',
    '--numeric-owner',
  );
  withArchive(readTar, archive, d, (tree) => {
    sameAsFolder(tree, folder);
    assert.equal(find(tree, 'b')?.xattrs?.size, 2);
  });
});

test('compressed archives, several members in a row, checksums', whole, (t) => {
  const d = tempDir(t);
  const folder = join(d, 'in');
  fs.mkdirSync(folder);
  makeEverything(folder);
  const archive = join(d, 'x.tar');
  tar(folder, archive, '--format=posix', '--sparse', '--numeric-owner');
  const tools: readonly (readonly string[])[] = [
    ['gzip', '-c'],
    ['zstd', '-c', '-q'],
    ['zstd', '-c', '-q', '--long=27'],
    ['xz', '-c'],
    ['xz', '--format=lzma', '-c'],
    ['lz4', '-c', '-q'],
    ['lz4', '-c', '-q', '-l'],
  ];
  for (const [command, ...args] of tools) {
    const what = [command, ...args].join(' ');
    const packed = execFileSync(command as string, [...args, archive], { maxBuffer: 1 << 28 });
    withArchive(readTar, packed, d, (tree) => sameAsFolder(tree, folder));
    withPipe(readTar, join(d, 'archive'), d, (tree) => sameAsFolder(tree, folder));
    const short = packed.subarray(0, packed.length - 100);
    if (!args.includes('-l')) {
      assert.throws(() => withArchive(readTar, short, d, () => {}), /ends too early/, what);
    }
    const wrong = Buffer.from(packed);
    // Legacy LZ4 has no checksum: what is wrong with it shows in the size of a block alone.
    const at = args.includes('-l') ? 4 : packed.length >> 1;
    wrong.fill(0xa5, at, at + 64);
    assert.throws(() => withArchive(readTar, wrong, d, () => {}), TreeError, what);
  }
  const half = fs.statSync(archive).size >> 1;
  const bytes = fs.readFileSync(archive);
  for (const [command, ...args] of [
    ['gzip', '-c'],
    ['zstd', '-c', '-q'],
    ['xz', '-c'],
    ['lz4', '-c', '-q'],
  ]) {
    const parts = [bytes.subarray(0, half), bytes.subarray(half)].map((input) =>
      execFileSync(command as string, args, { input, maxBuffer: 1 << 28 }),
    );
    withArchive(readTar, Buffer.concat(parts), d, (tree) => sameAsFolder(tree, folder));
  }
});

test('bzip2 and lzo are named', (t) => {
  for (const head of ['BZh91AY&SY', '\x89LZO\0\r\n']) {
    assert.throws(
      () => withArchive(readTar, Buffer.from(head, 'latin1'), tempDir(t), () => {}),
      /compressed by (bzip2|lzo)/,
    );
  }
});

test('names that are no UTF-8', root, (t) => {
  const d = tempDir(t);
  const folder = join(d, 'in');
  fs.mkdirSync(folder);
  const fd = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  for (const name of ['\xff\xfe', `\xc3${'x'.repeat(120)}`]) {
    sys.close(must(sys.open(fd, name, O.CREAT | O.WRONLY, 0o644)));
  }
  must(sys.symlink('\x80\x81', fd, 'l'));
  sys.close(fd);
  for (const format of ['posix', 'gnu']) {
    tar(folder, join(d, 'x.tar'), `--format=${format}`);
    withArchive(readTar, join(d, 'x.tar'), d, (tree) =>
      sameAsFolder(tree, folder, { ignore: ['time'] }),
    );
  }
});

/** A header block with a right checksum. */
function header(name: string, type: string, more: Record<string, string | number> = {}): Buffer {
  const block = Buffer.alloc(512);
  const put = (text: string, at: number) => block.write(text, at, 'latin1');
  put(name, 0);
  put(String(more['mode'] ?? '0000644'), 100);
  put(String(more['uid'] ?? '0000000'), 108);
  put(String(more['gid'] ?? '0000000'), 116);
  const size = more['size'] ?? 0;
  put(typeof size === 'number' ? size.toString(8).padStart(11, '0') : size, 124);
  put(String(more['mtime'] ?? '00000000000'), 136);
  put(type, 156);
  put(String(more['link'] ?? ''), 157);
  put(String(more['magic'] ?? 'ustar\x0000'), 257);
  put(String(more['prefix'] ?? ''), 345);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function member(name: string, type: string, body: string | Buffer, more = {}): Buffer {
  const bytes = Buffer.from(body as string, 'latin1');
  const padding = Buffer.alloc((512 - (bytes.length % 512)) % 512);
  return Buffer.concat([header(name, type, { size: bytes.length, ...more }), bytes, padding]);
}

const pax = (...records: string[]): Buffer => member('pax', 'x', records.map(record).join(''));

function record(text: string): string {
  let length = text.length + 2;
  while (`${length} ${text}\n`.length !== length) length++;
  return `${length} ${text}\n`;
}

const END = Buffer.alloc(1024);
const archive = (...parts: Buffer[]) => Buffer.concat([...parts, END]);

test('dialects: prefixes, long names, global records, old numbers', (t) => {
  const d = tempDir(t);
  const bytes = archive(
    header('name', '0', { prefix: 'pre/fix' }),
    header('gnu', '0', { magic: 'ustar  \0', prefix: 'not a prefix' }),
    member('././@LongLink', 'L', `${'n'.repeat(200)}\0`),
    header('cut', '0'),
    member('././@LongLink', 'K', `${'t'.repeat(300)}\0`),
    header('symlink', '2', { link: 'cut' }),
    member('g', 'g', record('uid=77') + record('comment=all of them')),
    header('global', '0'),
    pax(
      'uid=88',
      'path=from-pax',
      'mtime=-1.25',
      'LIBARCHIVE.xattr.user.a%20b=AP8=',
      'SCHILY.xattr.user.z=\xff\0',
      'SCHILY.xattr.trusted.SGI_ACL_FILE=x',
    ),
    header('local', '0'),
    header('still-global', '0'),
    header('base256', '0', {
      uid: '\x80\0\0\0\xff\xff\xff\xfe',
      mtime: '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb',
    }),
    header('spaces', '0', { mode: '  644 \0', gid: '   17 \0' }),
    header('old-dir/', '\0', { magic: '' }),
    header('unknown', 'Z'),
    header('label', 'V'),
    header('contiguous', '7'),
  );
  withArchive(readTar, bytes, d, (tree) => {
    assert.ok(find(tree, 'pre/fix/name'));
    assert.ok(find(tree, 'gnu'));
    assert.ok(find(tree, 'n'.repeat(200)));
    assert.equal(find(tree, 'symlink')?.target, 't'.repeat(300));
    assert.equal(find(tree, 'global')?.uid, 77);
    const local = find(tree, 'from-pax')!;
    assert.deepEqual([local.uid, local.mtime, local.mtimeNsec], [88, -2, 750_000_000]);
    assert.deepEqual([...local.xattrs!.keys()], ['user.a b', 'user.z']);
    assert.deepEqual(
      [...local.xattrs!.values()].map((value) => [...value]),
      [
        [0, 255],
        [255, 0],
      ],
    );
    assert.equal(find(tree, 'still-global')?.uid, 77);
    // The global record wins over the field.
    assert.equal(find(tree, 'base256')?.mtime, -5);
    assert.equal(find(tree, 'spaces')?.gid, 0o17);
    assert.ok(find(tree, 'old-dir')?.entries);
    assert.equal(find(tree, 'unknown')!.mode & S.IFMT, S.IFREG);
    assert.equal(find(tree, 'label'), undefined);
    assert.ok(find(tree, 'contiguous'));
    assert.equal(tree.entries?.size, 12);
  });
});

test('numbers in base 256 reach beyond octal fields', (t) => {
  const d = tempDir(t);
  const bytes = archive(
    header('big', '0', { uid: '\x80\0\0\0\xff\xff\xff\xfe', gid: '\x80\0\0\0\0\x01\0\0' }),
  );
  withArchive(readTar, bytes, d, (tree) => {
    assert.deepEqual([find(tree, 'big')?.uid, find(tree, 'big')?.gid], [0xffff_fffe, 0x10000]);
  });
});

test('paths are made safe, parents made, the last of equal names wins', (t) => {
  const d = tempDir(t);
  const bytes = archive(
    header('/abs/file', '0'),
    header('../../up', '0'),
    header('a/./b//../c', '0'),
    header('./', '5', { mode: '0000700', mtime: '00000000007' }),
    member('twice', '0', 'first'),
    member('twice', '0', 'second'),
    header('dir', '5', { mode: '0000755' }),
    header('dir/kept', '0'),
    header('dir', '5', { mode: '0000700' }),
    header('was-dir/x', '0'),
    header('was-dir', '0'),
    header('../../hard', '1', { link: '/twice' }),
    header('early', '1', { link: 'late' }),
    header('earlier', '1', { link: './early' }),
    member('late', '0', 'here'),
    header('evil', '2', { link: '/etc' }),
  );
  withArchive(readTar, bytes, d, (tree) => {
    assert.deepEqual([...tree.entries!.keys()].sort(), [
      'a',
      'abs',
      'dir',
      'earlier',
      'early',
      'evil',
      'hard',
      'late',
      'twice',
      'up',
      'was-dir',
    ]);
    assert.ok(find(tree, 'a/c'));
    assert.equal(find(tree, 'a')!.mode, S.IFDIR | 0o755);
    assert.deepEqual([tree.mode & 0o7777, tree.mtime], [0o700, 7]);
    assert.equal(contentOf(find(tree, 'twice')), 'second');
    assert.equal(find(tree, 'hard'), find(tree, 'twice'));
    assert.ok(find(tree, 'dir/kept'));
    assert.equal(find(tree, 'dir')!.mode & 0o777, 0o700);
    assert.equal(find(tree, 'was-dir')!.entries, undefined);
    assert.equal(find(tree, 'earlier'), find(tree, 'late'));
    assert.equal(find(tree, 'late')?.links, 3);
  });
});

test('an archive may end without its end mark, and padding may be missing', (t) => {
  const d = tempDir(t);
  withArchive(readTar, member('a', '0', 'abc').subarray(0, 515), d, (tree) =>
    assert.equal(contentOf(find(tree, 'a')), 'abc'),
  );
});

const wrongSum = header('a', '0');
wrongSum[0] = 0x62;
const hostile: readonly (readonly [what: string, bytes: Buffer, message: RegExp])[] = [
  ['nothing', Buffer.alloc(0), /no tar archive: it has 0 bytes/],
  ['less than a header', Buffer.from('hello'), /no tar archive: it has 5 bytes/],
  ['something else', Buffer.alloc(1024, 'text '), /tar header at byte 0: chksum/],
  ['a wrong checksum', wrongSum, /chksum is/],
  [
    'half a header',
    Buffer.concat([header('a', '0'), header('b', '0').subarray(0, 100)]),
    /byte 512: block/,
  ],
  [
    'data that is cut',
    member('a', '0', 'x'.repeat(2000)).subarray(0, 1000),
    /ends too early: 2000 bytes wanted, 488/,
  ],
  ['a size of 8 GiB', archive(header('a', '0', { size: '77777777777' })), /ends too early/],
  [
    'a size of 2^62',
    archive(header('a', '0', { size: '\x80\0\0\0\x40\0\0\0\0\0\0\0' })),
    /size .* out of range/,
  ],
  [
    'a size of 2^50',
    archive(header('a', '0', { size: '\x80\0\0\0\0\x04\0\0\0\0\0\0' })),
    /ends too early/,
  ],
  [
    'a negative size',
    archive(header('a', '0', { size: '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' })),
    /size -1 is negative/,
  ],
  [
    'a size that is no number',
    archive(header('a', '0', { size: '0000000009x' })),
    /size "0000000009x"/,
  ],
  ['a large pax header', archive(header('a', 'x', { size: 1 << 30 })), /size .* more than/],
  [
    'large global records',
    archive(
      member('g', 'g', record(`a=${'x'.repeat(40_000)}`)),
      member('g', 'g', record(`b=${'x'.repeat(40_000)}`)),
    ),
    /global records take more/,
  ],
  ['a long name of 1 GiB', archive(header('a', 'L', { size: 1 << 30 })), /size .* more than/],
  ['a pax header that is cut', pax('uid=1').subarray(0, 514), /ends too early/],
  ['a pax record that is too long', archive(member('p', 'x', '99 uid=1\n')), /record length/],
  ['a pax record of length 0', archive(member('p', 'x', '0 uid=1\n')), /record length/],
  ['a pax record without length', archive(member('p', 'x', 'uid=1\n')), /record length/],
  ['a pax record without =', archive(member('p', 'x', '7 uid1\n')), /no "="/],
  [
    'a pax size that is none',
    archive(pax('size=-1'), header('a', '0')),
    /pax header at byte 1024: size/,
  ],
  [
    'a pax size of 2^60',
    archive(pax('size=1152921504606846976'), header('a', '0')),
    /size .* no number in range/,
  ],
  ['a pax time that is none', archive(pax('mtime=now'), header('a', '0')), /mtime "now"/],
  [
    'a uid above 2^32',
    archive(pax('uid=4294967296'), header('a', '0')),
    /uid 4294967296 is out of range/,
  ],
  [
    'an xattr without name',
    archive(pax('SCHILY.xattr.=x'), header('a', '0')),
    /xattr "" is no name/,
  ],
  [
    'a large xattr',
    archive(pax(`SCHILY.xattr.user.a=${'x'.repeat(65_537)}`), header('a', '0')),
    /value of 65537 bytes/,
  ],
  [
    'an ACL with a name',
    archive(
      pax('SCHILY.acl.access=user::rwx,user:no such user:rw-,group::r--,mask::rwx,other::---'),
      header('a', '0'),
    ),
    /whom \/etc\/passwd does not know/,
  ],
  [
    'an ACL that is none',
    archive(pax('SCHILY.acl.access=user:rwx'), header('a', '0')),
    /no ACL entry/,
  ],
  [
    'a hard link to nothing',
    archive(header('a', '1', { link: 'b' })),
    /link name "b" is no file of the archive/,
  ],
  ['a hard link to itself', archive(header('a', '1', { link: 'a' })), /"a" is no file/],
  [
    'a cycle of hard links',
    archive(header('a', '1', { link: 'b' }), header('b', '1', { link: 'a' })),
    /is no file/,
  ],
  [
    'a hard link to a directory',
    archive(header('d', '5'), header('a', '1', { link: 'd' })),
    /"d" is a directory/,
  ],
  ['a symlink without target', archive(header('a', '2')), /linkname is empty/],
  [
    'a file below a symlink',
    archive(header('a', '2', { link: '/etc' }), header('a/passwd', '0')),
    /lies below "a"/,
  ],
  ['the root as a file', archive(header('..', '0')), /is the root/],
  [
    'a name of 256 bytes',
    archive(pax(`path=${'n'.repeat(256)}`), header('a', '0')),
    /longer than 255/,
  ],
  ['a NUL in a pax path', archive(pax('path=a\0b'), header('a', '0')), /NUL/],
  [
    'a path of 2 MiB',
    archive(pax(`path=${'d/'.repeat(1 << 20)}`), header('a', '0')),
    /has 2097152 bytes/,
  ],
  ['a part of a volume', archive(header('a', 'M')), /multi-volume/],
  [
    'a sparse map beyond the file',
    archive(pax('GNU.sparse.size=10', 'GNU.sparse.map=0,20'), member('a', '0', 'x'.repeat(20))),
    /ends behind/,
  ],
  [
    'a sparse map without data',
    archive(pax('GNU.sparse.size=100', 'GNU.sparse.map=0,20'), member('a', '0', 'x')),
    /wants 20 bytes/,
  ],
  [
    'a sparse map that overlaps',
    archive(
      pax('GNU.sparse.size=100', 'GNU.sparse.map=10,10,5,10'),
      member('a', '0', 'x'.repeat(20)),
    ),
    /overlaps/,
  ],
  [
    'a sparse map of odd length',
    archive(pax('GNU.sparse.size=100', 'GNU.sparse.map=10'), member('a', '0', '')),
    /odd/,
  ],
  [
    'a sparse count of 2^40',
    archive(
      pax('GNU.sparse.major=1', 'GNU.sparse.minor=0', 'GNU.sparse.realsize=9'),
      member('a', '0', '1099511627776\n'),
    ),
    /too many parts/,
  ],
  [
    'a sparse map of letters',
    archive(
      pax('GNU.sparse.major=1', 'GNU.sparse.minor=0', 'GNU.sparse.realsize=9'),
      member('a', '0', 'x\n'),
    ),
    /no number/,
  ],
];

test('hostile archives are named errors', async (t) => {
  for (const [what, bytes, message] of hostile) {
    await t.test(what, (t) => {
      const d = tempDir(t);
      const check = (error: Error) => {
        assert.ok(error instanceof TreeError, String(error));
        assert.match(error.message, message);
        assert.ok(!error.message.includes('\n') && error.message.length < 700);
        if (error instanceof ArchiveError) assert.ok(error.offset >= 0);
        return true;
      };
      assert.throws(() => withArchive(readTar, bytes, d, () => {}), check);
      assert.deepEqual(
        fs.readdirSync(d).filter((name) => name !== 'archive'),
        [],
        'nothing is left behind',
      );
    });
  }
});

test('random damage never does more than fail', root, (t) => {
  const d = tempDir(t);
  const folder = join(d, 'in');
  fs.mkdirSync(folder);
  makeEverything(folder);
  fs.rmSync(join(folder, 'sparse'));
  tar(folder, join(d, 'x.tar'), '--format=posix');
  const bytes = fs.readFileSync(join(d, 'x.tar'));
  // A small generator of our own, so that a failure can be repeated.
  let state = 1;
  const random = (below: number) => (state = (state * 48_271) % 0x7fff_ffff) % below;
  for (let i = 0; i < 300; i++) {
    const damaged = Buffer.from(bytes.subarray(0, random(2) ? bytes.length : random(bytes.length)));
    for (let k = random(8); k >= 0; k--) {
      if (damaged.length > 0) damaged[random(damaged.length)] = random(256);
    }
    try {
      withArchive(readTar, damaged, d, () => {});
    } catch (error) {
      assert.ok(error instanceof TreeError, `${i}: ${(error as Error).stack}`);
    }
  }
});
