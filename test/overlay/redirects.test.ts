// Redirects, metadata-only copies and data-only layers: as the kernel writes them, as it reads ours, and refused where unsafe.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, type Entry, file, type Tree, whiteout } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { must, O, show, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs'] });

const listed = (s: Stack, path = '.') => readdirSync(s.path(path)).sort();
const redirect = (to: string) => dir({ xattrs: { 'trusted.overlay.redirect': to } });

test('redirects, relative and absolute, chained over layers', { skip }, async (t) => {
  const s = await stack(t, {
    upper: { top: redirect('/b'), 'top/new': redirect('mid'), 'top/mid': whiteout, b: whiteout },
    lowers: [
      { b: redirect('a'), 'b/mid': redirect('/a/old'), 'b/old': whiteout, a: whiteout },
      { 'a/old/x': file('x'), 'a/old/y': file('y'), 'a/z': file('z') },
    ],
  });
  assert.deepEqual(listed(s), ['top']);
  assert.deepEqual(listed(s, 'top'), ['new', 'z']);
  assert.deepEqual(listed(s, 'top/new'), ['x', 'y']);
  await s.sameToKernel();
});

test('what lay under a folder that was moved in a lower is found again after it moves itself', {
  skip,
}, async (t) => {
  // `a` became `c/a` in the upper layer of the two; `a/b` lies in the lower one only.
  const lowers: Tree[] = [
    { 'c/a': redirect('/a'), a: whiteout, 'c/low': redirect('e'), 'c/e': whiteout },
    { 'a/b/x': file('x'), 'a/d/y': file('y'), 'c/e/f/z': file('z'), 'a/hidden/h': file('h') },
  ];
  const s = await stack(t, { lowers });
  s.at((root) => {
    must(sys.rename(root, 'c/a/b', 'b'));
    must(sys.rename(root, 'c', 'g'));
    must(sys.rename(root, 'g/a/d', 'd'));
    must(sys.rename(root, 'g/low/f', 'f'));
  });
  for (let i = 0; i < 2; i++) {
    assert.deepEqual(listed(s), ['b', 'd', 'f', 'g']);
    assert.deepEqual([s.read('b/x'), s.read('d/y'), s.read('f/z')], ['x', 'y', 'z']);
    assert.deepEqual(listed(s, 'g/a'), ['hidden']);
    await s.remount();
  }
  await s.sameToKernel();
});

test('opaque marks and whiteouts on the way of a redirect hide what is below', {
  skip,
}, async (t) => {
  const opaque = dir({ xattrs: { 'trusted.overlay.opaque': 'y' } });
  const s = await stack(t, {
    upper: {
      ...{ one: redirect('/p/q'), two: redirect('/r/q'), three: redirect('/s/q') },
      ...{ p: whiteout, r: whiteout, s: whiteout, t: whiteout },
    },
    lowers: [
      { p: opaque, 'p/q/top': file('1'), r: whiteout, s: opaque, 's/q': redirect('/t') },
      { 'p/q/below': file('2'), 'r/q/below': file('2'), 't/found': file('3') },
    ],
  });
  assert.deepEqual(listed(s, 'one'), ['top']);
  assert.deepEqual(listed(s, 'two'), []);
  assert.deepEqual(listed(s, 'three'), ['found']);
  await s.sameToKernel();
});

for (const bad of [
  '../up',
  '..',
  '/../etc',
  '/a/../../etc',
  '/',
  '//a',
  'a/b',
  '.',
  '/a/./x',
  '',
]) {
  test(`a redirect to ${JSON.stringify(bad)} leads nowhere`, { skip }, async (t) => {
    const s = await stack(t, {
      upper: { d: redirect(bad) },
      lowers: [{ 'a/x': file('x'), etc: dir() }],
    });
    s.at((root) => {
      const st = stat(root, 'd');
      // Refused, or a directory that shows nothing of any layer.
      if (typeof st === 'number')
        assert.ok(['EINVAL', 'EIO', 'EPERM', 'ESTALE'].includes(show(st)));
      else assert.deepEqual(listed(s, 'd'), []);
      // The rest of the mount goes on.
      assert.equal(s.read('a/x'), 'x');
    });
  });
}

test('a redirect through a symlink leads nowhere', { skip }, async (t) => {
  const s = await stack(t, {
    upper: { d: redirect('/link/etc'), e: redirect('/link') },
    lowers: [{ link: { type: 'symlink', data: '/' } }],
  });
  s.at((root) => {
    for (const name of ['d', 'e']) {
      const st = stat(root, name);
      if (typeof st !== 'number') assert.deepEqual(listed(s, name), []);
    }
  });
});

test('redirect_dir=nofollow refuses, follow reads but makes none', { skip }, async (t) => {
  const plan = { upper: { d: redirect('/a') }, lowers: [{ 'a/x': file('x') }] };
  const no = await stack(t, { ...plan, options: 'redirect_dir=nofollow' });
  no.at((root) => assert.equal(show(sys.open(root, 'd', O.RDONLY)), 'EPERM'));
  await no.unmount();
  const follow = await stack(t, { ...plan, options: 'redirect_dir=follow' });
  assert.deepEqual(listed(follow, 'd'), ['x']);
  follow.at((root) => assert.equal(show(sys.rename(root, 'a', 'b')), 'EXDEV'));
});

const content = 'data '.repeat(2000);
const blocks = (path: string) => statSync(path).blocks;

test('an upper that the kernel wrote with metacopy=on reads right, and the reverse', {
  skip,
}, async (t) => {
  const lower: Tree = {
    f: file(content, { mode: 0o644 }),
    'd/g': file(content),
    h: file(content),
    moved: file(content),
  };
  const s = await stack(t, { lowers: [lower, {}], unmounted: true });
  const options = 'metacopy=on,redirect_dir=on,index=on';
  const change = () =>
    s.at((root) => {
      must(sys.chmod(root, 'f', 0o600));
      must(sys.chown(root, 'd/g', 5, 6));
      must(sys.rename(root, 'moved', 'd/renamed'));
      must(sys.rename(root, 'd', 'e'));
    });
  s.kernelMount(options);
  change();
  s.kernelUnmount();
  await s.mount('metacopy=on');
  const check = () => {
    assert.equal(s.read('f'), content);
    assert.equal(s.read('e/g'), content);
    assert.equal(s.read('e/renamed'), content);
    assert.equal(statSync(s.path('f')).size, content.length);
    assert.ok(blocks(s.path('f')) > 0);
    assert.equal(statSync(s.path('f')).mode & 0o777, 0o600);
    assert.equal(statSync(s.path('e/g')).uid, 5);
  };
  check();
  // The data follows when it is written to.
  s.at((root) => {
    const fd = must(sys.open(root, 'e/renamed', O.WRONLY));
    must(sys.pwrite(fd, Buffer.from('DATA'), 0));
    sys.close(fd);
  });
  assert.equal(s.read('e/renamed'), `DATA${content.slice(4)}`);
  assert.equal(s.xattr(s.upper, 'e/renamed', 'trusted.overlay.metacopy'), 'ENODATA');
  // Ours: metadata only too.
  s.at((root) => {
    must(sys.chmod(root, 'h', 0o640));
    must(sys.link(root, 'h', 'h2'));
  });
  await s.remount('metacopy=on');
  assert.equal(s.read('h2'), content);
  s.at((root) => must(sys.rename(root, 'h', 'h3')));
  assert.equal(s.read('h3'), content);
  assert.equal(s.xattr(s.upper, 'h3', 'trusted.overlay.metacopy'), '');
  assert.equal(blocks(join(s.upper, 'h3')), 0);
  await s.remount('metacopy=on');
  assert.equal(s.read('h3'), content);
  assert.equal(s.read('h2'), content);
  const ours = s.tree();
  await s.unmount();
  s.kernelMount(options);
  assert.equal(s.read('h3'), content);
  assert.equal(s.read('h2'), content);
  assert.deepEqual(s.tree().lines, ours.lines);
  s.kernelUnmount();
});

for (const known of [false, true]) {
  test(`metacopy=on: a lower file keeps its content under the name that is left, looked up ${known ? 'before' : 'after'}`, {
    skip,
  }, async (t) => {
    const content = 'c'.repeat(5000);
    const options = 'metacopy=on,redirect_dir=on,index=on';
    const lower: Tree = {
      one: file(content),
      'd/two': { type: 'link', data: 'one' },
      three: file(content),
      'd/four': { type: 'link', data: 'three' },
    };
    const s = await stack(t, { lowers: [lower, {}], options });
    if (known) assert.equal(s.read('d/two') + s.read('d/four'), content.repeat(2));
    s.write('new', 'new');
    s.at((root) => {
      must(sys.rename(root, 'new', 'one'));
      must(sys.unlink(root, 'three'));
    });
    assert.equal(s.read('d/two'), content);
    await s.remount();
    for (const name of ['d/two', 'd/four']) assert.equal(s.read(name), content, name);
    await s.remount('metacopy=off');
    s.at((root) => assert.equal(show(sys.open(root, 'd/two', O.RDONLY)), 'EPERM'));
    await s.remount();
    s.write('d/two', 'changed');
    assert.equal(s.read('d/two'), 'changed');
    assert.equal(s.read('d/four'), content);
    await s.sameToKernel(options);
  });
}

test('a metacopy file without its data is EIO, and refused without metacopy=on', {
  skip,
}, async (t) => {
  const meta = file('', { size: 100, xattrs: { 'trusted.overlay.metacopy': '' } });
  const s = await stack(t, { upper: { f: meta }, lowers: [{ g: file('x') }], unmounted: true });
  await s.mount('metacopy=on');
  s.at((root) => assert.equal(show(sys.open(root, 'f', O.RDONLY)), 'EIO'));
  await s.remount();
  s.at((root) => {
    const result = sys.open(root, 'f', O.RDONLY);
    assert.ok(['EIO', 'EPERM'].includes(show(result)), show(result));
  });
  assert.equal(s.read('g'), 'x');
});

test('data-only layers hold content and no names', { skip }, async (t) => {
  const meta = (to: string, size: number, mode = 0o644): Entry =>
    file('', {
      size,
      mode,
      xattrs: { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': to },
    });
  const s = await stack(t, {
    lowers: [
      {
        a: meta('/objects/1', 5, 0o600),
        'd/b': meta('/objects/2', 6),
        c: file('plain'),
        m: meta('/objects/1', 5),
      },
    ],
    data: [{ 'objects/1': file('first'), hidden: file('') }, { 'objects/2': file('second') }],
    options: 'metacopy=on',
  });
  assert.deepEqual(listed(s), ['a', 'c', 'd', 'm']);
  assert.equal(s.read('a'), 'first');
  assert.equal(s.read('d/b'), 'second');
  assert.equal(statSync(s.path('a')).mode & 0o777, 0o600);
  s.at((root) => {
    must(sys.rename(root, 'd', 'e'));
    must(sys.chmod(root, 'a', 0o644));
    must(sys.rename(root, 'a', 'e/a'));
    must(sys.chmod(root, 'm', 0o600));
    const fd = must(sys.open(root, 'e/b', O.RDWR));
    must(sys.pwrite(fd, Buffer.from('S'), 0));
    sys.close(fd);
  });
  assert.equal(s.read('e/a'), 'first');
  assert.equal(s.read('e/b'), 'Second');
  await s.sameToKernel('metacopy=on,redirect_dir=on,index=on');
  assert.equal(readFileSync(join(s.data[1], 'objects/2'), 'latin1'), 'second');
});

test('a malicious metacopy redirect does not leave the layers', { skip }, async (t) => {
  const meta = (to: string): Entry =>
    file('', {
      size: 5,
      xattrs: { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': to },
    });
  const s = await stack(t, {
    lowers: [
      { a: meta('/../../../etc/passwd'), b: meta('/link'), c: meta('/link2/passwd') },
      {
        link: { type: 'symlink', data: '/etc/passwd' },
        link2: { type: 'symlink', data: '/etc' },
      },
    ],
    options: 'metacopy=on',
    readOnly: true,
  });
  s.at((root) => {
    for (const name of ['a', 'b', 'c']) {
      const fd = sys.open(root, name, O.RDONLY);
      if (fd >= 0) assert.fail(`${name}: ${sys.read(fd, 100)}`);
    }
  });
});

test('500 layers: one name from each, merged, hidden, copied up', { skip }, async (t) => {
  const lowers: Tree[] = Array.from({ length: 500 }, (_, i) => ({
    [`only${i}`]: file(String(i)),
    shared: file(String(i)),
    [`m/in${i}`]: file(String(i)),
    ...(i === 250 ? { 'm/in300': whiteout } : {}),
  }));
  const s = await stack(t, { lowers });
  assert.equal(s.read('shared'), '0');
  for (const i of [0, 250, 499]) assert.equal(s.read(`only${i}`), String(i));
  assert.equal(listed(s).length, 502);
  assert.equal(listed(s, 'm').length, 499);
  assert.equal(s.read('m/in499'), '499');
  s.at((root) => {
    assert.equal(show(sys.open(root, 'm/in300', O.RDONLY)), 'ENOENT');
    must(sys.rename(root, 'm', 'n'));
    must(sys.unlink(root, 'shared'));
  });
  s.write('n/in499', 'changed');
  await s.remount();
  assert.equal(s.read('n/in499'), 'changed');
  assert.equal(listed(s, 'n').length, 499);
  assert.equal(listed(s).length, 501);
  run('rm', ['-r', s.path('n')]);
  assert.equal(listed(s).length, 500);
});
