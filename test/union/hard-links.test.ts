// Hard links of lowers, of which an upper with an index has changed one name: all names are told, and stay one file.
// Under test: src/union/{index-names,further-names,changes,delta}.ts over uppers of the kernel with index=on.

import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  fchmodSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { asStack, openLayers } from '../../src/ops/open-stack.js';
import { nameStatus } from '../../src/report/name-status.js';
import { find } from '../../src/tree/tree.js';
import { type Change, isNews } from '../../src/union/change.js';
import { readChanges, type Stack } from '../../src/union/changes.js';
import { deltaTree } from '../../src/union/delta.js';
import { run } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const skip = requires({ root: true, features: ['overlayfs', 'tmpfs'] });

interface Told {
  /** As `git diff --name-status`, `=` left out. */
  readonly news: string;
  readonly all: readonly Change[];
  readonly stack: Stack;
}

/** A lower with d/a, d/b and e/c as one file, and x; changed by `act` on a kernel overlayfs with an index. */
function changed(t: TestContext, act: (mount: string) => void): Told {
  const folder = tempDir(t);
  run('mount', ['-t', 'tmpfs', 'none', folder]);
  const at = (name: string): string => join(folder, name);
  for (const name of ['lower', 'upper', 'work', 'mnt', 'lower/d', 'lower/e']) mkdirSync(at(name));
  writeFileSync(at('lower/d/a'), 'linked\n');
  linkSync(at('lower/d/a'), at('lower/d/b'));
  linkSync(at('lower/d/a'), at('lower/e/c'));
  writeFileSync(at('lower/x'), 'x');
  const layers = `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')}`;
  const options = `${layers},index=on,redirect_dir=on`;
  run('mount', ['-t', 'overlay', 'overlay', '-o', options, at('mnt')]);
  try {
    act(at('mnt'));
  } finally {
    run('umount', [at('mnt')]);
  }
  const opened = openLayers({
    layers: {
      lowerdirs: [at('lower')],
      datadirs: [],
      upperdir: at('upper'),
      workdir: at('work'),
      userxattr: false,
      whiteouts: 'kernel',
      redirectDir: 'on',
    },
  });
  t.after(() => opened.close());
  const stack = asStack(opened);
  const all = readChanges(stack);
  return { news: nameStatus(all.filter(isNews)), all, stack };
}

/** The names of one file in the layer of a change. */
function linked({ stack, all }: Told, ...paths: string[]): boolean {
  const root = deltaTree(stack, all, { marks: 'trusted.overlay.' });
  const nodes = new Set(paths.map((path) => find(root, path)));
  return nodes.size === 1 && !nodes.has(undefined);
}

test('a change through one name is told of all', { skip }, (t) => {
  const told = changed(t, (mount) => appendFileSync(join(mount, 'd/b'), 'more\n'));
  assert.equal(told.news, 'M\td/a\nM\td/b\nM\te/c\n');
  const [first, second] = told.all.filter(isNews);
  assert.deepEqual([first?.link, second?.link].filter((link) => link !== undefined).length, 1);
  assert.ok(linked(told, 'd/a', 'd/b', 'e/c'));
});

test('a new name is one more of the same file', { skip }, (t) => {
  const told = changed(t, (mount) => linkSync(join(mount, 'd/a'), join(mount, 'new')));
  assert.equal(told.news, 'A\tnew\n');
  assert.ok(linked(told, 'd/a', 'd/b', 'e/c', 'new'));
});

test('a removed name changes nothing of the others', { skip }, (t) => {
  const told = changed(t, (mount) => rmSync(join(mount, 'd/a')));
  assert.equal(told.news, 'D\td/a\n');
});

test('a change through a descriptor whose name is gone', { skip }, (t) => {
  const told = changed(t, (mount) => {
    const fd = openSync(join(mount, 'd/a'), 'r+');
    rmSync(join(mount, 'd/a'));
    fchmodSync(fd, 0o600);
    closeSync(fd);
  });
  assert.equal(told.news, 'D\td/a\nM\td/b\nM\te/c\n');
  assert.ok(linked(told, 'd/b', 'e/c'));
});

test('names below a renamed directory', { skip }, (t) => {
  const told = changed(t, (mount) => {
    renameSync(join(mount, 'd'), join(mount, 'moved'));
    appendFileSync(join(mount, 'e/c'), 'more\n');
  });
  assert.equal(told.news, 'M\te/c\nR100\td\tmoved\nM\tmoved/a\nM\tmoved/b\n');
  assert.ok(linked(told, 'moved/a', 'moved/b', 'e/c'));
});

test('a renamed directory has files with names elsewhere, and nothing else has changed', {
  skip,
}, (t) => {
  const told = changed(t, (mount) => renameSync(join(mount, 'd'), join(mount, 'moved')));
  assert.equal(told.news, 'R100\td\tmoved\n');
  assert.ok(linked(told, 'moved/a', 'moved/b', 'e/c'));
});
