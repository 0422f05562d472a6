// Files for regedit: what is written reads back the same, and files of people are read as regedit reads them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { HiveDelta, KeyDelta, RegistryDelta } from '../../../src/wine/registry/delta.js';
import { parseDelta, writeDelta } from '../../../src/wine/registry/delta-text.js';
import { HIVES } from '../../../src/wine/registry/hive.js';
import { readRegedit, writeRegedit } from '../../../src/wine/registry/regedit.js';
import { campaign } from '../../support/campaign.js';
import { delta, plain } from './arbitrary.js';

const HEAD = 'Windows Registry Editor Version 5.00\r\n';

const deltaOf = (text: string) =>
  parseDelta(Buffer.from(`VARVE REGISTRY DELTA 1\n${text}`, 'latin1'));
const written = (delta: RegistryDelta) => writeRegedit(delta).toString('utf16le').slice(1);
const read = (text: string) =>
  writeDelta(readRegedit(Buffer.from(text)))
    .toString('latin1')
    .slice(24);

/** What is left of a delta behind regedit: it makes a key that it opens, and knows no times, classes or links. */
function asRegeditDoes(delta: RegistryDelta): RegistryDelta {
  const hive = (entries: HiveDelta) => {
    const result = new Map<string, KeyDelta>();
    for (const [folded, { path, deleted, present, options, set, removed }] of entries) {
      const isOpened = present || options !== undefined || set.size > 0 || removed.size > 0;
      if (!isOpened && !deleted) continue;
      result.set(folded, {
        path,
        ...(deleted && { deleted }),
        ...(isOpened && { present: true as const }),
        set,
        removed,
      });
    }
    return result;
  };
  return { system: hive(delta.system), user: hive(delta.user), userdef: hive(delta.userdef) };
}

const noLinks = ({ system }: RegistryDelta) =>
  [...system.values()].every(({ options }) => !options?.includes('#link'));

test('a delta is the same behind a file for regedit', () => {
  fc.assert(
    fc.property(delta.filter(noLinks), (change) => {
      for (const hive of HIVES) {
        const moved = {
          system: new Map(),
          user: new Map(),
          userdef: new Map(),
          [hive]: change.system,
        };
        assert.deepEqual(plain(readRegedit(writeRegedit(moved))), plain(asRegeditDoes(moved)));
      }
    }),
    { numRuns: campaign('ops', 200), seed: campaign('seed', Date.now() % 2 ** 31) },
  );
});

test('each kind of change has its line', () => {
  const change = deltaOf(`hive system
-[Software\\\\Gone]
-[Software\\\\New]
+[Software\\\\New] 5
#class="c"
@="x\\"\\\\y"
"a\\nb\\x20ac"="1"
"bin"=hex:01,02
"dw"=dword:0000002a
"lines"="a\\r\\nb"
"multi"=str(7):"a\\0"
"nul\\0"="1"
"old"=-
[System\\\\Link] 5
#link
"SymbolicLinkValue"=hex(6):5c,00
hive user
+[a\\nb]
hive userdef
+[x]
`);
  assert.equal(
    written(change),
    `${HEAD}\r
[-HKEY_LOCAL_MACHINE\\Software\\Gone]\r
\r
[-HKEY_LOCAL_MACHINE\\Software\\New]\r
[HKEY_LOCAL_MACHINE\\Software\\New]\r
; #class="c"\r
@="x\\"\\\\y"\r
"a\\nb\u20ac"="1"\r
"bin"=hex:01,02\r
"dw"=dword:0000002a\r
"lines"=hex(1):61,00,0d,00,0a,00,62,00,00,00\r
"multi"=hex(7):61,00,00,00,00,00\r
; left out, a name that regedit cannot read: nul\\x00\r
"old"=-\r
\r
; left out, a link, which regedit cannot make: HKEY_LOCAL_MACHINE\\System\\Link\r
\r
; left out, a key whose name regedit cannot read: HKEY_CURRENT_USER\\a\\x0ab\r
\r
[HKEY_USERS\\.Default\\x]\r
\r
`,
  );
});

test('a comment stands at the top', () => {
  const empty = deltaOf('');
  const text = writeRegedit(empty, { comment: 'of app\nby me' }).toString('utf16le');
  assert.equal(text, `\ufeff${HEAD}; of app\r\n; by me\r\n\r\n`);
});

for (const [what, text, expected] of [
  ['nothing', HEAD, ''],
  [
    'roots',
    `${HEAD}[hkey_classes_root\\.x]\n[HKEY_CURRENT_CONFIG\\Software]\n[HKEY_USERS\\S-1-5-21-0-0-0-1000\\A]\n[HKEY_LOCAL_MACHINE]\n`,
    'hive system\n\n+[]\n\n+[Software\\\\Classes\\\\.x]\n\n+[System\\\\CurrentControlSet\\\\Hardware Profiles\\\\Current\\\\Software]\n\nhive user\n\n+[A]\n',
  ],
  [
    'one after the other',
    `${HEAD}[HKEY_CURRENT_USER\\A\\B]\n@="1"\n"x"="2"\n"x"=-\n[-HKEY_CURRENT_USER\\A]\n"lost"="1"\n[HKEY_CURRENT_USER\\a\\C]\n"y"=-\n"y"="3"\n`,
    'hive user\n\n-[A]\n\n+[a\\\\C]\n"y"="3"\n',
  ],
  [
    'a key again',
    `${HEAD}[HKEY_CURRENT_USER\\A]\n@="1"\n[HKEY_CURRENT_USER\\a]\n"x"="2"\n`,
    'hive user\n\n+[A]\n@="1"\n"x"="2"\n',
  ],
  ['brackets in keys', `${HEAD}[HKEY_CURRENT_USER\\A [b]]\n`, 'hive user\n\n+[A \\[b\\]]\n'],
  [
    'blanks and comments',
    `  ${HEAD};c\n# d\n\n  [HKEY_CURRENT_USER\\A] ; e\n\t"x" =  dword:1  ; f\n"y"= "z" ;g\n@=- ; h\n`,
    'hive user\n\n+[A]\n@=-\n"x"=dword:00000001\n"y"="z"\n',
  ],
  [
    'bytes over lines',
    `${HEAD}[HKEY_CURRENT_USER\\A]\n"x"=hex:01,02,\\ ; c\n\n  ; d\n  0A,\\\n  b\n"y"=hex:\n"z"=hex(10001):ff\n`,
    'hive user\n\n+[A]\n"x"=hex:01,02,0a,0b\n"y"=hex:\n"z"=hex(10001):ff\n',
  ],
  [
    'a string over lines',
    `${HEAD}[HKEY_CURRENT_USER\\A]\n"x"="a\r\nb\\n\\q"\n`,
    'hive user\n\n+[A]\n"x"="a\\r\\nb\\nq"\n',
  ],
  [
    'wide strings in hex',
    `${HEAD}[HKEY_CURRENT_USER\\A]\n"x"=hex(2):e9,00,00,00\n`,
    'hive user\n\n+[A]\n"x"=str(2):"\\xe9"\n',
  ],
  [
    'narrow strings of REGEDIT4',
    'REGEDIT4\n[HKEY_CURRENT_USER\\A]\n"x"=hex(2):61,00\n"y"=hex(7):c3,a9,00,00\n"z"=hex:61,00\n',
    'hive user\n\n+[A]\n"x"=str(2):"a"\n"y"=str(7):"\\xe9\\0"\n"z"=hex:61,00\n',
  ],
  ['UTF-8', `\ufeff${HEAD}[HKEY_CURRENT_USER\\\u20ac]\n`, 'hive user\n\n+[\\x20ac]\n'],
] as const) {
  test(`read as regedit does: ${what}`, () =>
    assert.equal(read(text), expected === '' ? '' : `${expected}`));
}

test('files of a code page and of either byte order are read', () => {
  const text = `${HEAD}[HKEY_CURRENT_USER\\caf\u00e9]\n`;
  const expected = 'hive user\n\n+[caf\\xe9]\n';
  const wide = Buffer.from(`\ufeff${text}`, 'utf16le');
  for (const bytes of [Buffer.from(text, 'latin1'), wide, Buffer.from(wide).swap16()]) {
    assert.equal(writeDelta(readRegedit(bytes)).toString('latin1').slice(24), expected);
  }
});

for (const [what, text, message] of [
  [
    'another file',
    'WINE REGISTRY Version 2\n',
    'line 1: no file of regedit: it begins with Windows Registry Editor Version 5.00 or REGEDIT4',
  ],
  [
    'nothing',
    '',
    'line 1: no file of regedit: it begins with Windows Registry Editor Version 5.00 or REGEDIT4',
  ],
  ['no such root', `${HEAD}[HKLM\\a]\n`, 'line 2: a key that a prefix does not have: HKLM\\a'],
  [
    'another user',
    `${HEAD}[HKEY_USERS\\S-1-5-18\\a]\n`,
    'line 2: a key that a prefix does not have: HKEY_USERS\\S-1-5-18\\a; of users there are HKEY_CURRENT_USER and HKEY_USERS\\.Default',
  ],
  [
    'a key without end',
    `${HEAD}\n[HKEY_CURRENT_USER\n`,
    'line 3: a key without its ]: [HKEY_CURRENT_USER',
  ],
  [
    'a root deleted',
    `${HEAD}[-HKEY_CURRENT_USER]\n`,
    'line 2: a root cannot be deleted: [-HKEY_CURRENT_USER]',
  ],
  ['no =', `${HEAD}[HKEY_CURRENT_USER\\a]\n"x" "y"\n`, 'line 3: a value without =: "x" "y"'],
  [
    'an unknown form',
    `${HEAD}[HKEY_CURRENT_USER\\a]\n"x"=qword:1\n`,
    'line 3: data of no known form: qword:1',
  ],
  ['bytes', `${HEAD}[HKEY_CURRENT_USER\\a]\n"x"=hex:0g\n`, 'line 3: bytes that cannot be read: 0g'],
  [
    'a string without end',
    `${HEAD}[HKEY_CURRENT_USER\\a]\n"x"="y\n\n`,
    'line 3: a string without its end: "y',
  ],
  [
    'more behind a string',
    `${HEAD}[HKEY_CURRENT_USER\\a]\n"x"="y" z\n`,
    'line 3: something behind a string: "y" z',
  ],
] as const) {
  test(`refused: ${what}`, () =>
    assert.throws(() => readRegedit(Buffer.from(text)), { name: 'RegistryError', message }));
}
