// What the kernel forgets, in an order of its own: every node goes once, with the last that refers to it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dir, file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { forgetNames, must, O, S, show, stat, sys } from '../support/sys.js';
import { type Stack, stack } from './stack.js';

const skip = requires({ root: true, features: ['fuse'] });

/** Has the kernel forget what nobody uses; returns when the server has heard of it. */
function forget(s: Stack): void {
  must(forgetNames(s.mnt));
  // While requests come, a FORGET waits for eight of them at most (fuse_dev_do_read).
  s.at((root) => {
    for (let i = 0; i < 40; i++) {
      assert.equal(show(sys.access(root, `${process.hrtime.bigint()}`, 0)), 'ENOENT');
    }
  });
}

test('a directory is forgotten before a file that has two names in it', { skip }, async (t) => {
  const upper: Record<string, Tree[string]> = {
    'p/d/a': file('one'),
    'p/d/b': { type: 'link', data: 'p/d/a' },
    c: { type: 'link', data: 'p/d/a' },
  };
  for (let i = 0; i < 10; i++) upper[`new${i}`] = i % 2 === 0 ? file('') : dir();
  const s = await stack(t, { upper });
  const look = () =>
    s.at((root) => ['p/d/a', 'p/d/b', 'c'].map((name) => show(sys.access(root, name, 0))));
  assert.deepEqual(look(), ['0', '0', '0']);
  // By its third name the file stays known while the directory does not.
  const third = s.open('c', O.PATH);
  forget(s);
  sys.close(third);
  forget(s);
  // A node that was freed twice is given to two of these.
  const held = Object.keys(upper).map((name) => [name, s.open(name, O.PATH)] as const);
  const numbers = new Set<bigint>();
  for (const [name, fd] of held) {
    const st = stat(fd, '');
    assert.ok(typeof st !== 'number', `${name}: ${show(st as number)}`);
    if (name.startsWith('new')) {
      numbers.add(st.ino);
      assert.equal(st.mode & S.IFMT, /[02468]$/.test(name) ? S.IFREG : S.IFDIR, name);
    } else assert.equal(st.nlink, 3, name);
    sys.close(fd);
  }
  assert.equal(numbers.size, 10);
  const before = s.tree().lines;
  await s.remount();
  assert.deepEqual(s.tree().lines, before);
});
