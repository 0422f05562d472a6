// An overlay that takes over from one that was killed between two requests: what the kernel holds goes on to work.

// First of all: it watches the C library.
import './deaths.js';

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { O, RENAME } from '../../src/linux/constants.js';
import { SETATTR } from '../../src/vfs/filesystem.js';
import { dir, file, makeTree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O as SysO, sys } from '../support/sys.js';
import { makeFolders, open, type Plan, tmpfs } from './folders.js';
import { type File, got, type Kernel, type Node } from './kernel.js';

const skip = requires({ root: true });

interface Mounted {
  readonly kernel: Kernel;
  readonly base: string;
}

function mounted(t: { after(fn: () => void): void }, plan: Plan): Mounted {
  const base = tmpfs(t);
  makeFolders(base, plan);
  const kernel = open(base, plan);
  t.after(() => kernel.stop());
  return { kernel, base };
}

const hidden = (base: string): string[] => readdirSync(join(base, 'work', 'work'));

/** What stat says of each node, before and after. */
function sameNodes(kernel: Kernel, nodes: Readonly<Record<string, Node>>, act: () => void): void {
  const before = Object.entries(nodes).map(([name, node]) => [name, kernel.getattr(node)]);
  act();
  const after = Object.entries(nodes).map(([name, node]) => [name, kernel.getattr(node)]);
  assert.deepEqual(after, before);
}

test('nodes of every kind keep their nodeids, numbers and attributes', { skip }, (t) => {
  const { kernel } = mounted(t, {
    lowers: [
      {
        'm/low1': file('one'),
        'only/deep/er/f': file('deep'),
        'ren/x': file('x'),
        meta: file('metadata only'),
        copied: file('copied'),
        a: file('links'),
        b: { type: 'link', data: 'a' },
        'd/c': { type: 'link', data: 'a' },
        s: { type: 'symlink', data: 'target' },
        p: { type: 'fifo' },
      },
      { 'm/low2': file('two'), 'opaque/below': file('no') },
    ],
    upper: { 'm/up': file('three'), plain: file('four'), q: { type: 'link', data: 'plain' } },
    options: ',metacopy=on,redirect_dir=on,index=on',
  });
  const k = kernel;
  k.chmod(k.at('meta'), 0o600);
  const writer = got(k.open(k.at('copied'), O.RDWR));
  k.write(writer, 'C');
  assert.equal(k.rename('ren', 'renamed'), 'ok');
  assert.equal(k.rename('opaque', 'moved'), 'ok');
  k.chmod(k.at('b'), 0o640);
  assert.equal(k.rename('meta', 'only/meta2'), 'ok');
  got(k.mkdir('fresh'));
  const made = got(k.create('fresh/file'));
  k.write(made, 'made');
  const paths = [
    '',
    'm',
    'm/low1',
    'm/low2',
    'm/up',
    'only',
    'only/deep',
    'only/deep/er',
    'only/deep/er/f',
    'renamed',
    'renamed/x',
    'only/meta2',
    'copied',
    'a',
    'b',
    'd/c',
    's',
    'p',
    'moved',
    'moved/below',
    'plain',
    'q',
    'fresh',
    'fresh/file',
  ];
  const nodes = Object.fromEntries(paths.map((path) => [path, k.at(path)]));
  const tree = k.tree();
  for (let i = 0; i < 3; i++) {
    sameNodes(k, nodes, () => k.kill());
    assert.deepEqual(k.tree(), tree);
    for (const path of paths) {
      const { lo, hi, ino } = nodes[path] as Node;
      if (path !== '') assert.deepEqual(k.at(path), { lo, hi, ino }, path);
    }
    assert.equal(k.read(writer), 'Copied');
    assert.equal(k.read(made), 'made');
  }
});

test('open files are read and written on: flags, lower, upper, copied up meanwhile', {
  skip,
}, (t) => {
  const { kernel: k, base } = mounted(t, {
    lowers: [{ low: file('lower'), up: file('later') }],
    upper: { plain: file('plain'), readonly: file('', { mode: 0o444 }) },
  });
  const low = got(k.open(k.at('low'), O.RDONLY));
  const later = got(k.open(k.at('up'), O.RDONLY));
  const plain = got(k.open(k.at('plain'), O.RDWR | O.APPEND | O.TRUNC));
  k.write(plain, 'abc');
  const locked = got(k.create('locked', 0o444, O.WRONLY));
  k.write(locked, '1');
  k.kill();
  assert.equal(k.read(low), 'lower');
  assert.equal(k.read(plain), 'abc');
  k.write(plain, 'def', 3);
  k.write(locked, '2', 1);
  const other = got(k.open(k.at('up'), O.RDWR));
  k.write(other, 'L');
  // The reader of before sees what is written after copy-up.
  assert.equal(k.read(later), 'Later');
  k.kill();
  assert.equal(k.read(later), 'Later');
  for (const f of [low, later, plain, locked, other]) assert.equal(k.release(f), 'ok');
  assert.equal(readFileSync(join(base, 'up/plain'), 'latin1'), 'abcdef');
  assert.equal(readFileSync(join(base, 'up/locked'), 'latin1'), '12');
  // As a request is that was done, and not answered.
  assert.equal(k.release(low), 'ok');
  assert.equal(k.read(low), 'EBADF');
});

function unlinkedFiles(k: Kernel): Record<string, File> {
  const files: Record<string, File> = {
    lower: got(k.open(k.at('deep/er/lower'), O.RDONLY)),
    upper: got(k.open(k.at('upper'), O.RDWR)),
    copied: got(k.open(k.at('copied'), O.RDWR)),
    replaced: got(k.open(k.at('replaced'), O.RDWR)),
    meta: got(k.open(k.at('meta'), O.RDONLY)),
    linked: got(k.open(k.at('links/a'), O.RDWR)),
    unnamed: got(k.tmpfile('')),
    written: got(k.open(k.at('written'), O.RDONLY)),
  };
  k.write(files['copied'] as File, 'COPIED');
  k.write(files['unnamed'] as File, 'unnamed');
  k.write(files['linked'] as File, 'LINKED');
  k.chmod(k.at('meta'), 0o600);
  for (const name of [
    'deep/er/lower',
    'upper',
    'copied',
    'meta',
    'links/a',
    'links/b',
    'written',
  ]) {
    assert.equal(k.unlink(name), 'ok', name);
  }
  k.setattr((files['written'] as File).node, { valid: SETATTR.SIZE, size: 3 });
  assert.equal(k.rename('mover', 'replaced'), 'ok');
  return files;
}

const UNLINKED: Plan = {
  lowers: [
    {
      'deep/er/lower': file('lower'),
      copied: file('copied'),
      meta: file('meta'),
      'links/a': file('linked'),
      'links/b': { type: 'link', data: 'links/a' },
      written: file('written'),
    },
  ],
  upper: { upper: file('upper'), replaced: file('replaced'), mover: file('mover') },
  options: ',metacopy=on,index=on',
};

const CONTENT: Record<string, string> = {
  lower: 'lower',
  upper: 'upper',
  copied: 'COPIED',
  replaced: 'replaced',
  meta: 'meta',
  linked: 'LINKED',
  unnamed: 'unnamed',
  written: 'wri',
};

test('files without a name stay what they were, and leave nothing behind', { skip }, (t) => {
  const { kernel: k, base } = mounted(t, UNLINKED);
  const files = unlinkedFiles(k);
  const nodes = Object.fromEntries(Object.entries(files).map(([name, f]) => [name, f.node]));
  for (const [name, node] of Object.entries(nodes)) {
    assert.equal(got(k.getattr(node)).nlink, 0, name);
  }
  const gone = k.tree();
  for (let i = 0; i < 2; i++) {
    sameNodes(k, nodes, () => k.kill());
    for (const [name, f] of Object.entries(files)) assert.equal(k.read(f), CONTENT[name], name);
    assert.deepEqual(k.tree(), gone);
  }
  // Changed, and opened again as through /proc.
  const upper = files['upper'] as File;
  assert.equal(k.write(upper, 'U'), 1);
  assert.equal(got(k.chmod(upper.node, 0o640)).mode & 0o7777, 0o640);
  const lower = files['lower'] as File;
  const again = got(k.open(lower.node, O.RDWR));
  assert.equal(k.write(again, 'L'), 1);
  k.kill();
  assert.equal(k.read(upper), 'Upper');
  assert.equal(k.read(lower), 'Lower');
  assert.equal(got(k.getattr(lower.node)).nlink, 0);
  k.release(again);
  // One of them gets a name again.
  got(k.link((files['unnamed'] as File).node, 'named'));
  k.kill();
  assert.equal(k.read(files['unnamed'] as File), 'unnamed');
  assert.equal(got(k.getattr(k.at('named'))).nlink, 1);
  for (const [name, f] of Object.entries(files)) {
    assert.equal(k.release(f), 'ok', name);
    k.forget(f.node, 100);
  }
  assert.deepEqual(hidden(base), []);
});

test('a working directory that was removed still has its attributes, and nothing in it', {
  skip,
}, (t) => {
  const { kernel: k } = mounted(t, {
    lowers: [{ 'lower/f': file(''), merged: dir({ mode: 0o750 }) }],
    upper: { upper: dir({ mode: 0o711, uid: 7 }), merged: dir({ mode: 0o750 }) },
  });
  assert.equal(k.unlink('lower/f'), 'ok');
  const nodes: Record<string, Node> = {};
  for (const name of ['lower', 'upper', 'merged']) {
    nodes[name] = k.at(name);
    assert.equal(k.rmdir(name), 'ok');
  }
  const shown = (): unknown[] =>
    Object.values(nodes).map((node) => {
      const { ino, mode, uid } = got(k.getattr(node));
      return [ino, mode, uid];
    });
  const before = shown();
  k.kill();
  assert.deepEqual(shown(), before);
  k.kill();
  assert.deepEqual(shown(), before);
  for (const node of Object.values(nodes)) {
    assert.equal(k.lookup(node, 'x'), 'ENOENT');
    assert.deepEqual(k.list(node), new Map());
    assert.equal(k.chmod(node, 0o700), 'ESTALE');
    k.forget(node, 100);
  }
});

test('a removed special file that a predecessor had a descriptor of is changed by nobody', {
  skip,
}, (t) => {
  const { kernel: k } = mounted(t, { lowers: [{}], upper: { fifo: { type: 'fifo' } } });
  const node = k.at('fifo');
  assert.equal(k.unlink('fifo'), 'ok');
  k.kill();
  assert.equal(k.chmod(node, 0o700), 'ESTALE');
});

test('a passthrough file keeps its backing id until its last close', { skip }, (t) => {
  const { kernel: k } = mounted(t, {
    lowers: [{}],
    upper: { f: file('content') },
    passthrough: true,
  });
  const node = k.at('f');
  const first = got(k.open(node, O.RDWR));
  assert.equal(k.backing.size, 1);
  k.kill();
  const second = got(k.open(node, O.RDONLY));
  assert.equal(k.backing.size, 1);
  assert.equal(k.read(first), 'content');
  k.release(first);
  assert.equal(k.backing.size, 1);
  k.kill();
  k.release(second);
  assert.equal(k.backing.size, 0);
});

test('exchanged and moved names lead to what they led to', { skip }, (t) => {
  const { kernel: k } = mounted(t, {
    lowers: [{ 'a/x': file('ax'), 'b/y': file('by'), f: file('f'), g: file('g') }],
  });
  assert.equal(k.rename('a', 'b', RENAME.EXCHANGE), 'ok');
  assert.equal(k.rename('f', 'g', RENAME.EXCHANGE), 'ok');
  const nodes = { a: k.at('a'), b: k.at('b'), f: k.at('f'), g: k.at('g'), 'a/y': k.at('a/y') };
  const tree = k.tree();
  sameNodes(k, nodes, () => k.kill());
  assert.deepEqual(k.tree(), tree);
});

test('nobody refers to it: the tables hold the root alone again', { skip }, (t) => {
  const { kernel: k } = mounted(t, { lowers: [{ 'a/b/c/d': file('') }] });
  const nodes = ['a', 'a/b', 'a/b/c', 'a/b/c/d'].map((path) => k.at(path));
  k.kill();
  for (const node of nodes) k.forget(node, 100);
  for (const node of nodes) assert.equal(k.getattr(node), 'ESTALE');
  k.kill();
  for (const node of nodes) assert.equal(k.getattr(node), 'ESTALE');
  assert.equal(k.at('a').lo < 10, true);
});

test('a place that another object has now is lost to the node, and to nobody else', {
  skip,
}, (t) => {
  const { kernel: k, base } = mounted(t, { lowers: [{}], upper: { f: file('old'), d: dir() } });
  const f = k.at('f');
  const d = k.at('d');
  // Against the rules, and noticed.
  const root = must(sys.open(AT.FDCWD, join(base, 'up'), SysO.DIRECTORY));
  must(sys.rename(root, 'f', 'away'));
  sys.close(root);
  makeTree(join(base, 'up'), { f: file('new') });
  k.kill();
  assert.equal(k.getattr(f), 'ESTALE');
  assert.equal(typeof k.getattr(d), 'object');
  const found = k.at('f');
  assert.notDeepEqual(found, f);
  assert.equal(k.read(got(k.open(found, O.RDONLY))), 'new');
});

test('a stack without an upper', { skip }, (t) => {
  const { kernel: k } = mounted(t, {
    lowers: [{ 'd/top': file('top') }, { 'd/low': file('low') }],
    readOnly: true,
  });
  const files = ['d/top', 'd/low'].map((path) => got(k.open(k.at(path), O.RDONLY)));
  const tree = k.tree();
  k.kill();
  assert.deepEqual(
    files.map((f) => k.read(f)),
    ['top', 'low'],
  );
  assert.deepEqual(k.tree(), tree);
});
