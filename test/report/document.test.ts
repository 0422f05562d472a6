// The document of `varve diff --json`: every status and aspect, paths that are no UTF-8, sums.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { documentOf } from '../../src/report/document.js';
import { readable } from '../../src/report/readable.js';
import { makeNode } from '../../src/tree/tree.js';
import type { Change, Differs } from '../../src/union/change.js';

const NONE: Differs = { content: false, mode: false, owner: false, xattr: false, time: false };
const file = (size: number, fields = {}) => makeNode(S.IFREG | 0o644, { size, ...fields });
const about = { lowerdirs: ['/b', '/a'], upperdir: '/u' };
const plain = (value: unknown) => JSON.parse(JSON.stringify(value));

test('one change of each status, as JSON', () => {
  const changes: Change[] = [
    { path: 'new', status: 'A', after: file(5), differs: NONE, stored: 5 },
    {
      path: 'mod',
      status: 'M',
      before: file(10, { mtime: -1, xattrs: new Map([['user.a', Buffer.from('x')]]) }),
      after: makeNode(S.IFREG | 0o4755, { size: 12, uid: 3, mtime: 1e15, mtimeNsec: 7 }),
      differs: { content: true, mode: true, owner: true, xattr: true, time: true },
      stored: 12,
    },
    { path: 'gone', status: 'D', before: makeNode(S.IFDIR | 0o755), differs: NONE, stored: 0 },
    {
      path: 'd/to',
      from: 'd/from',
      status: 'R',
      before: file(1),
      after: file(1),
      differs: NONE,
      stored: 0,
    },
    {
      path: 'kind',
      status: 'T',
      before: makeNode(S.IFLNK | 0o777, { target: 'x\xff' }),
      after: makeNode(S.IFBLK | 0o600, { rdev: 0x801 | (1 << 20) }),
      differs: { ...NONE, content: true },
      stored: 0,
    },
    { path: 'same', status: '=', before: file(9), after: file(9), differs: NONE, stored: 9 },
    {
      path: 'touched',
      status: '=',
      before: file(3, { mtime: 1 }),
      after: file(3, { mtime: 2, mtimeNsec: 5 }),
      differs: { ...NONE, time: true },
      stored: 3,
    },
    { path: 'new2', status: 'A', after: file(5), differs: NONE, stored: 0, link: 'new' },
    { path: 'nothing', status: '=', differs: NONE, stored: 0 },
    {
      path: 'd',
      status: '=',
      before: makeNode(S.IFDIR | 0o755),
      after: makeNode(S.IFDIR | 0o755),
      differs: NONE,
      stored: 0,
    },
  ];
  const document = plain(documentOf(changes, about));
  assert.deepEqual(document.stack, about);
  assert.deepEqual(document.summary, {
    added: 2,
    modified: 1,
    deleted: 1,
    renamed: 1,
    typeChanged: 1,
    identical: 3,
    identicalBytes: 12,
    bytesAdded: 7,
    bytesStored: 29,
  });
  const [added, modified, deleted, renamed, typed, same, touched, linked] = document.changes;
  assert.deepEqual(added, {
    path: 'new',
    status: 'A',
    type: 'file',
    what: [],
    size: { after: 5 },
    mode: { after: '0644' },
    owner: { after: [0, 0] },
    bytesInUpper: 5,
  });
  assert.deepEqual(modified, {
    path: 'mod',
    status: 'M',
    type: 'file',
    what: ['content', 'mode', 'owner', 'xattr', 'time'],
    size: { before: 10, after: 12 },
    mode: { before: '0644', after: '4755' },
    owner: { before: [0, 0], after: [3, 0] },
    time: { before: '1969-12-31T23:59:59.000000000Z', after: '@1000000000000000' },
    xattrs: [{ name: 'user.a', before: 'eA==' }],
    bytesInUpper: 12,
  });
  assert.equal(deleted.type, 'directory');
  assert.deepEqual(deleted.mode, { before: '0755' });
  assert.equal(renamed.from, 'd/from');
  assert.equal(typed.typeBefore, 'symlink');
  assert.deepEqual(typed.target, { before: 'x\\xff' });
  assert.deepEqual(typed.device, { after: 'b 8:257' });
  assert.deepEqual(typed.mode, { after: '0600' });
  assert.deepEqual(same.what, []);
  assert.equal(touched.time.after, '1970-01-01T00:00:02.000000005Z');
  assert.equal(linked.link, 'new');
});

test('paths that are no UTF-8 are readable, and exact beside it', () => {
  const rows: [string, string][] = [
    ['c3a9', 'é'],
    ['ff', '\\xff'],
    ['61c328e282ac', 'a\\xc3(€'],
    ['eda080', '\\xed\\xa0\\x80'],
    ['c080', '\\xc0\\x80'],
    ['f09f9880f09f98', '😀\\xf0\\x9f\\x98'],
    ['efbbbf61', '\ufeffa'],
    ['f4908080', '\\xf4\\x90\\x80\\x80'],
  ];
  for (const [hex, text] of rows) {
    const bytes = Buffer.from(hex, 'hex');
    const shown = readable(bytes.toString('latin1'));
    assert.equal(shown.text, text, hex);
    const isUtf8 = Buffer.from(bytes.toString('utf8')).equals(bytes);
    assert.equal(shown.bytes, isUtf8 ? undefined : bytes.toString('base64'), hex);
  }
  const change: Change = {
    path: 'a/\xff',
    from: 'b/\xfe',
    status: 'R',
    before: file(1),
    after: file(1),
    differs: NONE,
    stored: 0,
  };
  const [entry] = documentOf([change], about).changes;
  assert.equal(entry?.path, 'a/\\xff');
  assert.equal(entry?.pathBytes, Buffer.from('a/\xff', 'latin1').toString('base64'));
  assert.equal(entry?.fromBytes, Buffer.from('b/\xfe', 'latin1').toString('base64'));
});
