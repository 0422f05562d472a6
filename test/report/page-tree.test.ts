// The page's tree, filters and treemap without a browser: what is data there is tested as data.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { documentOf } from '../../src/report/document.js';
import { itemsOf, pageData, STATUSES } from '../../src/report/page-data.js';
import { textsOf } from '../../src/report/page-texts.js';
import { applyFilter, buildTree, type Filter, pathFilter } from '../../src/report/page-tree.js';
import { modeText, sizeText, visibleText } from '../../src/report/page-words.js';
import { squarify } from '../../src/report/squarify.js';
import { expandUpTo, rowsOf, setExpanded } from '../../src/report/tree-rows.js';
import { makeNode } from '../../src/tree/tree.js';
import type { Change } from '../../src/union/change.js';
import { campaign } from '../support/campaign.js';
import { added, folder, modified, NONE, textFile } from './samples.js';

const ABOUT = { lowerdirs: ['/b'], upperdir: '/u' };
const EVERYTHING: Filter = {
  statuses: new Set(STATUSES),
  aspects: 0,
  type: undefined,
  size: 0,
  path: () => true,
};

function treeOf(changes: readonly Change[]) {
  const [tab] = pageData(documentOf(changes, ABOUT), new Map()).tabs;
  assert.ok(tab?.kind === 'files');
  const items = itemsOf(tab);
  return { items, root: buildTree(items) };
}

test('what goes into the page comes out of it', () => {
  const changes: Change[] = [
    added('a', textFile('12345')),
    added('a b', folder()),
    modified(
      'a b/\xc3\xa9',
      textFile('x', { uid: 7 }),
      textFile('yy', { mode: 0o600, xattrs: new Map([['user.k', Buffer.from('v')]]) }),
      { content: true, mode: true, owner: true, xattr: true },
    ),
    {
      path: 'z',
      from: 'y',
      status: 'R',
      before: folder(),
      after: folder(),
      differs: NONE,
      stored: 0,
    },
    { path: 'zz', status: '=', differs: NONE, stored: 0 },
  ];
  const document = documentOf(changes, ABOUT);
  const { items } = treeOf(changes);
  assert.deepEqual(
    items.map(({ path, status, type, stored, what }) => ({ path, status, type, stored, what })),
    document.changes.map(({ path, status, type, bytesInUpper, what }) => ({
      path,
      status,
      type,
      stored: bytesInUpper,
      what,
    })),
  );
  assert.deepEqual(items[2]?.attributes, ['0644', '7:0', '0600', '0:0']);
  assert.deepEqual([items[2]?.before, items[2]?.after], [1, 2]);
  assert.deepEqual([items[0]?.before, items[0]?.after], [-1, 5]);
  assert.deepEqual(items[2]?.extra.xattrs, [{ name: 'user.k', before: undefined, after: 'dg==' }]);
  assert.equal(items[3]?.extra.from, 'y');
});

test('a file that became a directory holds what is in it, and is one change', () => {
  const changes: Change[] = [
    {
      path: 'kind',
      status: 'T',
      before: textFile('x'),
      after: folder(),
      differs: { ...NONE, content: true },
      stored: 0,
    },
    added('kind/in', textFile('y')),
  ];
  const { root } = treeOf(changes);
  applyFilter(root, EVERYTHING);
  setExpanded(root, true);
  assert.deepEqual(
    rowsOf(root).map(({ node, level }) => [node.path, node.item?.status, level]),
    [
      ['kind', 'T', 1],
      ['kind/in', 'A', 2],
    ],
  );
});

test('rows: compacted directories, parents, positions; the root where it is a change itself', () => {
  const changes: Change[] = [
    modified('', folder(), folder(), { mode: true }),
    added('usr/share/doc/a', textFile('1')),
    added('usr/share/doc/b', textFile('2')),
    added('var', textFile('3')),
  ];
  const { root } = treeOf(changes);
  applyFilter(root, EVERYTHING);
  expandUpTo(root, 50);
  assert.deepEqual(
    rowsOf(root).map(({ label, level, parent, position, siblings }) => [
      label,
      level,
      parent,
      position,
      siblings,
    ]),
    [
      ['/', 1, -1, 1, 1],
      ['usr/share/doc', 1, -1, 1, 2],
      ['a', 2, 1, 1, 2],
      ['b', 2, 1, 2, 2],
      ['var', 1, -1, 2, 2],
    ],
  );
  applyFilter(root, { ...EVERYTHING, path: pathFilter('DOC b', false) });
  assert.equal(root.shown.changes, 1);
  assert.deepEqual([...root.shown.counts], [1, 0, 0, 0, 0, 0]);
  applyFilter(root, { ...EVERYTHING, path: pathFilter('^(var|usr/.*a)$', true) });
  assert.equal(root.shown.changes, 2);
  assert.throws(() => pathFilter('(', true), SyntaxError);
});

test('depth costs no stack', () => {
  const path = Array.from({ length: 20_000 }, () => 'd').join('/');
  const { root } = treeOf([added(path, textFile('deep'))]);
  applyFilter(root, EVERYTHING);
  setExpanded(root, true);
  assert.equal(rowsOf(root).length, 2);
});

test('areas are as the weights, inside the whole, and cover it', () => {
  const weights = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(
      weights,
      fc.integer({ min: 20, max: 2000 }),
      fc.integer({ min: 20, max: 2000 }),
      (list, width, height) => {
        list.sort((a, b) => b - a);
        const total = list.reduce((sum, weight) => sum + weight, 0);
        const rects = squarify(list, { x: 3, y: 5, width, height });
        rects.forEach((rect, i) => {
          const wanted = ((list[i] as number) / total) * width * height;
          assert.ok(Math.abs(rect.width * rect.height - wanted) < 0.01 + wanted * 1e-6);
          assert.ok(rect.x > 2.99 && rect.x + rect.width < 3.01 + width);
          assert.ok(rect.y > 4.99 && rect.y + rect.height < 5.01 + height);
        });
      },
    ),
    { numRuns: campaign('rounds', 200) },
  );
});

test('texts: edited before new before gone; the rest is counted', () => {
  const lines = 'line\n'.repeat(100);
  const gone: Change = {
    path: 'b',
    status: 'D',
    before: textFile(lines),
    differs: NONE,
    stored: 0,
  };
  const changes: Change[] = [
    added('a', textFile(lines)),
    gone,
    modified('c', textFile('1\n'), textFile('2\n')),
    modified('d', textFile('1\n'), textFile('1\n'), { mode: true }),
    added('e', makeNode(S.IFREG | 0o644, { size: 10 })),
    { ...added('f', textFile(lines)), link: 'a' },
  ];
  const texts = textsOf(changes, { total: 1000 });
  assert.deepEqual([...texts.of.keys()].sort(), [0, 1, 2, 4]);
  assert.deepEqual(texts.of.get(2), { id: 0, added: 1, removed: 1 });
  assert.deepEqual(texts.of.get(0), { id: 1, added: 100, removed: 0 });
  assert.equal(texts.of.get(1), 'page');
  assert.equal(texts.leftOut, 1);
  assert.equal(textsOf(changes).of.get(4), 'binary');
});

test('words', () => {
  assert.equal(modeText('4755'), 'rwsr-xr-x');
  assert.equal(modeText('7000'), '--S--S--T');
  assert.deepEqual([0, 1023, 1024, 123_456, 3e9].map(sizeText), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '121 KiB',
    '2.8 GiB',
  ]);
  assert.equal(
    visibleText('a\u202eb\n\ud800\u{1f600}\u{e0041}'),
    'a\\u{202e}b\\n\\u{d800}\u{1f600}\\u{e0041}',
  );
});
