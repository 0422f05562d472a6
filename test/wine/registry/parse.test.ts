// Registry files as data: what a key and a value are, and that nothing of a file is lost.
// Rows are what Wine's server reads (server/registry.c, server/unicode.c), odd ones included.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegistryError } from '../../../src/wine/registry/error.js';
import { escapeText, unescapeText } from '../../../src/wine/registry/escape.js';
import { fold, hasKey } from '../../../src/wine/registry/hive.js';
import { parseHive } from '../../../src/wine/registry/parse.js';
import { emptyHive, writeHive } from '../../../src/wine/registry/write.js';

const HEAD =
  'WINE REGISTRY Version 2\n;; All keys relative to REGISTRY\\\\Machine\n\n#arch=win64\n';

/** Parses latin1 text after a header, and holds it against what is written back. */
function parse(body: string, head = HEAD) {
  const bytes = Buffer.from(head + body, 'latin1');
  const hive = parseHive(bytes);
  assert.deepEqual(writeHive(hive), bytes, 'written back the same');
  return hive;
}

/** Keys as rows: path, then the values as `name=data`. */
const rows = (body: string, head = HEAD) =>
  [...parse(body, head).keys.values()].map((key) => [
    key.path,
    ...[...key.values.values()].map((value) => `${value.name}=${value.data}`),
  ]);

test('a key has a path, times, options and values', () => {
  const hive = parse(
    '\n[Software\\\\Wine] 1676758571\n#time=1d944\n#class="c"\n#link\n@="x"\n"A\\"b"=dword:00000001\n',
  );
  const key = hive.keys.get('software\\wine')!;
  assert.equal(key.path, 'Software\\Wine');
  assert.equal(key.stamp, ' 1676758571');
  assert.deepEqual(key.options, ['#time=1d944', '#class="c"', '#link']);
  assert.deepEqual(
    [...key.values],
    [
      ['', { name: '', data: '"x"' }],
      ['a"b', { name: 'A"b', data: 'dword:00000001' }],
    ],
  );
  assert.deepEqual(hive.header, [
    'WINE REGISTRY Version 2',
    ';; All keys relative to REGISTRY\\\\Machine',
    '',
    '#arch=win64',
  ]);
});

test('bytes go on in the next lines', () => {
  assert.deepEqual(rows('\n[a]\n"x"=hex(7):61,00,\\\n  62,00,\\\n  00\n"y"="z"\n\n[b]\n'), [
    ['a', 'x=hex(7):61,00,\\\n  62,00,\\\n  00', 'y="z"'],
    ['b'],
  ]);
});

for (const [what, body, expected] of [
  ['brackets and quotes in names', '\n[a\\[b\\]c] 1\n"x=\\"]"="1"\n', [['a[b]c', 'x="]="1"']]],
  ['the root of the hive', '\n[] 1\n@="r"\n', [['', '="r"']]],
  ['UTF-16 units by number', '\n[\\xe9t\\x00e9\\xd800]\n', [['\u00e9t\u00e9\ud800']]],
  [
    'UTF-8 of newer files',
    '\n[\xc3\xa9]\n"\xe2\x82\xac"="\xf0\x9f\x98\x80"\n',
    [['é', '€="\xf0\x9f\x98\x80"']],
  ],
  ['a code page of older files', '\n[\xe9]\n"caf\xe9"="\xe9"\n', [['é', 'café="\xe9"']]],
  [
    'octal and C escapes',
    '\n[a]\n"\\a\\b\\t\\n\\v\\f\\r\\e\\0\\0011\\x"="1"\n',
    [['a', '\x07\b\t\n\v\f\r\x1b\0\x011x="1"']],
  ],
  [
    'blanks before lines and around =',
    '  [a]  5\n \t"x" =  "1"\n\t@ ="2"\n',
    [['a', 'x="1"', '="2"']],
  ],
  ['no line feed at the end', '\n[a]\n"x"="1"', [['a', 'x="1"']]],
  ['a key without anything at the end', '\n[a]', [['a']]],
  [
    'comments and lines of nobody',
    '\n;c\n[a]\n;d\nnonsense\n"x"="1"\n"y\n"z" "2"\n',
    [['a', 'x="1"']],
  ],
  ['a key without its bracket', '\n[a]\n"x"="1"\n\n[b\n"y"="2"\n\n[c]\n', [['a', 'x="1"'], ['c']]],
  ['a path that begins with a backslash', '\n[\\\\a]\n@="1"\n[b]\n', [['b']]],
  ['backslashes in a row', '\n[a\\\\\\\\b\\\\]\n', [['a\\b']]],
  [
    'a key that stands twice',
    '\n[A]\n"x"="1"\n[b]\n[a]\n"X"="2"\n"y"="3"\n',
    [['A', 'x="2"', 'y="3"'], ['b']],
  ],
  ['a value that stands twice', '\n[A]\n"x"="1"\n"X"="2"\n', [['A', 'x="2"']]],
  ['bytes that never end', '\n[a]\n"x"=hex:01,\\\n', [['a', 'x=hex(0):']]],
  [
    'bytes that go on in a key',
    '\n[a]\n"x"=hex:01,\\\n[b]\n"y"="1"\n',
    [['a', 'x=hex(0):', 'y="1"']],
  ],
  ['bytes that are none', '\n[a]\n"x"=hex:0g,\\\n[b]\n', [['a', 'x=hex:0g,\\'], ['b']]],
  [
    'a string that ends with a backslash',
    '\n[a]\n"x"="c:\\\\"\n[b]\n"y"="c\\\n[c]\n',
    [['a', 'x="c:\\\\"'], ['b', 'y="c\\'], ['c']],
  ],
  ['values before any key', '\n"x"="1"\n\n[a]\n', [['a']]],
] as const) {
  test(`read as Wine does: ${what}`, () => assert.deepEqual(rows(body), expected));
}

test('lines may end with CR LF', () => {
  const hive = parse(
    '\r\n[a] 5\r\n#time=1\r\n"x"=hex:01,\\\r\n  02\r\n"y"="1"\r\n',
    HEAD.replaceAll('\n', '\r\n'),
  );
  const key = hive.keys.get('a')!;
  assert.equal(key.stamp, ' 5');
  assert.deepEqual(key.options, ['#time=1']);
  assert.deepEqual(
    [...key.values.values()].map((value) => value.data),
    ['hex:01,\\\n  02', '"1"'],
  );
});

test('a hive that somebody has changed is written from its keys, the others keeping their text', () => {
  const hive = parse('\n\n[b] 2\n;note\n"x"="1"\n\n[a] 1\n@="2"\n\n[B]\n"y"="3"\n');
  const keys = new Map(hive.keys);
  keys.set('n[]\\é', {
    path: 'N[]\\é',
    stamp: '',
    options: ['#link'],
    values: new Map([['ü', { name: 'Ü', data: '""' }]]),
  });
  assert.equal(
    writeHive({ header: hive.header, keys }).toString('latin1'),
    `${HEAD}\n[b] 2\n"x"="1"\n"y"="3"\n\n[a] 1\n@="2"\n\n[N\\[\\]\\\\\\xe9]\n#link\n"\\xdc"=""\n`,
  );
});

test('an empty hive reads back', () => {
  for (const name of ['system', 'user', 'userdef'] as const) {
    const hive = emptyHive(name, 'win32');
    const again = parseHive(writeHive(hive));
    assert.deepEqual(again.header, hive.header);
    assert.equal(again.keys.size, 0);
  }
});

for (const [what, text, message] of [
  ['nothing', '', 'line 1: no registry file: it begins with WINE REGISTRY Version 2'],
  [
    'another version',
    'WINE REGISTRY Version 1\n',
    'line 1: no registry file: it begins with WINE REGISTRY Version 2',
  ],
  [
    'regedit',
    'REGEDIT4\n\n[a]\n',
    'line 1: no registry file: it begins with WINE REGISTRY Version 2',
  ],
  [
    'an unknown architecture',
    'WINE REGISTRY Version 2\n\n#arch=arm\n',
    'line 3: unknown architecture arm',
  ],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => parseHive(Buffer.from(text)),
      (error) => {
        assert.ok(error instanceof RegistryError);
        assert.equal(error.message, message);
        return true;
      },
    );
  });
}

test('keys lie 512 deep at most', () => {
  const path = (depth: number) => Array.from({ length: depth }, () => 'k').join('\\\\');
  assert.ok(hasKey(parse(`\n[${path(512)}]\n`), 'k\\k'));
  assert.throws(() => parseHive(Buffer.from(`${HEAD}\n[a]\n[${path(513)}]\n`)), {
    message: /^line 7: a key deeper than 512 levels: k\\k/,
  });
});

test('escapes are those of dump_strW, and read back', () => {
  for (const [name, mark, written] of [
    ['a"b[c]\\', '"', 'a\\"b[c]\\\\'],
    ['a"b[c]\\', '[]', 'a"b\\[c\\]\\\\'],
    ['é', '"', '\\xe9'],
    ['éa', '"', '\\x00e9a'],
    ['ég', '"', '\\xe9g'],
    ['\0', '"', '\\0'],
    ['\x001', '"', '\\0001'],
    ['\x018', '"', '\\18'],
    ['\x1b\x07\r\n\t\x7f', '"', '\\e\\a\\r\\n\\t\x7f'],
    ['\ud83d\ude00\udc00', '"', '\\xd83d\\xde00\\xdc00'],
  ] as const) {
    assert.equal(escapeText(name, mark), written);
    assert.equal(unescapeText(written), name);
  }
});

test('names are compared unit by unit, as Wine folds them', () => {
  for (const [name, folded] of [
    ['ÄΣ', 'äσ'],
    ['ΑΣ', 'ας'.replace('ς', 'σ')],
    ['\u0130', '\u0130'],
    ['\u212a', '\u212a'],
    ['\u01c5', '\u01c5'],
    ['\ud83d\ude00X', '\ud83d\ude00x'],
    ['ẞß', 'ẞß'],
  ]) {
    assert.equal(fold(name), folded);
    assert.equal(fold(name).length, name.length);
  }
});

test('a key is there when one below it is', () => {
  const hive = parse('\n[A\\\\B\\\\C]\n');
  for (const path of ['', 'a', 'A\\b', 'a\\B\\c']) assert.ok(hasKey(hive, path), path);
  for (const path of ['a\\b\\c\\d', 'b', 'a\\']) assert.ok(!hasKey(hive, path), path);
});
