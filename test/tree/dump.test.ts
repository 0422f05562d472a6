// Dumps: the manual's example, every escape, every refusal, and the identity of writing and reading.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { INLINE_MAX, readDump } from '../../src/tree/dump-read.js';
import { dumpText, writeDump } from '../../src/tree/dump-write.js';
import { DumpError } from '../../src/tree/errors.js';
import { add, find, makeNode, memoryContent } from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';
import { randomTree } from './random.js';

const ROOT = '/ 4096 40755 2 0 0 0 0.0 - - -';
const read = (text: string, strict = false) => readDump(Buffer.from(text, 'latin1'), { strict });
const write = (text: string) => dumpText(read(text)).toString('latin1');

test('every kind of line reads back as it was written', () => {
  const object = 'ab/cdef0123';
  const digest = '0123456789abcdef'.repeat(4);
  const text = [
    '/ 4096 40755 4 1000 1000 0 1695372970.944925700 - - - security.selinux=u:object_r:t:s0\\x00',
    '/a\\x20dir 27 40755 2 0 0 0 -1.5 - - -',
    '/a\\x20dir/\\xff 0 100644 1 0 0 0 0.0 - - -',
    '/blk 0 60660 1 0 6 107690 0.0 - - -',
    '/chr 0 20666 1 0 0 259 0.0 - - -',
    '/dash 1 120777 1 0 0 0 0.0 \\x2d - -',
    `/external 70000 100644 1 0 0 0 0.0 ${object} - ${digest}`,
    '/fifo 0 10644 1 0 0 0 0.0 - - -',
    '/inline 12 100644 2 0 0 0 0.0 - a\\x20b\\\\c\\n\\t\\r=\\x00\\xfe\\x7f - user.a\\x3db=c\\x3dd user.e=',
    '/link 11 120777 1 0 0 0 0.0 ../tar\\x20get\\n - -',
    `/other 12 @100644 2 0 0 0 0.0 /inline a\\x20b\\\\c\\n\\t\\r=\\x00\\xfe\\x7f - user.a\\x3db=c\\x3dd user.e=`,
    '/sock 0 140755 1 0 0 0 0.0 - - -',
    '',
  ].join('\n');
  assert.equal(write(text), text);
  assert.equal(write(text.slice(0, -1)), text, 'the last newline may be missing');
  const root = read(text);
  assert.equal(find(root, '/other'), find(root, '/inline'));
  assert.equal(find(root, '/inline')?.links, 2);
  assert.equal(find(root, '/external')?.backing?.path, object);
  assert.equal(find(root, '/a dir')?.mtime, -1);
  assert.equal(find(root, '/a dir')?.mtimeNsec, 5);
  assert.equal(find(root, '/link')?.target, '../tar get\n');
});

test('the name that carries the fields of a hard link is kept, wherever it stands', () => {
  const text = [
    ROOT,
    '/a 3 @100644 1 0 0 0 7.0 /d/own abc -',
    '/d 0 40755 2 0 0 0 -9007199254740991.0 - - -',
    '/d/in 3 @100644 1 0 0 0 7.0 /d/own abc -',
    '/d/own 3 100644 1 0 0 0 7.0 - abc -',
    '',
  ].join('\n');
  assert.equal(write(text), text);
});

test('hard links may come before what they mean, and mean each other', () => {
  const root = read(
    [
      ROOT,
      '/a 0 @100644 1 0 0 0 0.0 /b - -',
      '/b 0 @100644 1 0 0 0 0.0 /c - -',
      '/c 3 100600 1 0 0 0 0.0 - abc -',
    ].join('\n'),
  );
  assert.equal(find(root, 'a'), find(root, 'c'));
  assert.equal(find(root, 'c')?.links, 3);
});

const refused: readonly (readonly [what: string, lines: string, field: string, line?: number])[] = [
  ['nothing at all', '', 'PATH', 1],
  ['no root', '/a 0 100644 1 0 0 0 0.0 - - -', 'PATH', 1],
  ['two roots', ROOT, 'PATH'],
  ['a root that is a file', '/ 0 100644 1 0 0 0 0.0 - - -', 'MODE', 1],
  ['a relative path', 'a 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['an empty path', ' 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['an empty name', '// 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['a dot', '/. 0 40755 1 0 0 0 0.0 - - -', 'PATH'],
  ['two dots', '/.. 0 40755 1 0 0 0 0.0 - - -', 'PATH'],
  ['a NUL in a name', '/a\\x00b 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['a slash in a name cannot be hidden', '/a\\x2fb 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['a long name', `/${'n'.repeat(256)} 0 100644 1 0 0 0 0.0 - - -`, 'PATH'],
  ['a missing parent', '/a/b 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['a NUL byte', '/a\0 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['a size that is no number', '/a x 100644 1 0 0 0 0.0 - - -', 'SIZE'],
  ['a negative size', '/a -1 100644 1 0 0 0 0.0 - - -', 'SIZE'],
  ['a size beyond all files', '/a 9500000000000000 100644 1 0 0 0 0.0 - - -', 'SIZE'],
  ['a mode that is not octal', '/a 0 100648 1 0 0 0 0.0 - - -', 'MODE'],
  ['a mode without type', '/a 0 644 1 0 0 0 0.0 - - -', 'MODE'],
  ['a uid of 33 bits', '/a 0 100644 1 4294967296 0 0 0.0 - - -', 'UID'],
  ['a gid that is empty', '/a 0 100644 1 0  0 0.0 - - -', 'GID'],
  ['a time without point', '/a 0 100644 1 0 0 0 0 - - -', 'MTIME'],
  ['ten digits of nanoseconds', '/a 0 100644 1 0 0 0 0.1000000000 - - -', 'MTIME'],
  ['too few fields', '/a 0 100644 1 0 0 0 0.0', 'PAYLOAD'],
  ['no content of some bytes', '/a 4 100644 1 0 0 0 0.0 x/y', 'CONTENT'],
  ['an object without a word on its digest', '/a 4 100644 1 0 0 0 0.0 x/y -', 'DIGEST'],
  ['seconds that no Number holds', '/a 0 100644 1 0 0 0 9007199254740992.0 - - -', 'MTIME'],
  ['a symlink without target', '/a 0 120777 1 0 0 0 0.0 - - -', 'PAYLOAD'],
  ['a target that is too long', `/a 0 120777 1 0 0 0 0.0 ${'t'.repeat(4096)} - -`, 'PAYLOAD'],
  ['content of another size', '/a 4 100644 1 0 0 0 0.0 - abc -', 'CONTENT'],
  ['content of a directory', '/a 3 40755 1 0 0 0 0.0 - abc -', 'CONTENT'],
  ['large content', `/a 5001 100644 1 0 0 0 0.0 - ${'x'.repeat(5001)} -`, 'CONTENT'],
  ['a short digest', '/a 4 100644 1 0 0 0 0.0 x - abcd', 'DIGEST'],
  ['a digest of other letters', `/a 4 100644 1 0 0 0 0.0 x - ${'g'.repeat(64)}`, 'DIGEST'],
  ['an unknown escape', '/a\\q 0 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['half an escape', '/a 3 100644 1 0 0 0 0.0 - abc\\x4 -', 'CONTENT'],
  ['an escape at the end', '/a 3 100644 1 0 0 0 0.0 - abc\\ -', 'CONTENT'],
  ['hex that is none', '/a\\xg0 3 100644 1 0 0 0 0.0 - - -', 'PATH'],
  ['an xattr without "="', '/a 0 100644 1 0 0 0 0.0 - - - user.a', 'XATTR'],
  ['an xattr without name', '/a 0 100644 1 0 0 0 0.0 - - - =a', 'XATTR'],
  ['an xattr name that is too long', `/a 0 100644 1 0 0 0 0.0 - - - ${'k'.repeat(256)}=a`, 'XATTR'],
  [
    'an xattr value that is too long',
    `/a 0 100644 1 0 0 0 0.0 - - - k=${'v'.repeat(65_536)}`,
    'XATTR',
  ],
  ['a hard link to a directory', '/a 0 @100644 1 0 0 0 0.0 / - -', 'PAYLOAD'],
  ['a hard-linked directory', '/a 0 @40755 1 0 0 0 0.0 / - -', 'MODE'],
  ['a hard link to itself', '/a 0 @100644 1 0 0 0 0.0 /a - -', 'PAYLOAD'],
  ['a hard link to nothing', '/a 0 @100644 1 0 0 0 0.0 /b - -', 'PAYLOAD'],
  ['a hard link without path', '/a 0 @100644 1 0 0 0 0.0 - - -', 'PAYLOAD'],
];

test('malformed dumps are refused with line and field', async (t) => {
  for (const [what, line, field, at] of refused) {
    await t.test(what, () => {
      const text = at === 1 ? line : `${ROOT}\n${line}\n`;
      assert.throws(
        () => read(text),
        (error: DumpError) => {
          assert.ok(error instanceof DumpError, String(error));
          assert.deepEqual([error.line, error.field], [at ?? 2, field], error.message);
          assert.ok(!error.message.includes('\n'));
          return true;
        },
      );
    });
  }
});

test('names that stand twice, cycles of hard links, files as parents', () => {
  const file = '/a 0 100644 1 0 0 0 0.0 - - -';
  const cases: readonly (readonly string[])[] = [
    [file, file],
    [file, '/a 0 @100644 1 0 0 0 0.0 /b - -'],
    ['/a 0 @100644 1 0 0 0 0.0 /b - -', file],
    ['/a 0 @100644 1 0 0 0 0.0 /b - -', '/b 0 @100644 1 0 0 0 0.0 /a - -'],
    [file, '/a/b 0 100644 1 0 0 0 0.0 - - -'],
  ];
  for (const lines of cases) assert.throws(() => read([ROOT, ...lines].join('\n')), DumpError);
});

test('strictness refuses what contradicts a type', () => {
  for (const line of [
    '/a 0 100644 1 0 0 7 0.0 - - -\n',
    '/a 9 120777 1 0 0 0 0.0 x - -\n',
    '/a 0 10644 1 0 0 0 0.0 x - -\n',
    '/a 3 100644 1 0 0 0 0.0 x abc -\n',
    '/a 0 100644 1 0 0 0 0.0 - - -',
    '/a 0 120777 1 0 0 0 0.0 x\n',
    '/a 0 63340777 1 0 0 0 0.0 - - -\n',
    '/a 0 100644 1 0 0 0 0.0 - - - k=1 k=2\n',
  ]) {
    assert.doesNotThrow(() => read(`${ROOT}\n${line}`), line);
    assert.throws(() => read(`${ROOT}\n${line}`, true), DumpError, line);
  }
});

test('files that do not fit into a line have size and digest', () => {
  const root = makeNode(0o40755);
  const big = memoryContent(new Uint8Array(INLINE_MAX + 1));
  add(root, 'big', makeNode(0o100644, { size: INLINE_MAX + 1, content: big }));
  add(root, 'small', makeNode(0o100644, { size: 2, content: memoryContent(Buffer.from('ok')) }));
  const text = (inlineMax?: number) =>
    dumpText(root, { inlineMax, digest: (node) => node.size.toString(16).padStart(64, '0') })
      .toString('latin1')
      .split('\n');
  assert.match(text()[1] as string, /^\/big 5001 100644 .* 0\.0 - - 0+1389$/);
  assert.match(text()[2] as string, /^\/small 2 .* - ok 0+2$/);
  assert.match(text(1)[2] as string, /^\/small 2 .* - - 0+2$/);
});

test('a large dump comes in pieces, and takes no long time', () => {
  const root = makeNode(0o40755);
  for (let i = 0; i < 64_000; i++) add(root, `file-${i}`, makeNode(0o100644));
  let pieces = 0;
  writeDump(root, () => pieces++);
  assert.ok(pieces > 20);
  const text = dumpText(root);
  assert.ok(dumpText(readDump(text)).equals(text));
});

test('random tree, dump, tree: the same tree', () => {
  fc.assert(
    fc.property(randomTree(), (tree) => {
      const text = dumpText(tree);
      const back = readDump(text);
      assert.equal(showDifferences(compareTrees(tree, back)), '');
      assert.ok(dumpText(back).equals(text));
    }),
    { numRuns: campaign('rounds', 100), seed: campaign('seed', 1) },
  );
});
