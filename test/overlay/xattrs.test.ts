// Whose attributes count: the prefix rules of trusted.overlay and user.overlay, escaped names, and overlays on overlays.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, file, type Tree, whiteout } from '../layer/tree.js';
import { differences } from '../oracle/tree.js';
import { requires } from '../support/requires.js';
import { must, O, show, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'tmpfs'] });

const listed = (s: Stack, path = '.') => readdirSync(s.path(path)).sort();
const value = Buffer.from('v');
const below: Tree = { 'd/x': file('x'), 'e/y': file('y'), f: file('f') };

test('user.overlay marks count only with userxattr, trusted ones only without', {
  skip,
}, async (t) => {
  const marked: Tree = {
    d: dir({ xattrs: { 'user.overlay.opaque': 'y' } }),
    e: dir({ xattrs: { 'trusted.overlay.opaque': 'y' } }),
  };
  const trusted = await stack(t, { lowers: [marked, below] });
  assert.deepEqual(listed(trusted, 'd'), ['x']);
  assert.deepEqual(listed(trusted, 'e'), []);
  await trusted.sameToKernel();
  const user = await stack(t, { lowers: [marked, below], options: 'userxattr' });
  assert.deepEqual(listed(user, 'd'), []);
  assert.deepEqual(listed(user, 'e'), ['y']);
  user.at((root) => {
    must(sys.chmod(root, 'f', 0o600));
    must(sys.unlink(root, 'e/y'));
    must(sys.rmdir(root, 'd'));
    must(sys.mkdir(root, 'd', 0o755));
  });
  assert.equal(user.xattr(user.upper, 'd', 'user.overlay.opaque'), 'y');
  assert.equal(user.xattr(user.upper, 'd', 'trusted.overlay.opaque'), 'ENODATA');
  await user.sameToKernel('userxattr');
});

test('an overlay’s own attributes are neither shown nor settable as themselves', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    lowers: [{ ...below, 'e/deep': file('') }],
    upper: { d: dir({ xattrs: { 'trusted.overlay.opaque': 'y', 'user.own': 'o' } }) },
  });
  s.at((root) => {
    must(sys.chmod(root, 'e/deep', 0o600));
    for (const name of ['d', 'e', 'e/deep', '.']) {
      const keys = sys.listxattr(root, name);
      assert.ok(typeof keys !== 'number');
      assert.deepEqual(
        keys.filter((key) => key.startsWith('trusted.')),
        [],
        name,
      );
    }
    assert.deepEqual(sys.listxattr(root, 'd'), ['user.own']);
    assert.equal(show(sys.getxattr(root, 'd', 'trusted.overlay.opaque') as number), 'ENODATA');
    assert.equal(show(sys.removexattr(root, 'd', 'trusted.overlay.opaque')), 'ENODATA');
    // Set by a user it is kept under an escaped name, and shown as it was given.
    must(sys.setxattr(root, 'f', 'trusted.overlay.opaque', value));
    must(sys.setxattr(root, 'f', 'trusted.overlay.overlay.x', value));
    assert.deepEqual(sys.getxattr(root, 'f', 'trusted.overlay.opaque'), value);
    assert.deepEqual(sys.listxattr(root, 'f'), [
      'trusted.overlay.opaque',
      'trusted.overlay.overlay.x',
    ]);
    assert.equal(show(sys.setxattr(root, 'f', 'trusted.overlay.opaque', value, 1)), 'EEXIST');
    must(sys.setxattr(root, 'f', 'user.overlay.opaque', value));
    must(sys.removexattr(root, 'f', 'user.overlay.opaque'));
  });
  assert.equal(s.xattr(s.upper, 'f', 'trusted.overlay.overlay.opaque'), 'v');
  assert.equal(s.xattr(s.upper, 'f', 'trusted.overlay.overlay.overlay.x'), 'v');
  await s.sameToKernel();
  await s.mount();
  s.at((root) => {
    must(sys.rename(root, 'f', 'g'));
    must(sys.removexattr(root, 'g', 'trusted.overlay.opaque'));
    assert.deepEqual(sys.listxattr(root, 'g'), ['trusted.overlay.overlay.x']);
  });
});

test('attributes: every size, replace and create, absent ones, and where they are not supported', {
  skip,
}, async (t) => {
  const big = 'b'.repeat(3000);
  const s = await stack(t, {
    disk: true,
    lowers: [{ f: file('', { xattrs: { 'user.a': 'lower', 'user.big': big } }), d: dir() }],
  });
  s.at((root) => {
    assert.equal(String(sys.getxattr(root, 'f', 'user.a')), 'lower');
    assert.equal(show(sys.removexattr(root, 'f', 'user.none')), 'ENODATA');
    assert.equal(readdirSync(s.upper).length, 0);
    must(sys.setxattr(root, 'f', 'user.b', value, 1));
    assert.equal(show(sys.setxattr(root, 'f', 'user.b', value, 1)), 'EEXIST');
    assert.equal(show(sys.setxattr(root, 'f', 'user.c', value, 2)), 'ENODATA');
    must(sys.setxattr(root, 'f', 'user.a', Buffer.alloc(0), 2));
    assert.equal(String(sys.getxattr(root, 'f', 'user.big')), big);
    assert.deepEqual(sys.listxattr(root, 'f'), ['user.a', 'user.b', 'user.big']);
    must(sys.removexattr(root, 'f', 'user.a'));
    must(sys.setxattr(root, 'd', 'user.d', value));
    const long = `user.${'n'.repeat(250)}`;
    assert.equal(sys.setxattr(root, 'd', long, value), 0);
    assert.equal(show(sys.setxattr(root, 'd', `${long}n`, value)), 'ERANGE');
    must(sys.symlink('x', root, 'l'));
    assert.equal(show(sys.setxattr(root, 'l', 'user.x', value)), 'EPERM');
    must(sys.setxattr(root, 'l', 'trusted.x', value));
  });
  await s.sameToKernel();
});

/** A stack whose layers are folders of another mount. */
function layersOf(s: Stack, mounted: string): Stack {
  Object.assign(s, { lowers: [join(mounted, 'top'), join(mounted, 'bottom')] });
  return s;
}

const inner: Tree = {
  'top/d': dir(),
  'top/hidden': whiteout,
  'bottom/hidden': file('hidden'),
  'bottom/d/x': file('x'),
  'bottom/f': file('f'),
};

test('kernel overlayfs over a varve mount: marks of the inner overlay reach the outer one', {
  skip,
}, async (t) => {
  // Whiteouts cannot be made through an overlay; the xattr forms can.
  const s = await stack(t, { lowers: [{ 'bottom/d/x': file('x'), 'bottom/f': file('f') }] });
  s.at((root) => {
    must(sys.mkdir(root, 'top', 0o755));
    must(sys.mkdir(root, 'top/d', 0o755));
    must(sys.setxattr(root, 'top/d', 'trusted.overlay.opaque', Buffer.from('y')));
    must(sys.setxattr(root, 'top', 'trusted.overlay.opaque', Buffer.from('x')));
    sys.close(must(sys.open(root, 'top/f', O.CREAT | O.WRONLY, 0o644)));
    must(sys.setxattr(root, 'top/f', 'trusted.overlay.whiteout', Buffer.from('y')));
  });
  const outer = layersOf(await stack(t, { unmounted: true }), s.mnt);
  outer.kernelMount();
  assert.deepEqual(listed(outer), ['d']);
  assert.deepEqual(listed(outer, 'd'), []);
  outer.at((root) => {
    must(sys.chmod(root, 'd', 0o700));
    must(sys.rmdir(root, 'd'));
  });
  outer.kernelUnmount();
  // Read-only layers of files that are then copied up: every attribute of the inner mount must answer.
  const plain = await stack(t, { unmounted: true });
  Object.assign(plain, { lowers: [join(s.mnt, 'bottom')] });
  plain.kernelMount();
  plain.at((root) => must(sys.chmod(root, 'd/x', 0o600)));
  plain.write('f', 'changed');
  assert.equal(plain.read('d/x'), 'x');
  plain.kernelUnmount();
  assert.equal(s.read('bottom/f'), 'f');
});

test('varve over a kernel overlayfs mount, as lowers', { skip }, async (t) => {
  const s = await stack(t, { lowers: [inner], unmounted: true });
  s.kernelMount();
  s.at((root) => {
    must(sys.setxattr(root, 'top/d', 'trusted.overlay.opaque', Buffer.from('y')));
    must(sys.chmod(root, 'bottom/f', 0o640));
  });
  const outer = layersOf(await stack(t, { unmounted: true }), s.mnt);
  await outer.mount();
  assert.deepEqual(listed(outer), ['d', 'f', 'hidden']);
  assert.deepEqual(listed(outer, 'd'), []);
  outer.write('f', 'changed');
  outer.at((root) => must(sys.rename(root, 'd', 'e')));
  await outer.remount();
  assert.equal(outer.read('f'), 'changed');
  assert.deepEqual(listed(outer), ['e', 'f', 'hidden']);
  outer.tree();
  await outer.unmount();
  s.kernelUnmount();
});

test('varve over varve', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{ bottom: dir(), ...below }] });
  const outer = await stack(t, { unmounted: true });
  Object.assign(outer, { lowers: [s.mnt] });
  await outer.mount();
  outer.write('f', 'changed');
  outer.at((root) => {
    must(sys.rename(root, 'd', 'moved'));
    must(sys.unlink(root, 'e/y'));
  });
  await outer.remount();
  assert.deepEqual(listed(outer), ['bottom', 'e', 'f', 'moved']);
  assert.equal(outer.read('moved/x'), 'x');
  assert.equal(s.read('f'), 'f');
  outer.tree();
  await outer.unmount();
});

test('an upper written by the kernel, with everything it writes, shows the same tree here', {
  skip,
}, async (t) => {
  for (const prefix of ['', 'userxattr']) {
    const s = await stack(t, {
      lowers: [
        { ...below, 'm/a': file('a'), one: file('1'), two: { type: 'link', data: 'one' } },
        { 'm/b': file('b'), 'd/z': file('z') },
      ],
      options: prefix,
      unmounted: true,
    });
    const options = prefix === '' ? 'redirect_dir=on,index=on' : prefix;
    s.kernelMount(options);
    s.at((root) => {
      must(sys.chmod(root, 'd/x', 0o600));
      must(sys.unlink(root, 'f'));
      must(sys.unlink(root, 'e/y'));
      must(sys.rmdir(root, 'e'));
      must(sys.mkdir(root, 'e', 0o755));
      must(sys.chmod(root, 'two', 0o600));
      must(sys.link(root, 'one', 'three'));
      if (prefix === '') must(sys.rename(root, 'm', 'n'));
    });
    s.write('d/new', 'new');
    const theirs = s.tree(false);
    s.kernelUnmount();
    await s.mount();
    assert.deepEqual(differences(s.tree(), theirs), [], prefix);
    // And changed again here, read again there.
    s.at((root) => {
      must(sys.unlink(root, 'd/new'));
      must(sys.rename(root, 'three', 'd/three'));
      must(sys.chmod(root, 'd', 0o700));
    });
    await s.sameToKernel(options);
  }
});

const fuse = requires({ root: true, packages: ['fuse-overlayfs'], features: ['fuse', 'userns'] });

test('trees written by fuse-overlayfs, as root', { skip: fuse }, async (t) => {
  const s = await stack(t, { lowers: [below, { 'd/z': file('z') }], disk: true, unmounted: true });
  run('fuse-overlayfs', ['-o', s.layerOptions(), s.mnt]);
  change(s.mnt);
  const theirs = s.tree(false);
  run('umount', [s.mnt]);
  await s.mount('whiteouts=aufs');
  const ours = s.tree();
  // Beside trusted attributes a user's own count for nothing, and are shown.
  for (const [path, line] of ours.lines) {
    ours.lines.set(path, line.replace(/ user\.fuseoverlayfs\.origin=\S+/, ''));
  }
  assert.deepEqual(differences(ours, theirs), []);
});

test('trees written by fuse-overlayfs in a user namespace', { skip: fuse }, async (t) => {
  const s = await stack(t, { lowers: [below, { 'd/z': file('z') }], disk: true, unmounted: true });
  const script = `fuse-overlayfs -o "$1" "$2" && cd "$2" && ${changes} && cd / && umount "$2"`;
  run('unshare', ['-Urm', 'sh', '-ec', script, 'sh', s.layerOptions(), s.mnt]);
  await s.mount('userxattr,whiteouts=aufs');
  assert.deepEqual(listed(s), ['d', 'e', 'n']);
  assert.deepEqual(listed(s, 'd'), ['new', 'x', 'z']);
  assert.deepEqual(listed(s, 'e'), []);
  assert.equal(s.read('d/x'), 'xmore');
  assert.deepEqual(listed(s, 'n'), ['in']);
  assert.equal(readFileSync(join(s.lowers[0], 'd/x'), 'latin1'), 'x');
});

/** What a program does to the tree, in sh. */
const changes =
  'printf more >>d/x && rm f && rm -r e && mkdir e && echo new >d/new && mkdir n && echo in >n/in';

function change(folder: string): void {
  run('sh', ['-ec', `cd "$0" && ${changes}`, folder]);
}
