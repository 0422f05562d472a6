// Changed keys as text and as the data of the page: what is counted, drawn, written for scripts, filtered.
// Under test: src/report/keys*.ts, without a registry and without a browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { changesIn, type KeyChange, keysDocument } from '../../src/report/keys.js';
import { keysNameStatus, keysStat } from '../../src/report/keys-lines.js';
import { keysOutline, keysSummaryLine } from '../../src/report/keys-outline.js';
import { keyItemsOf, keysTab } from '../../src/report/keys-page.js';
import {
  applyKeyFilter,
  buildKeys,
  type KeyFilter,
  type KeyNode,
  shownKeys,
} from '../../src/report/keys-tree.js';
import { dataWords } from '../../src/report/keys-words.js';
import { rowsOf, setExpanded } from '../../src/report/tree-rows.js';
import { campaign } from '../support/campaign.js';
import { binary, dword, KEYS, lines, text } from './key-samples.js';

test('counts: keys and values apart, noise beside them', () => {
  const { summary, keys } = keysDocument(KEYS, false);
  assert.deepEqual(summary, {
    keys: { added: 2, modified: 1, deleted: 2 },
    values: { added: 4, modified: 2, deleted: 3 },
    noise: 2,
  });
  assert.equal(changesIn(summary), 14);
  assert.ok(!keys.some(({ path }) => /Wine|Older/.test(path)), 'noise is left out');
  assert.deepEqual(keysDocument(KEYS, true).keys, KEYS);
  assert.equal(
    keysSummaryLine(summary, false),
    '5 keys: 2 added, 1 modified, 2 deleted; 9 values: 4 added, 2 modified, 3 deleted; 2 of noise: --noise lists them',
  );
  assert.equal(keysSummaryLine(keysDocument([], false).summary, false), 'no changes');
});

test('the tree of text: values with both sides, a deleted key on one line, noise marked', () => {
  assert.equal(
    keysOutline(keysDocument(KEYS, false)),
    [
      '├── HKEY_CURRENT_USER\\',
      '│   ├── Control Panel\\Desktop\\',
      '│   │   └── M Wallpaper      REG_SZ              "C:\\windows\\old.bmp" → "C:\\windows\\new.bmp"',
      '│   └── A Software\\Acme\\',
      '│       └── A Editor/2\\',
      '│           ├── A (Default)  REG_SZ              "The editor"',
      '│           ├── A Count      REG_DWORD           0x00001267 (4711)',
      '│           ├── A Keys       REG_BINARY          00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f … (19 bytes)',
      '│           └── A Recent     REG_MULTI_SZ        "one", "two"',
      '└── HKEY_LOCAL_MACHINE\\Software\\',
      '    ├── M Classes\\.txt\\                          -#class="old" +#class="new"',
      '    │   ├── M (Default)      REG_SZ → REG_DWORD  "txtfile" → 0x00000001 (1)',
      '    │   └── D Perceived      REG_SZ              "text"',
      '    └── D Microsoft\\Old\\                         with 1 key and 2 values',
      '',
    ].join('\n'),
  );
  const all = keysOutline(keysDocument(KEYS, true), { colours: true });
  assert.match(all, /A Older\\\x1b\[0m.*\(noise: a cache\)/);
  assert.match(all, /"437" → "850" {2}\(noise: fonts\)/);
  const hostile: KeyChange = {
    path: 'HKEY_CURRENT_USER\\a\x1b[2Jb\u202e',
    status: 'A',
    values: [{ name: 'n\nm', status: 'A', after: text('x\ry') }],
  };
  assert.match(
    keysOutline(keysDocument([hostile], false)),
    /a\\x1b\[2Jb\\u202e.*\n.*n\\x0am.*x\\x0dy/,
  );
});

test('for scripts: a line for each key and value, quoted where it must be', () => {
  const document = keysDocument(KEYS, false);
  const all = keysNameStatus(document).split('\n');
  assert.deepEqual(all.slice(0, 4), [
    'M\tHKEY_CURRENT_USER\\Control Panel\\Desktop\\\tWallpaper',
    'A\tHKEY_CURRENT_USER\\Software\\Acme\\',
    'A\tHKEY_CURRENT_USER\\Software\\Acme\\Editor/2\\',
    'A\tHKEY_CURRENT_USER\\Software\\Acme\\Editor/2\\\t@',
  ]);
  assert.equal(all.length, 14 + 1, 'every change, and the end');
  const fields = keysNameStatus(document, { z: true }).split('\0');
  assert.equal(fields.length, 14 * 3 + 1, 'three fields each');
  const odd: KeyChange = {
    path: 'HKEY_CURRENT_USER\\a\tb',
    status: 'M',
    values: [
      { name: '@', status: 'D', before: dword(1) },
      { name: 'é"', status: 'A', after: dword(1) },
    ],
  };
  assert.equal(
    keysNameStatus(keysDocument([odd], false)),
    'D\t"HKEY_CURRENT_USER\\\\a\\tb\\\\"\t"@"\nA\t"HKEY_CURRENT_USER\\\\a\\tb\\\\"\t"\\303\\251\\""\n',
  );
});

test('--stat: one line a key', () => {
  const stat = keysStat(keysDocument(KEYS, false), { width: 100 }).split('\n');
  assert.equal(stat[0], ' HKEY_CURRENT_USER\\Control Panel\\Desktop         | 1 ~');
  assert.equal(stat[4], ' HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Old       | 2 --');
  const narrow = keysStat(keysDocument(KEYS, false), { width: 50 });
  assert.ok(
    narrow.split('\n').every((line) => line.length <= 50),
    narrow,
  );
});

test('data in words', () => {
  assert.equal(dataWords(text('')), '""');
  assert.equal(dataWords(text('x'.repeat(200))), `"${'x'.repeat(120)}…" (200 characters)`);
  assert.equal(dataWords(dword(0xffffffff)), '0xffffffff (4294967295)');
  assert.equal(dataWords({ type: 'REG_QWORD', size: 8, number: 255 }), '0x00000000000000ff (255)');
  assert.equal(dataWords(binary('')), '(empty)');
  assert.equal(dataWords(binary('0aff')), '0a ff');
  assert.equal(dataWords(lines()), '(no lines)');
  assert.equal(
    dataWords(lines('a'.repeat(110), 'b'.repeat(20), 'c')).endsWith('… (3 lines)'),
    true,
  );
});

test('what goes into the page comes out of it; long data is cut and says so', () => {
  const tab = keysTab(keysDocument(KEYS, true), 'registry', 'Registry');
  const items = keyItemsOf(JSON.parse(JSON.stringify(tab)));
  const plain = items.map(({ index: _, noise, values, ...key }) => ({
    ...key,
    ...(noise === undefined ? {} : { noise }),
    values: values.map(({ name, status, noise: why, before, after }) => {
      const side = (data: typeof before) => {
        if (data === undefined) return {};
        const { isCut, ...rest } = data;
        assert.equal(isCut, false);
        return rest;
      };
      return {
        name,
        status,
        ...(why === undefined ? {} : { noise: why }),
        ...(before === undefined ? {} : { before: side(before) }),
        ...(after === undefined ? {} : { after: side(after) }),
      };
    }),
  }));
  assert.deepEqual(plain, KEYS);
  const long: KeyChange = {
    path: 'K',
    status: 'M',
    values: [
      { name: 'b', status: 'A', after: binary('ab'.repeat(5000)) },
      { name: 'l', status: 'A', after: lines('x'.repeat(4095), 'y', 'z') },
      { name: 'm', status: 'A', after: lines('x'.repeat(4000), '') },
    ],
  };
  const [key] = keyItemsOf(keysTab(keysDocument([long], true), 'r', 'R'));
  assert.deepEqual(
    key?.values.map(({ after }) => after?.isCut),
    [true, true, false],
  );
  assert.equal(key?.values[0]?.after?.size, 5000);
});

const everything: KeyFilter = {
  statuses: new Set(['A', 'M', 'D']),
  noise: true,
  type: undefined,
  text: () => true,
};

function treeOf(keys: readonly KeyChange[], filter: Partial<KeyFilter> = {}): KeyNode {
  const root = buildKeys(keyItemsOf(keysTab(keysDocument(keys, true), 'r', 'R')));
  applyKeyFilter(root, { ...everything, ...filter });
  setExpanded(root, true);
  return root;
}

const rowsIn = (root: KeyNode): string[] =>
  rowsOf(root, '\\').map(
    ({ label, level, node }) => `${' '.repeat(level - 1)}${label} ${node.shown.changes}`,
  );

test('the tree of the page, and what filters leave of it', () => {
  assert.deepEqual(rowsIn(treeOf(KEYS)), [
    'HKEY_CURRENT_USER 8',
    ' Control Panel\\Desktop 1',
    ' Software 7',
    '  Acme 6',
    '   Editor/2 5',
    '  Wine\\Fonts 1',
    'HKEY_LOCAL_MACHINE\\Software 8',
    ' Classes\\.txt 3',
    ' Microsoft 5',
    '  Old 4',
    '   Below 2',
    '  Older 1',
  ]);
  const left = (filter: Partial<KeyFilter>): string[] =>
    shownKeys(treeOf(KEYS, filter)).map(({ path, own }) =>
      [path.split('\\').at(-1), own.key ? 'key' : '', ...own.values.map(({ name }) => name || '@')]
        .filter((word) => word !== '')
        .join(' '),
    );
  assert.deepEqual(left({ noise: false, statuses: new Set(['M']) }), [
    'Desktop Wallpaper',
    '.txt key @',
  ]);
  assert.deepEqual(left({ type: 'REG_DWORD' }), ['Editor/2 Count', '.txt @', 'Old x']);
  assert.deepEqual(
    left({ text: (words) => words.includes('new.bmp') }),
    ['Desktop Wallpaper'],
    'data is searched',
  );
  assert.deepEqual(left({ text: (words) => words.includes('4711') }), ['Editor/2 Count']);
  assert.deepEqual(left({ text: (words) => words.includes('two') }), ['Editor/2 Recent']);
});

test('every change is counted once in the tree, whatever its path', () => {
  const part = fc.constantFrom('a', 'A', 'b', '', 'a b', '__proto__', 'constructor', '/');
  const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('\\'));
  const key = fc.record({
    path,
    status: fc.constantFrom('A' as const, 'M' as const, 'D' as const),
    values: fc.array(
      fc.record({
        name: fc.string({ maxLength: 3 }),
        status: fc.constant('A' as const),
        after: fc.constant(text('x')),
      }),
      { maxLength: 3 },
    ),
  });
  const unique = fc.uniqueArray(key, { selector: ({ path: p }) => p.toLowerCase(), maxLength: 20 });
  fc.assert(
    fc.property(unique, (keys) => {
      const { summary } = keysDocument(keys, true);
      const root = treeOf(keys);
      assert.equal(root.shown.changes, changesIn(summary));
      const shown = shownKeys(root).reduce(
        (n, { own }) => n + own.values.length + (own.key ? 1 : 0),
        0,
      );
      assert.equal(shown, changesIn(summary));
    }),
    { numRuns: campaign('rounds', 200) },
  );
});
