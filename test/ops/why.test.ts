// Who owns a path: whiteouts of all forms, opaque directories, redirects, metacopy and data layers.
// Under test: src/ops/why.ts, on plain directories with user.overlay.* marks; nothing is mounted.

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { mapMemory, putBytes, scratch } from '../../src/linux/memory.js';
import { setxattrAt } from '../../src/linux/xattr.js';
import { explain, type WhyAnswer } from '../../src/ops/why.js';
import type { Layers } from '../../src/stack/mounts-known.js';
import { tempDir } from '../support/temp.js';

/** Sets `user.overlay.NAME`. */
function mark(path: string, name: string, value: string): void {
  mapMemory();
  const fd = openSync(dirname(path), 'r');
  const at = scratch + 0x20000;
  putBytes(at, basename(path));
  putBytes(at + 0x200, `user.overlay.${name}`);
  putBytes(at + 0x400, value);
  try {
    assert.ok(setxattrAt(fd, at, at + 0x200, at + 0x400, value.length, 0) >= 0, `mark ${name}`);
  } finally {
    closeSync(fd);
  }
}

interface Place {
  readonly at: (path: string) => string;
  ask(path: string, options?: Partial<Layers>): WhyAnswer;
}

/** Layers up, one, two; files as `path: text`, directories as `path/`. */
function place(t: { after(fn: () => void): void }, files: readonly string[]): Place {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['up', 'one', 'two', 'data']) mkdirSync(at(name));
  for (const file of files) {
    if (file.endsWith('/')) mkdirSync(at(file), { recursive: true });
    else {
      mkdirSync(dirname(at(file)), { recursive: true });
      writeFileSync(at(file), basename(file).startsWith('.wh.') ? '' : file);
    }
  }
  return {
    at,
    ask: (path, options = {}) =>
      explain(
        {
          lowerdirs: [at('one'), at('two')],
          datadirs: [],
          upperdir: at('up'),
          workdir: undefined,
          userxattr: true,
          whiteouts: 'kernel',
          redirectDir: 'on',
          ...options,
        },
        path,
      ),
  };
}

/** `upper owner, lower 1 hidden`; layers without the path are left out. */
const brief = (answer: WhyAnswer): string =>
  answer.layers
    .filter((layer) => layer.effect !== 'absent')
    .map((layer) => `${layer.role} ${layer.effect}`)
    .join(', ');

test('the topmost file wins; directories are merged', (t) => {
  const p = place(t, ['up/f', 'one/f', 'two/f', 'one/d/x', 'two/d/x', 'two/d/y', 'up/d/']);
  assert.equal(brief(p.ask('f')), 'upper owner, lower 1 hidden, lower 2 hidden');
  assert.equal(brief(p.ask('d')), 'upper owner, lower 1 merged, lower 2 merged');
  assert.equal(brief(p.ask('d/x')), 'lower 1 owner, lower 2 hidden');
  assert.equal(brief(p.ask('/d//y/')), 'lower 2 owner');
  assert.equal(brief(p.ask('')), 'upper owner, lower 1 merged, lower 2 merged');
  assert.deepEqual([p.ask('none').exists, brief(p.ask('none/deep'))], [false, '']);
  assert.equal(p.ask('../../f').path, 'f');
});

test('a file covers what is below it, and a directory covers a file', (t) => {
  const p = place(t, ['up/a', 'one/a/x', 'one/b/x', 'two/b', 'up/c/', 'one/c', 'two/c/x']);
  assert.equal(brief(p.ask('a')), 'upper owner, lower 1 hidden');
  assert.equal(brief(p.ask('a/x')), 'lower 1 hidden');
  assert.equal(p.ask('a/x').exists, false);
  assert.equal(brief(p.ask('b')), 'lower 1 owner, lower 2 hidden');
  // A file ends the merge: what is below it is not seen.
  assert.equal(brief(p.ask('c')), 'upper owner, lower 1 hidden, lower 2 hidden');
  assert.equal(p.ask('c/x').exists, false);
});

test('whiteouts as attribute and as aufs names', (t) => {
  const p = place(t, ['up/d/f', 'one/d/f', 'one/g', 'two/g', 'up/.wh.g', 'up/d/.wh..wh..opq']);
  writeFileSync(p.at('up/d/f'), '');
  mark(p.at('up/d/f'), 'whiteout', 'y');
  const answer = p.ask('d/f');
  assert.equal(brief(answer), 'upper whiteout, lower 1 hidden');
  assert.equal(answer.layers[1]?.because, 'whiteout of /d/f in upper');
  assert.equal(brief(p.ask('g')), 'lower 1 owner, lower 2 hidden');
  assert.equal(
    brief(p.ask('g', { whiteouts: 'aufs' })),
    'upper whiteout, lower 1 hidden, lower 2 hidden',
  );
  assert.equal(p.ask('d', { whiteouts: 'aufs' }).layers[1]?.effect, 'hidden');
});

test('an opaque directory cuts off what is below, and is told on the way', (t) => {
  const p = place(t, ['one/d/a', 'two/d/b']);
  mark(p.at('one/d'), 'opaque', 'y');
  assert.equal(brief(p.ask('d')), 'lower 1 owner, lower 2 hidden');
  const answer = p.ask('d/b');
  assert.equal(answer.exists, false);
  assert.equal(brief(answer), 'lower 2 hidden');
  assert.deepEqual(answer.way, [{ at: 'd', role: 'lower 1', mark: 'opaque' }]);
});

test('what lies on the way of a redirect counts for the layers below', (t) => {
  const p = place(t, ['up/new/', 'up/gone/', 'one/c/a/', 'one/p/', 'two/a/b/x', 'two/p/q/y']);
  mark(p.at('up/new'), 'redirect', '/c/a/b');
  mark(p.at('one/c/a'), 'redirect', '/a');
  mark(p.at('up/gone'), 'redirect', '/p/q');
  mark(p.at('one/p'), 'opaque', 'y');
  assert.equal(p.ask('new/x').owner?.path, p.at('two/a/b/x'));
  assert.equal(p.ask('gone/y').exists, false);
});

test('redirects lead elsewhere below, relative and absolute, unless they are not to be followed', (t) => {
  const p = place(t, ['up/new/', 'one/old/a', 'up/far/', 'two/x/y/b', 'up/bad/', 'two/secret/c']);
  mark(p.at('up/new'), 'redirect', 'old');
  mark(p.at('up/far'), 'redirect', '/x/y');
  mark(p.at('up/bad'), 'redirect', '/x/../secret');
  assert.equal(p.ask('new/a').owner?.path, p.at('one/old/a'));
  assert.equal(p.ask('far/b').owner?.path, p.at('two/x/y/b'));
  assert.equal(p.ask('bad/c').exists, false);
  assert.equal(p.ask('new/a', { redirectDir: 'off' }).exists, true);
  assert.equal(p.ask('new/a', { redirectDir: 'nofollow' }).exists, false);
});

test('a metacopy file has its data below, in a lower or a data layer', (t) => {
  const p = place(t, ['up/f', 'two/f', 'up/g', 'data/objects/g']);
  mark(p.at('up/f'), 'metacopy', '');
  mark(p.at('up/g'), 'metacopy', '');
  mark(p.at('up/g'), 'redirect', '/objects/g');
  assert.equal(brief(p.ask('f')), 'upper owner, lower 2 data');
  const answer = p.ask('g', { datadirs: [p.at('data')] });
  assert.equal(brief(answer), 'upper owner, data 1 data');
  assert.deepEqual(answer.layers[0]?.marks, ['redirect=/objects/g', 'metacopy']);
});

test('a symlink is never walked through', (t) => {
  const p = place(t, ['one/real/f']);
  symlinkSync('real', p.at('one/link'));
  assert.equal(p.ask('link').layers[1]?.found, 'symlink');
  assert.equal(p.ask('link/f').exists, false);
});
