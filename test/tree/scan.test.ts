// A folder as a tree: every kind of object, bytes in names, holes, hard links, and what changes meanwhile.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { compileExcludes } from '../../src/tree/exclude.js';
import { type ScanOptions, scan } from '../../src/tree/scan.js';
import { count, dataExtents, find, type TreeNode, walk } from '../../src/tree/tree.js';
import { dir, file, makeTree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';

/** Scans, hands over the tree, closes. */
function scanned<T>(path: string, use: (root: TreeNode) => T, options: ScanOptions = {}): T {
  const tree = scan(path, options);
  try {
    return use(tree.root);
  } finally {
    tree.close();
  }
}

function content(node: TreeNode | undefined): Buffer {
  const opened = node?.content?.open();
  if (opened === undefined) return Buffer.alloc(0);
  try {
    const out = Buffer.alloc(opened.size);
    opened.read(0, out);
    return out;
  } finally {
    opened.close();
  }
}

const paths = (root: TreeNode): string[] => {
  const all: string[] = [];
  walk(root, (path) => void all.push(path));
  return all;
};

test('files, folders, symlinks, times, sizes', (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'sub'), { mode: 0o750 });
  fs.writeFileSync(join(d, 'sub/hello'), 'hello', { mode: 0o640 });
  fs.writeFileSync(join(d, 'empty'), '');
  fs.symlinkSync('sub/hello', join(d, 'link'));
  const fd = must(sys.open(AT.FDCWD, d, O.DIRECTORY));
  must(
    sys.utimens(fd, 'sub/hello', [
      [0, 0],
      [-86_400, 123_456_789],
    ]),
  );
  sys.close(fd);
  scanned(d, (root) => {
    assert.deepEqual(paths(root), ['/', '/empty', '/link', '/sub', '/sub/hello']);
    const hello = find(root, 'sub/hello') as TreeNode;
    assert.equal(hello.mode, S.IFREG | 0o640);
    assert.deepEqual([hello.mtime, hello.mtimeNsec, hello.size], [-86_400, 123_456_789, 5]);
    assert.equal(content(hello).toString(), 'hello');
    assert.equal(content(hello).toString(), 'hello', 'and again');
    assert.equal(find(root, 'empty')?.content, undefined);
    assert.equal(find(root, 'link')?.target, 'sub/hello');
    assert.deepEqual([root.links, find(root, 'sub')?.links, hello.links], [3, 2, 1]);
    assert.deepEqual([hello.uid, hello.gid], [process.getuid?.(), process.getgid?.()]);
  });
});

test('names are bytes; the source itself may be a symlink', (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'real'));
  fs.symlinkSync('real', join(d, 'link'));
  const fd = must(sys.open(AT.FDCWD, join(d, 'real'), O.DIRECTORY));
  for (const name of ['\xff\xfe', 'a\nb', 'x'.repeat(255)]) {
    sys.close(must(sys.open(fd, name, O.CREAT | O.WRONLY, 0o644)));
  }
  must(sys.symlink('\x80target', fd, 's'));
  sys.close(fd);
  scanned(join(d, 'link'), (root) => {
    assert.deepEqual(paths(root), ['/', '/a\nb', '/s', `/${'x'.repeat(255)}`, '/\xff\xfe']);
    assert.equal(find(root, 's')?.target, '\x80target');
  });
});

test('hard links are one node, links counts names in the tree only', (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'in'));
  fs.mkdirSync(join(d, 'out'));
  fs.writeFileSync(join(d, 'in/a'), 'x');
  for (const name of ['in/b', 'out/c']) fs.linkSync(join(d, 'in/a'), join(d, name));
  scanned(join(d, 'in'), (root) => {
    assert.equal(find(root, 'a'), find(root, 'b'));
    assert.equal(find(root, 'a')?.links, 2);
    assert.equal(count(root).files, 1);
  });
});

test('holes are found without reading', (t) => {
  const d = tempDir(t);
  const fd = fs.openSync(join(d, 'sparse'), 'w');
  fs.writeSync(fd, 'head', 0);
  fs.writeSync(fd, 'tail', 8 * 1024 * 1024);
  fs.ftruncateSync(fd, 1024 * 1024 * 1024);
  fs.closeSync(fd);
  fs.writeFileSync(join(d, 'hole'), '');
  fs.truncateSync(join(d, 'hole'), 100_000);
  scanned(d, (root) => {
    const sparse = find(root, 'sparse') as TreeNode;
    const extents = dataExtents(sparse);
    assert.equal(extents.length, 2);
    assert.equal(extents[0]?.at, 0);
    assert.equal(extents[1]?.at, 8 * 1024 * 1024);
    assert.ok(extents.every(({ length }) => length <= 65_536));
    const opened = sparse.content!.open();
    const out = Buffer.alloc(4);
    opened.read(8 * 1024 * 1024, out);
    opened.close();
    assert.equal(out.toString(), 'tail');
    assert.deepEqual(dataExtents(find(root, 'hole') as TreeNode), []);
  });
});

test('xattrs with binary values, shared where equal', (t) => {
  const d = tempDir(t);
  for (const name of ['a', 'b', 'c']) fs.writeFileSync(join(d, name), '');
  const fd = must(sys.open(AT.FDCWD, d, O.DIRECTORY));
  const binary = Buffer.from([0, 255, 0, 10]);
  for (const name of ['a', 'b']) must(sys.setxattr(fd, name, 'user.z', binary));
  must(sys.setxattr(fd, 'a', 'user.empty', Buffer.alloc(0)));
  must(sys.setxattr(fd, 'c', 'user.z', binary));
  sys.close(fd);
  scanned(d, (root) => {
    const a = find(root, 'a')!.xattrs!;
    assert.deepEqual([...a.keys()], ['user.empty', 'user.z']);
    assert.deepEqual(Buffer.from(a.get('user.z')!), binary);
    assert.equal(a.get('user.empty')!.length, 0);
    assert.equal(find(root, 'b')!.xattrs, find(root, 'c')!.xattrs);
    assert.equal(root.xattrs, undefined);
  });
});

test('owners, devices, sockets, capabilities, ACLs', {
  skip: requires({ root: true, packages: ['acl', 'libcap2-bin'] }),
}, (t) => {
  const d = tempDir(t);
  makeTree(d, {
    own: file('x', { uid: 70_000, gid: 4_000_000_000, mode: 0o4755 }),
    fifo: { type: 'fifo' },
    white: { type: 'whiteout' },
    sticky: dir({ mode: 0o1777 }),
  });
  const fd = must(sys.open(AT.FDCWD, d, O.DIRECTORY));
  // 259:262143 in the form of dev_t; XFS has 18 bits for the minor number.
  must(sys.mknod(fd, 'disk', 0o060660, 0x3ff103ff));
  must(sys.mknod(fd, 'sock', 0o140755));
  const caps = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  must(sys.setxattr(fd, 'own', 'security.capability', caps));
  const acl = Buffer.from(
    '0200000001000700ffffffff02000400e803000004000500ffffffff10000500ffffffff20000500ffffffff',
    'hex',
  );
  must(sys.setxattr(fd, 'white', 'trusted.t', Buffer.from('v')));
  must(sys.setxattr(fd, 'sticky', 'system.posix_acl_default', acl));
  sys.close(fd);
  scanned(d, (root) => {
    const own = find(root, 'own')!;
    assert.deepEqual([own.uid, own.gid, own.mode & 0o7777], [70_000, 4_000_000_000, 0o4755]);
    assert.deepEqual(Buffer.from(own.xattrs!.get('security.capability')!), caps);
    assert.equal(find(root, 'disk')!.rdev >>> 0, 0x3ff103ff);
    assert.equal(find(root, 'disk')!.mode & S.IFMT, S.IFBLK);
    assert.equal(find(root, 'white')!.rdev, 0);
    assert.equal(find(root, 'sock')!.mode & S.IFMT, S.IFSOCK);
    assert.equal(find(root, 'fifo')!.mode & S.IFMT, S.IFIFO);
    assert.deepEqual(
      Buffer.from(find(root, 'sticky')!.xattrs!.get('system.posix_acl_default')!),
      acl,
    );
  });
});

test('a file that changes or goes is an error, before and while it is read', (t) => {
  const d = tempDir(t);
  for (const name of ['gone', 'grown', 'late', 'swapped']) fs.writeFileSync(join(d, name), name);
  scanned(d, (root) => {
    fs.unlinkSync(join(d, 'gone'));
    fs.appendFileSync(join(d, 'grown'), '!');
    fs.rmSync(join(d, 'swapped'));
    fs.symlinkSync('/etc/passwd', join(d, 'swapped'));
    for (const name of ['gone', 'grown', 'swapped']) {
      assert.throws(() => find(root, name)!.content!.open(), /"(gone|grown|swapped)" changed/);
    }
    const opened = find(root, 'late')!.content!.open();
    const out = Buffer.alloc(4);
    opened.read(0, out.subarray(0, 2));
    assert.throws(() => opened.read(2, out), RangeError);
    fs.truncateSync(join(d, 'late'), 1);
    assert.throws(() => opened.read(0, out), /"late" changed/);
    opened.close();
  });
});

test('trees deeper than PATH_MAX', (t) => {
  const d = tempDir(t);
  const name = 'n'.repeat(200);
  let fd = must(sys.open(AT.FDCWD, d, O.DIRECTORY));
  for (let i = 0; i < 60; i++) {
    must(sys.mkdir(fd, name, 0o755));
    const next = must(sys.open(fd, name, O.DIRECTORY));
    sys.close(fd);
    fd = next;
  }
  const leaf = must(sys.open(fd, 'leaf', O.CREAT | O.WRONLY, 0o644));
  must(sys.write(leaf, Buffer.from('deep')));
  sys.close(leaf);
  sys.close(fd);
  scanned(d, (root) => {
    const node = find(root, `${`${name}/`.repeat(60)}leaf`);
    assert.equal(content(node).toString(), 'deep');
  });
});

test('what is excluded: globs, paths, expressions', (t) => {
  const d = tempDir(t);
  for (const folder of ['a/cache', 'b/cache', 'c']) {
    fs.mkdirSync(join(d, folder), { recursive: true });
    fs.writeFileSync(join(d, folder, 'x.tmp'), '');
    fs.writeFileSync(join(d, folder, 'keep'), '');
  }
  const left = (rules: Parameters<typeof compileExcludes>[0]) =>
    scanned(d, (root) => paths(root).join(' '), { excludes: compileExcludes(rules) });
  assert.equal(
    left({ globs: ['*.tmp'] }),
    '/ /a /a/cache /a/cache/keep /b /b/cache /b/cache/keep /c /c/keep',
  );
  assert.equal(left({ globs: ['cache/'] }), '/ /a /b /c /c/keep /c/x.tmp');
  assert.equal(
    left({ globs: ['/a', 'c/[!k]*', 'b/**/keep'] }),
    '/ /b /b/cache /b/cache/x.tmp /c /c/keep',
  );
  assert.equal(left({ paths: ['/a', 'b/cache/'] }), '/ /b /c /c/keep /c/x.tmp');
  assert.equal(left({ regexes: ['^[ab]$'] }), '/ /c /c/keep /c/x.tmp');
  assert.equal(compileExcludes({}), undefined);
  assert.throws(() => compileExcludes({ regexes: ['('] }), RangeError);
  assert.throws(() => compileExcludes({ paths: ['/'] }), RangeError);
});

test('one file system only', { skip: requires({ root: true, features: ['tmpfs'] }) }, (t) => {
  const d = tempDir(t);
  fs.mkdirSync(join(d, 'mnt'));
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(d, 'mnt')]);
  fs.writeFileSync(join(d, 'mnt/inside'), '');
  assert.ok(scanned(d, paths).includes('/mnt/inside'));
  assert.deepEqual(scanned(d, paths, { oneFileSystem: true }), ['/', '/mnt']);
});

test('a source that is not there', (t) => {
  assert.throws(() => scan(join(tempDir(t), 'absent')), /open .*absent: ENOENT/);
});
