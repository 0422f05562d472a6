// Images from the command line: built, looked into, taken out again, and stacked like any other layer.
// Under test: src/cli/image-*.ts, src/stack/images.ts and kernel-images.ts, src/layer/erofs.ts below a mounted stack.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { cliIn } from './cli.js';

const skip = requires({ features: ['fuse'] });
const skipRoot = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs', 'loop'],
  packages: ['attr'],
});

/** Text that compresses to about a quarter, and is different everywhere. */
function lines(count: number, seed: number): string {
  return Array.from({ length: count }, (_, i) => `${seed} line ${i} of a file\n`).join('');
}

const BIG = lines(100_000, 7);
const digest = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

/** A tree with a bit of everything, as a folder `tree`, and a command line in the folder above. */
function place(t: { after(fn: () => void): void }) {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['tree/dir/deep', 'tree/empty-dir', 'upper', 'work', 'm']) {
    mkdirSync(at(name), { recursive: true });
  }
  writeFileSync(at('tree/small'), 'small');
  writeFileSync(at('tree/empty'), '');
  writeFileSync(at('tree/dir/big'), BIG);
  writeFileSync(at('tree/dir/deep/file'), 'deep');
  linkSync(at('tree/small'), at('tree/dir/linked'));
  symlinkSync('dir/big', at('tree/link'));
  const holes = openSync(at('tree/holes'), 'w');
  writeSync(holes, 'start');
  writeSync(holes, 'end', 3 << 20);
  ftruncateSync(holes, 4 << 20);
  closeSync(holes);
  const cli = cliIn(folder);
  const succeed = (...args: string[]): string => {
    const ran = cli.run(...args);
    assert.equal(ran.code, 0, `varve ${args.join(' ')}: ${ran.err}`);
    return ran.out;
  };
  return { ...cli, at, succeed };
}

/** Names with what lstat and the content say, sorted. */
function described(folder: string): string[] {
  const rows: string[] = [];
  for (const name of (readdirSync(folder, { recursive: true }) as string[]).sort()) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    const what = stat.isSymbolicLink()
      ? readlinkSync(path)
      : stat.isFile()
        ? digest(readFileSync(path))
        : '';
    const size = stat.isDirectory() ? 0 : stat.size;
    const links = stat.isDirectory() ? 0 : stat.nlink;
    rows.push(
      `${name} ${stat.mode.toString(8)} ${links} ${stat.uid} ${stat.gid} ${size} ${stat.mtimeMs} ${what}`,
    );
  }
  return rows;
}

test('an image is built, and ls, cat and info tell what is in it', { skip }, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-o', 'i.erofs', 'tree');
  assert.deepEqual(p.succeed('image', 'ls', 'i.erofs').split('\n').filter(Boolean), [
    'dir',
    'empty',
    'empty-dir',
    'holes',
    'link',
    'small',
  ]);
  assert.deepEqual(p.succeed('image', 'ls', '-R', 'i.erofs', 'dir').split('\n').filter(Boolean), [
    'big',
    'deep',
    'deep/file',
    'linked',
  ]);
  const long = p.succeed('image', 'ls', '-l', 'i.erofs');
  assert.match(long, /^-rw-r--r--\s+2\s+\d+\s+\d+\s+5\s.* small$/m);
  assert.match(long, /^lrwxrwxrwx\s.* link -> dir\/big$/m);
  assert.match(p.succeed('image', 'ls', '--tree', 'i.erofs'), /└── file/);
  // A symlink on the way, and at the end, is followed inside the image.
  assert.equal(p.succeed('image', 'cat', 'i.erofs', 'link'), BIG);
  assert.equal(
    p.succeed('image', 'cat', 'i.erofs', '/small', 'dir/deep/../deep/file'),
    'smalldeep',
  );
  const info = JSON.parse(p.succeed('image', 'info', '--json', 'i.erofs'));
  assert.equal(info.objects.files, 5);
  assert.equal(info.objects.hardLinks, 1);
  assert.equal(info.fileBytes, BIG.length + 5 + 4 + (4 << 20));
  assert.ok(info.algorithms.lz4.stored < info.algorithms.lz4.bytes / 2);
  assert.match(p.succeed('image', 'info', 'i.erofs'), /by folder:\n\s+dir /);
});

test('the same tree gives the same image, whoever compresses', { skip }, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '--threads', '0', '-o', 'a', 'tree');
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '--threads', '3', '-o', 'b', 'tree');
  assert.equal(digest(readFileSync(p.at('a'))), digest(readFileSync(p.at('b'))));
});

test('an image is checked, dumped and taken out again; a damaged one is told', { skip }, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-o', 'i.erofs', 'tree');
  assert.match(p.succeed('image', 'check', 'i.erofs'), /^i\.erofs: whole: \d+ inodes, /);
  p.succeed('image', 'extract', 'i.erofs', 'out');
  assert.deepEqual(described(p.at('out')), described(p.at('tree')));
  const full = p.run('image', 'extract', 'i.erofs', 'out');
  assert.equal(full.code, 3);
  assert.match(full.err, /out is not empty/);
  // The dump of a tree and of an image of what was taken out of one are the same.
  const dump = p.succeed('image', 'dump', 'i.erofs');
  assert.match(dump, new RegExp(`^/dir/big ${BIG.length} .*${digest(BIG)}$`, 'm'));
  p.succeed('image', 'build', '-q', '-z', 'zstd', '-o', 'again.erofs', 'out');
  assert.equal(p.succeed('image', 'dump', 'again.erofs'), dump);
  // A byte in the middle of the data, which is compressed.
  const bytes = readFileSync(p.at('i.erofs'));
  bytes.fill(0xff, bytes.length / 2, bytes.length / 2 + 64);
  writeFileSync(p.at('bad.erofs'), bytes);
  const bad = p.run('image', 'check', '--json', 'bad.erofs');
  assert.equal(bad.code, 3, bad.err);
  const report = JSON.parse(bad.out);
  assert.equal(report.ok, false);
  assert.ok(report.problems[0].message.length > 0);
});

test('what cannot be is refused in one line, and nothing appears', { skip }, (t) => {
  const p = place(t);
  writeFileSync(p.at('text'), 'no image\n'.repeat(1000));
  const cases: [number, RegExp, string[]][] = [
    [2, /no image named/, ['image', 'build', 'tree']],
    [2, /unknown compression "rot13"/, ['image', 'build', '-z', 'rot13', '-o', 'x', 'tree']],
    [2, /pcluster size 5000/, ['image', 'build', '-z', 'lz4', '-C', '5000', '-o', 'x', 'tree']],
    [2, /--time=soon: must be a number/, ['image', 'build', '-T', 'soon', '-o', 'x', 'tree']],
    [3, /missing: no such file/, ['image', 'build', '-o', 'x', 'missing']],
    [3, /text is no tar or cpio archive/, ['image', 'build', '-o', 'x', 'text']],
    [3, /text: cannot be read as an EROFS image/, ['image', 'ls', 'text']],
    [3, /missing: cannot be read/, ['image', 'ls', 'missing']],
    [2, /unknown command image frobnicate: one of build/, ['image', 'frobnicate']],
    [3, /text is neither a directory nor an EROFS image/, ['mount', '-o', 'lowerdir=text', 'm']],
    [2, /raw: shows one image as it is/, ['mount', '-o', 'lowerdir=tree,raw', 'm']],
  ];
  for (const [code, message, args] of cases) {
    const ran = p.run(...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, message);
    assert.equal(ran.err.trim().split('\n').length, 1, ran.err);
  }
  p.succeed('image', 'build', '-q', '-o', 'i.erofs', 'tree');
  const absent = p.run('image', 'cat', 'i.erofs', 'nowhere');
  assert.equal(absent.code, 6);
  assert.match(absent.err, /nowhere: not in the image/);
  assert.deepEqual(
    readdirSync(p.at('.')).filter((name) => name.startsWith('x') || name.includes('x.')),
    [],
  );
});

test('a mounted image shows the tree it was made of', { skip }, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-C', '65536', '-o', 'i.erofs', 'tree');
  p.succeed('image', 'mount', '--backend=fuse', 'i.erofs', 'm');
  assert.deepEqual(described(p.at('m')), described(p.at('tree')));
  assert.throws(() => writeFileSync(p.at('m/new'), ''), /EROFS/);
  // Parts of a compressed file, out of order.
  const fd = openSync(p.at('m/dir/big'), 'r');
  const part = Buffer.alloc(1000);
  for (const from of [2_000_000, 65_530, 0, BIG.length - 1000]) {
    assert.equal(readSync(fd, part, 0, 1000, from), 1000);
    assert.equal(part.toString(), BIG.slice(from, from + 1000));
  }
  closeSync(fd);
  copyFileSync(p.at('m/dir/big'), p.at('copy'));
  assert.equal(digest(readFileSync(p.at('copy'))), digest(BIG));
  p.succeed('umount', '-q', 'm');
});

test('alone an image is shown as it is, in a stack its whiteouts and marks count', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  execFileSync('mknod', [p.at('tree/gone'), 'c', '0', '0']);
  execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', p.at('tree/dir')]);
  mkdirSync(p.at('below/dir'), { recursive: true });
  writeFileSync(p.at('below/gone'), 'below');
  writeFileSync(p.at('below/dir/covered'), 'below');
  p.succeed('image', 'build', '-q', '-o', 'i.erofs', 'tree');
  p.succeed('image', 'mount', '-q', 'i.erofs', 'm');
  assert.equal(lstatSync(p.at('m/gone')).rdev, 0);
  assert.ok(lstatSync(p.at('m/gone')).isCharacterDevice());
  const opaque = ['--only-values', '-n', 'trusted.overlay.opaque', p.at('m/dir')];
  assert.equal(execFileSync('getfattr', opaque, { encoding: 'utf8' }), 'y');
  p.succeed('umount', '-q', 'm');
  p.succeed('mount', '-q', '--backend=fuse', '-o', 'lowerdir=i.erofs:below', 'm');
  assert.equal(lstatSync(p.at('m/gone'), { throwIfNoEntry: false }), undefined);
  assert.deepEqual(readdirSync(p.at('m/dir')).sort(), ['big', 'deep', 'linked']);
  p.succeed('umount', '-q', 'm');
});

test('an image below an upper is copied up like any layer', { skip }, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-o', 'i.erofs', 'tree');
  const before = digest(readFileSync(p.at('i.erofs')));
  p.succeed(
    'mount',
    '--backend=fuse',
    '-q',
    '-o',
    'lowerdir=i.erofs,upperdir=upper,workdir=work',
    'm',
  );
  // A descriptor from before the copy-up sees what is written after it.
  const reader = openSync(p.at('m/dir/big'), 'r');
  const writer = openSync(p.at('m/dir/big'), 'r+');
  writeSync(writer, 'CHANGED', 1000);
  const seen = Buffer.alloc(7);
  readSync(reader, seen, 0, 7, 1000);
  assert.equal(seen.toString(), 'CHANGED');
  closeSync(reader);
  closeSync(writer);
  const expected = `${BIG.slice(0, 1000)}CHANGED${BIG.slice(1007)}`;
  assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(expected));
  // Both names of a hard link are the one file still.
  writeFileSync(p.at('m/small'), 'changed');
  assert.equal(readFileSync(p.at('m/dir/linked'), 'utf8'), 'changed');
  assert.equal(statSync(p.at('m/small')).ino, statSync(p.at('m/dir/linked')).ino);
  // Holes stay holes.
  writeFileSync(p.at('m/holes'), 'x', { flag: 'a' });
  assert.equal(statSync(p.at('m/holes')).size, (4 << 20) + 1);
  assert.ok(statSync(p.at('upper/holes')).blocks * 512 < 3 << 20);
  renameSync(p.at('m/dir/deep'), p.at('m/moved'));
  assert.equal(readFileSync(p.at('m/moved/file'), 'utf8'), 'deep');
  rmSync(p.at('m/empty'));
  rmSync(p.at('m/link'));
  assert.match(p.succeed('why', 'm/dir/big'), /hidden: file, .*i\.erofs\/dir\/big/);
  assert.match(p.succeed('why', 'm/dir/linked'), /from (upper|lower)/);
  p.succeed('umount', '-q', 'm');
  p.succeed(
    'mount',
    '--backend=fuse',
    '-q',
    '-o',
    'lowerdir=i.erofs,upperdir=upper,workdir=work',
    'm',
  );
  assert.deepEqual(readdirSync(p.at('m')).sort(), ['dir', 'empty-dir', 'holes', 'moved', 'small']);
  assert.equal(readFileSync(p.at('m/dir/linked'), 'utf8'), 'changed');
  p.succeed('umount', '-q', 'm');
  assert.equal(digest(readFileSync(p.at('i.erofs'))), before);
});

test('images and directories stack in any order', { skip }, (t) => {
  const p = place(t);
  mkdirSync(p.at('top/dir'), { recursive: true });
  writeFileSync(p.at('top/dir/added'), 'top');
  writeFileSync(p.at('top/small'), 'top');
  p.succeed('image', 'build', '-q', '-o', 'tree.erofs', 'tree');
  p.succeed('image', 'build', '-q', '-z', 'zstd', '-o', 'top.erofs', 'top');
  for (const layers of ['top.erofs:tree', 'top:tree.erofs', 'top.erofs:tree.erofs']) {
    p.succeed('mount', '--backend=fuse', '-q', '-o', `lowerdir=${layers}`, 'm');
    assert.deepEqual(readdirSync(p.at('m/dir')).sort(), ['added', 'big', 'deep', 'linked']);
    assert.equal(readFileSync(p.at('m/small'), 'utf8'), 'top');
    assert.equal(readFileSync(p.at('m/dir/linked'), 'utf8'), 'small');
    p.succeed('umount', '-q', 'm');
  }
});

test('the kernel gets an image only when asked, and only one that is its own', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-o', 'i.erofs', 'tree');
  const mounted = (...args: string[]): string => {
    const { backend } = JSON.parse(p.succeed('mount', '--json', ...args, 'm'));
    return backend;
  };
  assert.equal(mounted('-o', 'lowerdir=i.erofs'), 'fuse');
  p.succeed('umount', '-q', 'm');
  assert.equal(
    mounted('--backend=kernel', '-o', 'lowerdir=i.erofs,upperdir=upper,workdir=work'),
    'kernel',
  );
  writeFileSync(p.at('m/small'), 'by the kernel');
  assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
  p.succeed('umount', '-q', 'm');
  // What the kernel wrote over an image is understood over the same image by the server.
  assert.equal(mounted('-o', 'lowerdir=i.erofs,upperdir=upper,workdir=work'), 'fuse');
  assert.equal(readFileSync(p.at('m/small'), 'utf8'), 'by the kernel');
  assert.equal(statSync(p.at('m/dir/linked')).nlink, 2);
  p.succeed('umount', '-q', 'm');
  const foreign = p.at('foreign.erofs');
  copyFileSync(p.at('i.erofs'), foreign);
  chownSync(foreign, 1000, 1000);
  const refused = p.run('mount', '--backend=kernel', '-o', 'lowerdir=foreign.erofs', 'm');
  assert.equal(refused.code, 4, refused.err);
  assert.match(refused.err, /foreign\.erofs: others could have written this image/);
});

/** Loop devices of the machine that have this file. */
function loopsOf(file: string): string[] {
  const backing = (name: string): string => `/sys/block/${name}/loop/backing_file`;
  return readdirSync('/sys/block').filter(
    (name) =>
      name.startsWith('loop') &&
      existsSync(backing(name)) &&
      readFileSync(backing(name), 'utf8').trim() === file,
  );
}

test('the kernel reads an image from its file, and a compressed one through a loop device', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  const [major = 0, minor = 0] = release().split('.', 2).map(Number);
  const takesFiles = major > 6 || (major === 6 && minor >= 12);
  for (const [options, loops] of [
    [[], takesFiles ? 0 : 1],
    [['-z', 'lz4'], 1],
  ] as const) {
    p.succeed('image', 'build', '-q', ...options, '-o', 'i.erofs', 'tree');
    p.succeed('mount', '-q', '--backend=kernel', '-o', 'lowerdir=i.erofs', 'm');
    assert.equal(loopsOf(p.at('i.erofs')).length, loops);
    assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
    p.succeed('umount', '-q', 'm');
    rmSync(p.at('i.erofs'));
  }
});

test('the kernel gets the image of another user when its digest is named, as a private copy', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  p.succeed('image', 'build', '-q', '-z', 'lz4hc', '-o', 'i.erofs', 'tree');
  chownSync(p.at('i.erofs'), 1000, 1000);
  const named = `sha256:${digest(readFileSync(p.at('i.erofs')))}`;
  const other = `sha256:${digest('something else')}`;
  for (const backend of ['kernel', 'fuse']) {
    const refused = p.run(
      'mount',
      `--backend=${backend}`,
      '-o',
      `lowerdir=i.erofs,digest=${other}`,
      'm',
    );
    assert.equal(refused.code, 3, refused.err);
    assert.match(refused.err, /i\.erofs has sha256:[0-9a-f]{64}, not the one that is named/);
  }
  const both = `lowerdir=i.erofs,digest=${other},digest=${named}`;
  p.succeed('mount', '--backend=fuse', '-q', '-o', both, 'm');
  assert.equal(readFileSync(p.at('m/dir/deep/file'), 'utf8'), 'deep');
  p.succeed('umount', '-q', 'm');
  p.succeed('mount', '--backend=kernel', '-q', '-o', both, 'm');
  // Whoever owns the file writes to it now: the kernel reads the bytes that had the digest.
  const size = statSync(p.at('i.erofs')).size;
  const fd = openSync(p.at('i.erofs'), 'r+');
  writeSync(fd, Buffer.alloc(size, 0xff), 0, size, 0);
  closeSync(fd);
  assert.equal(readFileSync(p.at('m/dir/deep/file'), 'utf8'), 'deep');
  assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
  p.succeed('umount', '-q', 'm');
  const wrong = p.run('mount', '-o', 'lowerdir=i.erofs,digest=sha256:12', 'm');
  assert.equal(wrong.code, 2, wrong.err);
});

test('images with their data on a device of its own are stacked with it', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  mkdirSync(p.at('other'));
  writeFileSync(p.at('other/more'), lines(2000, 8));
  for (const [name, tree] of [
    ['i', 'tree'],
    ['j', 'other'],
  ]) {
    const data = ['--chunksize', '4096', '--blobdev', `${name}.blob`];
    p.succeed('image', 'build', '-q', ...data, '-o', `${name}.erofs`, tree as string);
  }
  const images = 'lowerdir=i.erofs:tree2:j.erofs';
  mkdirSync(p.at('tree2'));
  for (const backend of ['fuse', 'kernel']) {
    const options = `${images},device=i.blob,device=j.blob`;
    p.succeed('mount', `--backend=${backend}`, '-q', '-o', options, 'm');
    assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
    assert.equal(readFileSync(p.at('m/more'), 'utf8'), lines(2000, 8));
    p.succeed('umount', '-q', 'm');
    p.succeed('image', 'mount', `--backend=${backend}`, '-q', '--device', 'i.blob', 'i.erofs', 'm');
    assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
    p.succeed('umount', '-q', 'm');
  }
  const few = p.run('mount', '-o', `${images},device=i.blob`, 'm');
  assert.equal(few.code, 3, few.err);
  assert.match(few.err, /j\.erofs is to have 1 further device, and 0 are left for it/);
  const many = p.run('mount', '-o', 'lowerdir=i.erofs,device=i.blob,device=j.blob', 'm');
  assert.equal(many.code, 3, many.err);
  assert.match(many.err, /j\.blob: no image has it in its device table/);
  const missing = p.run('mount', '-o', 'lowerdir=i.erofs,device=none', 'm');
  assert.match(missing.err, /device: none: /);
});

test('a metacopy file in an image has its data in a layer below', { skip: skipRoot }, (t) => {
  const p = place(t);
  const writable = (layers: string): string =>
    `lowerdir=${layers},upperdir=upper,workdir=work,metacopy=on`;
  p.succeed('mount', '--backend=fuse', '-q', '-o', writable('tree'), 'm');
  chmodSync(p.at('m/dir/big'), 0o640);
  chmodSync(p.at('m/dir/deep/file'), 0o604);
  renameSync(p.at('m/dir/deep/file'), p.at('m/moved'));
  p.succeed('umount', '-q', 'm');
  assert.ok(statSync(p.at('upper/dir/big')).blocks * 512 < BIG.length);
  p.succeed('image', 'build', '-q', '-o', 'meta.erofs', 'upper');
  p.succeed('image', 'build', '-q', '-z', 'lz4', '-o', 'tree.erofs', 'tree');
  for (const name of ['upper', 'work']) {
    rmSync(p.at(name), { recursive: true });
    mkdirSync(p.at(name));
  }
  for (const backend of ['kernel', 'fuse']) {
    for (const data of ['tree', 'tree.erofs']) {
      const options = `lowerdir=meta.erofs:${data},metacopy=on`;
      p.succeed('mount', `--backend=${backend}`, '-q', '-o', options, 'm');
      assert.equal(statSync(p.at('m/dir/big')).mode & 0o777, 0o640);
      assert.equal(statSync(p.at('m/dir/big')).size, BIG.length);
      assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
      assert.equal(readFileSync(p.at('m/moved'), 'utf8'), 'deep');
      assert.equal(statSync(p.at('m/moved')).mode & 0o777, 0o604);
      p.succeed('umount', '-q', 'm');
    }
  }
  p.succeed('mount', '--backend=fuse', '-q', '-o', writable('meta.erofs:tree.erofs'), 'm');
  const held = openSync(p.at('m/moved'), 'r');
  rmSync(p.at('m/moved'));
  assert.equal(fstatSync(held).mode & 0o777, 0o604);
  assert.equal(readFileSync(held, 'utf8'), 'deep');
  closeSync(held);
  chmodSync(p.at('m/dir/big'), 0o600);
  assert.ok(statSync(p.at('upper/dir/big')).blocks * 512 < BIG.length);
  assert.equal(digest(readFileSync(p.at('m/dir/big'))), digest(BIG));
  writeFileSync(p.at('m/dir/big'), 'end', { flag: 'a' });
  p.succeed('umount', '-q', 'm');
  assert.equal(digest(readFileSync(p.at('upper/dir/big'))), digest(`${BIG}end`));
  assert.equal(statSync(p.at('upper/dir/big')).mode & 0o777, 0o600);
});
