// The mark that keeps an inode number where the origin mark cannot: copies of objects of filesystems without a UUID, of images,
// and of filesystems without file handles.

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { file, makeTree, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const MARK = 'trusted.overlay.varve.ino';

const first: Tree = {
  file: file('content'),
  'd/in': file('in it'),
  linked: file('twice'),
  second: { type: 'link', data: 'linked' },
  link: { type: 'symlink', data: 'file' },
  still: file('never changed'),
};
const other: Tree = { other: file('other'), 'd/below': file('below') };

/** st_ino by path, of everything on the mount; listings and attributes have been compared with each other. */
function numbers(s: Stack): Map<string, bigint> {
  s.tree();
  return s.at((root) => {
    const found = new Map<string, bigint>();
    for (const name of readdirSync(s.mnt, { recursive: true, encoding: 'latin1' })) {
      const at = stat(root, name, AT.SYMLINK_NOFOLLOW);
      assert.ok(typeof at !== 'number', name);
      found.set(name, BigInt(at.ino));
    }
    return found;
  });
}

/** Copies up everything but `still`. */
function change(s: Stack): void {
  s.at((root) => {
    for (const name of ['file', 'd/in', 'linked', 'other', 'd/below']) {
      must(sys.chmod(root, name, 0o600));
    }
    must(
      sys.utimens(
        root,
        'link',
        [
          [1, 0],
          [1, 0],
        ],
        AT.SYMLINK_NOFOLLOW,
      ),
    );
  });
}

const needs = { root: true, features: ['fuse', 'overlayfs', 'loop', 'squashfs'] } as const;

let copies = 0;

/** Mounts a copy of an image: the namespace of another test may still hold the last mount of it, and its loop device with that. */
function mountCopy(image: string, at: string): void {
  const own = `${image}-${copies++}`;
  copyFileSync(image, own);
  run('mount', ['-o', 'loop', own, at]);
}

test('numbers of what was copied up from two squashfs outlive a remount, a new order and the end of a layer', {
  skip: requires({ ...needs, packages: ['squashfs-tools'] }),
}, async (t) => {
  const s = await stack(t, { disk: true, unmounted: true, lowers: [{}, {}] });
  const images = [first, other].map((tree, i) => {
    const source = join(s.base, `source${i}`);
    mkdirSync(source);
    makeTree(source, tree);
    run('mksquashfs', [source, join(s.base, `image${i}`), '-quiet', '-no-progress']);
    return join(s.base, `image${i}`);
  });
  const [a, b] = s.lowers as [string, string];
  const put = (top: number, bottom: number | undefined) => {
    mountCopy(images[top] as string, a);
    if (bottom !== undefined) mountCopy(images[bottom] as string, b);
  };
  put(0, 1);
  await s.mount();
  const before = numbers(s);
  assert.equal(
    new Set(before.values()).size,
    before.size - 1,
    'one hard link, no other number twice',
  );
  change(s);
  assert.deepEqual(numbers(s), before);
  await s.remount();
  assert.deepEqual(numbers(s), before);
  assert.equal(s.xattr(s.upper, 'file', MARK).length, 13);
  assert.equal(s.xattr(s.mnt, 'file', MARK), 'ENODATA');
  // The kernel's overlayfs reads the same upper, and shows the mark to nobody.
  await s.unmount();
  s.kernelMount();
  assert.equal(s.xattr(s.mnt, 'file', MARK), 'ENODATA');
  assert.equal(s.read('file'), 'content');
  s.kernelUnmount();

  run('umount', [a, b]);
  put(1, 0);
  await s.mount();
  // The merged directory was copied up from what was on top then.
  assert.deepEqual(numbers(s), before);
  await s.unmount();

  run('umount', [a, b]);
  put(1, undefined);
  await s.mount();
  const left = numbers(s);
  for (const [name, ino] of left) assert.equal(ino, before.get(name), name);
  assert.ok(left.has('file') && left.has('other') && !left.has('still'));
});

test('what the kernel copied up from the only filesystem without a UUID keeps its number, and hard links are one object', {
  skip: requires({ ...needs, packages: ['squashfs-tools'] }),
}, async (t) => {
  const s = await stack(t, { unmounted: true, lowers: [{}, {}] });
  const [a, b] = s.lowers as [string, string];
  const image = (name: string, tree: Tree) => {
    const source = join(s.base, `source-${name}`);
    mkdirSync(source);
    makeTree(source, tree);
    run('mksquashfs', [source, join(s.base, name), '-quiet', '-no-progress']);
    return join(s.base, name);
  };
  run('mount', ['-o', 'loop', image('first', first), a]);
  // The other lower, on a tmpfs, has a UUID.
  makeTree(b, other);
  await s.mount();
  const before = numbers(s);
  assert.equal(before.get('linked'), before.get('second'));
  await s.unmount();
  s.kernelMount();
  change(s);
  s.kernelUnmount();
  assert.equal(s.xattr(s.upper, 'file', MARK), 'ENODATA');

  await s.mount();
  assert.deepEqual(numbers(s), before);
  // A copy of our own over the same layer: its mark is written, for the origin tells the number only in this stack.
  s.at((root) => must(sys.chmod(root, 'still', 0o600)));
  assert.equal(s.xattr(s.upper, 'still', MARK).length, 13);
  await s.remount();
  assert.deepEqual(numbers(s), before);
  await s.unmount();

  // With a second one nobody can tell which of them a mark means: the numbers are constant, and nobody else's.
  run('umount', [a]);
  const inOrder = async (...lowers: readonly string[]) => {
    for (const [i, lower] of lowers.entries()) mountCopy(lower, i === 0 ? a : b);
    await s.mount();
    const found = numbers(s);
    await s.unmount();
    for (const [i] of lowers.entries()) run('umount', [i === 0 ? a : b]);
    return found;
  };
  const further = image('further', other);
  const both = await inOrder(join(s.base, 'first'), further);
  for (const name of ['file', 'd/in', 'linked']) assert.notEqual(both.get(name), before.get(name));
  assert.deepEqual(await inOrder(further, join(s.base, 'first')), both);
});

test('uuid=off: the kernel and varve find the origins and hard links of each other', {
  skip: requires({ root: true, features: ['fuse', 'overlayfs'] }),
}, async (t) => {
  const s = await stack(t, { unmounted: true, lowers: [first], options: 'uuid=off' });
  await s.mount();
  const before = numbers(s);
  await s.unmount();
  s.kernelMount('index=on,uuid=off');
  s.at((root) => must(sys.chmod(root, 'linked', 0o600)));
  s.kernelUnmount();

  await s.mount();
  assert.deepEqual(numbers(s), before);
  const modeOf = (name: string) => s.at((root) => stat(root, name, 0));
  assert.deepEqual(modeOf('second'), modeOf('linked'));
  s.at((root) => must(sys.chmod(root, 'file', 0o600)));
  s.at((root) => must(sys.chmod(root, 'second', 0o640)));
  assert.deepEqual(modeOf('second'), modeOf('linked'));
  await s.remount();
  assert.deepEqual(numbers(s), before);
  // version, magic, length, flags and type, then 16 bytes of UUID.
  const mark = s.xattr(s.upper, 'file', 'trusted.overlay.origin');
  assert.equal(mark.slice(5, 21), '\0'.repeat(16));
  await s.sameToKernel('index=on,uuid=off');
});

test('numbers of what was copied up from an overlay without file handles outlive a remount', {
  skip: requires({ root: true, features: ['fuse', 'overlayfs'] }),
}, async (t) => {
  const s = await stack(t, { unmounted: true, lowers: [{}] });
  const [lower] = s.lowers as [string];
  for (const [name, tree] of [
    ['x', first],
    ['y', other],
  ] as const) {
    mkdirSync(join(s.base, name));
    makeTree(join(s.base, name), tree);
  }
  const kernelLower = () =>
    run('mount', ['-t', 'overlay', '-o', `lowerdir=${s.base}/x:${s.base}/y`, 'overlay', lower]);
  kernelLower();
  await s.mount();
  const before = numbers(s);
  change(s);
  // Without handles there is no index: of a hard link the copy is another object after a remount.
  const kept = () => [...numbers(s)].filter(([name]) => !['linked', 'second'].includes(name));
  const expected = [...before].filter(([name]) => !['linked', 'second'].includes(name));
  assert.deepEqual(kept(), expected);
  await s.unmount();
  run('umount', [lower]);
  kernelLower();
  await s.mount();
  assert.deepEqual(kept(), expected);
  assert.equal(s.xattr(s.upper, 'file', 'trusted.overlay.origin'), '');
});

test('numbers of what was copied up from an image outlive a remount', {
  skip: requires({ root: true, features: ['fuse'], packages: ['erofs-utils'] }),
}, async (t) => {
  const s = await stack(t, { disk: true, unmounted: true, lowers: [first] });
  const [lower] = s.lowers as [string];
  const image = join(s.base, 'image');
  // A UUID that tells nothing, as reproducible builds like to give.
  run('mkfs.erofs', ['--quiet', '-U', '00000000-0000-0000-0000-000000000001', image, lower]);
  run('rm', ['-r', lower]);
  run('mv', [image, lower]);
  await s.mount();
  const before = numbers(s);
  s.at((root) => {
    for (const name of ['file', 'd/in', 'linked']) must(sys.chmod(root, name, 0o600));
  });
  assert.deepEqual(numbers(s), before);
  await s.remount();
  assert.deepEqual(numbers(s), before);
});

test('a mark of another form is passed by', {
  skip: requires({ root: true, features: ['fuse'] }),
}, async (t) => {
  const s = await stack(t, { lowers: [{ file: file('content') }] });
  s.at((root) => must(sys.chmod(root, 'file', 0o600)));
  const before = numbers(s);
  await s.unmount();
  // Another version; too short; the number of the root; no number at all.
  for (const value of ['02', '01', '01'.padEnd(26, '0'), `0101${'00'.repeat(11)}`]) {
    s.at((root) => must(sys.setxattr(root, 'file', MARK, Buffer.from(value, 'hex'))), s.upper);
    await s.mount();
    assert.deepEqual(numbers(s), before, value);
    await s.unmount();
  }
  const told = `01${'2a000000'}${'07000000'}${'00'.repeat(4)}`;
  s.at((root) => must(sys.setxattr(root, 'file', MARK, Buffer.from(told, 'hex'))), s.upper);
  await s.mount();
  assert.equal(numbers(s).get('file'), 0x7_0000_002an);
  writeFileSync(s.path('file'), 'changed');
  assert.equal(numbers(s).get('file'), 0x7_0000_002an);
});
