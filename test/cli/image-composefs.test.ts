// `varve image build --composefs`: of folders, archives and dumps, with objects beside it or without; `image dump` back again.
// The digests of folders are those that mkcomposefs 1.0.8 prints; Debian's fsverity says what an object must be called.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { sampleDump } from '../erofs/composefs-samples.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { cliIn } from './cli.js';

/** What `mkcomposefs --print-digest-only` says of the tree of place(), which belongs to root. */
const OF_TREE = 'f1e90963eedda55bbc5f39aff23baed574d06206ef25f6daeffa82c0f799b90d';
/** The same with a whiteout in it. */
const OF_WHITEOUT = '52e5a74851726670d5eeaa4df9e0b4db58b6412ba0da927a8c7872af91935004';

/** A folder `tree` that is the same on every machine, and a command line in the folder above. */
function place(t: TestContext) {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['tree', 'tree/dir', 'tree/dir/deep', 'tree/empty-dir']) mkdirSync(at(name));
  const file = (name: string, size: number, mode = 0o644): void => {
    writeFileSync(at(name), 'varve and '.repeat(size / 10 + 1).slice(0, size));
    chmodSync(at(name), mode);
  };
  file('tree/empty', 0);
  file('tree/inline', 64);
  file('tree/external', 65, 0o755);
  file('tree/dir/large', 1_000_001, 0o4711);
  file('tree/dir/deep/same', 65);
  file('tree/dir/holes', 100);
  truncateSync(at('tree/dir/holes'), 300_000);
  linkSync(at('tree/external'), at('tree/dir/hard'));
  symlinkSync('dir/large', at('tree/link'));
  for (const name of ['tree', 'tree/dir', 'tree/dir/deep', 'tree/empty-dir'])
    chmodSync(at(name), 0o755);
  settle(at('tree'));
  const cli = cliIn(folder);
  const succeed = (...args: string[]): string => {
    const ran = cli.run(...args);
    assert.equal(ran.code, 0, ran.err);
    return ran.out;
  };
  const fail = (code: number, message: RegExp, ...args: string[]): void => {
    const ran = cli.run(...args);
    assert.match(ran.err, message);
    assert.equal(ran.err.trimEnd().includes('\n'), false, 'one line');
    assert.equal(ran.code, code);
  };
  return { at, folder, succeed, fail };
}

/** Gives everything a time of its own. */
function settle(path: string, seconds = 1_700_000_000): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    for (const name of readdirSync(path).sort()) settle(join(path, name), ++seconds);
  }
  lutimesSync(path, seconds, seconds);
}

/** Names of a digest store's objects. */
function objectsIn(folder: string): string[] {
  return readdirSync(folder)
    .flatMap((two) => readdirSync(join(folder, two)).map((rest) => two + rest))
    .sort();
}

const asRoot = requires({ root: true });

test('the image of a folder has the digest that mkcomposefs gives', { skip: asRoot }, (t) => {
  const { at, succeed } = place(t);
  assert.equal(succeed('image', 'build', '--composefs', '--print-digest', 'tree'), `${OF_TREE}\n`);
  execFileSync('mknod', [at('tree/dir/gone'), 'c', '0', '0']);
  chmodSync(at('tree/dir/gone'), 0o000);
  settle(at('tree'));
  const printed = succeed('image', 'build', '--composefs', '--print-digest', '-o', 'img', 'tree');
  assert.equal(printed, `${OF_WHITEOUT}\n`);
  const info = succeed('image', 'info', 'img');
  assert.match(info, new RegExp(`fs-verity +${OF_WHITEOUT}\n`));
  assert.match(info, /composefs +format 1; 5 files, 1\.2 MiB, in a store\n/);
});

test('objects are called by the digest that fsverity gives', {
  skip: requires({ packages: ['fsverity'] }),
}, (t) => {
  const { at, succeed } = place(t);
  succeed('image', 'build', '--composefs', '--digest-store', 'objects', '-o', 'img', 'tree');
  const names = objectsIn(at('objects'));
  // external, hard and same have the same bytes.
  assert.equal(names.length, 3);
  for (const name of names) {
    const path = at(`objects/${name.slice(0, 2)}/${name.slice(2)}`);
    const [said] = execFileSync('fsverity', ['digest', '--compact', path], {
      encoding: 'utf8',
    }).split('\n');
    assert.equal(said, name);
    assert.equal(statSync(path).mode & 0o777, 0o644);
  }
  const before = readFileSync(at('img'));
  const again = succeed(
    'image',
    'build',
    '--composefs',
    '--json',
    '--digest-store',
    'objects',
    '-o',
    'img',
    'tree',
  );
  assert.equal((JSON.parse(again) as { newObjects: number }).newObjects, 0);
  assert.ok(readFileSync(at('img')).equals(before));
  // Threads and a store make no difference to the image.
  succeed('image', 'build', '--composefs', '--threads', '1', '-o', 'other', 'tree');
  assert.ok(readFileSync(at('other')).equals(before));
});

test('an archive keeps its hard links', (t) => {
  const { at, succeed } = place(t);
  execFileSync('tar', ['cf', at('tree.tar'), '-C', at('tree'), '.']);
  succeed('image', 'build', '--composefs', '-o', 'img', 'tree.tar');
  const dump = succeed('image', 'dump', 'img').split('\n');
  // Its inode lies with the first name, breadth first.
  const [link] = dump.filter((line) => line.startsWith('/dir/hard '));
  assert.match(link as string, / @100755 2 .* \/external - /);
  writeFileSync(at('again.dump'), dump.join('\n'));
  succeed('image', 'build', '--composefs', '-o', 'again', 'again.dump');
  assert.ok(readFileSync(at('again')).equals(readFileSync(at('img'))));
});

test('the dump of an image that was made of a dump is that dump', (t) => {
  const { at, succeed } = place(t);
  const digest = '0123456789abcdef'.repeat(4);
  const text = [
    '/ 4096 40755 3 0 0 0 1700000000.5 - - - user.two=2 security.selinux=a\\x00',
    '/a\\x20dir 4096 40700 2 1000 1000 0 1700000000.0 - - -',
    '/a\\x20dir/gone 0 20000 1 0 0 0 1700000000.0 - - -',
    `/a\\x20dir/object 70000 100644 2 0 0 0 -5.0 01/${digest.slice(2)} - ${digest}`,
    '/device 0 60660 1 0 6 2049 0.0 - - -',
    `/hard 70000 @100644 2 0 0 0 -5.0 /a\\x20dir/object - ${digest}`,
    '/inline 5 100644 1 0 0 0 0.0 - a\\nb\\x20c - user.one=\\x3d',
    '/link 6 120777 1 0 0 0 0.0 target - -',
    '/marked 0 100644 1 0 0 0 0.0 - - - trusted.overlay.redirect=x user.overlay.opaque=y',
    '/odd\\xff\\\\ 0 10644 1 0 0 0 0.0 - - -',
    '',
  ].join('\n');
  // Directories have the size that their names take; xattrs that files share come last.
  const sized = (dump: string): string => dump.replace(/^(\S+) \d+ (4\d{4} )/gm, '$1 - $2');
  for (const version of ['0', '1']) {
    writeFileSync(at('text'), text);
    succeed(
      'image',
      'build',
      '--composefs',
      '--format-version',
      version,
      '--from-dump',
      'text',
      '-o',
      'img',
    );
    const dump = succeed('image', 'dump', 'img');
    assert.equal(sized(dump), sized(text));
    writeFileSync(at('again'), dump);
    succeed('image', 'build', '--composefs', '--format-version', version, '-o', 'second', 'again');
    assert.ok(readFileSync(at('img')).equals(readFileSync(at('second'))));
    assert.equal(succeed('image', 'dump', 'second'), dump);
  }
  // As it lies there: the marks, and the whiteouts of the root.
  const raw = succeed('image', 'dump', '--raw', 'img');
  assert.match(raw, /^\/7f 0 20644 1 .* security\.selinux=a\\x00$/m);
  assert.match(raw, / trusted\.overlay\.metacopy=\\x00\$\\x00\\x01/);
});

for (const marks of ['trusted', 'user']) {
  test(`a composefs image is a layer whose data lies in another, with marks of ${marks}.overlay`, {
    skip: requires({ features: ['fuse'] }),
  }, (t) => {
    const { at, succeed } = place(t);
    for (const name of ['upper', 'work', 'm']) mkdirSync(at(name));
    succeed('image', 'build', '--composefs', '--digest-store', 'objects', '-o', 'img', 'tree');
    const own = marks === 'user' ? ',userxattr' : '';
    const mount = (options: string): void => {
      succeed('mount', '-q', '--backend=fuse', '-o', `${options}${own}`, 'm');
    };
    mount('lowerdir=img::objects,upperdir=upper,workdir=work');
    for (const name of ['external', 'inline', 'empty', 'dir/large', 'dir/holes', 'dir/hard']) {
      assert.ok(readFileSync(at(`m/${name}`)).equals(readFileSync(at(`tree/${name}`))), name);
    }
    assert.deepEqual(readdirSync(at('m')).sort(), readdirSync(at('tree')).sort());
    appendFileSync(at('m/external'), 'and more');
    assert.ok(readFileSync(at('m/external'), 'latin1').endsWith('varve and more'.slice(-8)));
    assert.equal(statSync(at('upper/external')).size, 65 + 8);
    succeed('umount', 'm');
    // Alone it is never shown as files of zeros.
    mount('lowerdir=img');
    assert.equal(readFileSync(at('m/inline')).length, 64);
    assert.throws(() => readFileSync(at('m/external')), { code: 'EIO' });
    succeed('umount', 'm');
  });
}

test('what makes no sense is said in one line', (t) => {
  const { at, fail, succeed } = place(t);
  const build = ['image', 'build', '--composefs'];
  writeFileSync(at('dump'), sampleDump('kinds'));
  writeFileSync(at('broken'), '/ 4096 40755 2 0 0 0 0.0 - - -\n/file x 100644 1 0 0 0 0.0 - - -\n');
  fail(
    2,
    /--compress: a composefs image has no such choice/,
    ...build,
    '-z',
    'lz4',
    '-o',
    'x',
    'tree',
  );
  fail(
    2,
    /--format-version is for composefs images/,
    'image',
    'build',
    '--format-version',
    '1',
    '-o',
    'x',
    'tree',
  );
  fail(
    2,
    /--format-version=2: must be 0 or 1/,
    ...build,
    '--format-version',
    '2',
    '-o',
    'x',
    'tree',
  );
  fail(2, /no image named: write -o IMAGE, or --print-digest/, ...build, 'tree');
  fail(2, /no source named/, ...build, '-o', 'x');
  fail(2, /tree is named as well/, ...build, '-o', 'x', '--from-dump', 'dump', 'tree');
  fail(2, /is no dump/, ...build, '-o', 'x', '--from-dump', 'tree');
  fail(
    2,
    /is a dump, which has no content to store/,
    ...build,
    '-o',
    'x',
    '--digest-store',
    'o',
    'dump',
  );
  fail(3, /line 2: SIZE "x" is no number/, ...build, '-o', 'x', 'broken');
  assert.equal(readdirSync(at('.')).includes('x'), false);
  succeed(...build, '-q', '-o', 'x', 'dump');
});
