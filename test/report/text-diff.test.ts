// Hunks: what is shown of two texts, the bounds on the search, and what has no lines.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { diffTexts, textOf } from '../../src/report/text-diff.js';
import { makeNode, memoryContent } from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';

/** The new text from the old one and the hunks. */
function patched(old: string, hunks: ReturnType<typeof diffTexts>['hunks']): string {
  const lines = old.split('\n').map((line, i, all) => (i + 1 < all.length ? `${line}\n` : line));
  if (lines.at(-1) === '') lines.pop();
  let out = '';
  let at = 0;
  for (const hunk of hunks) {
    const start = hunk.oldStart - (hunk.oldLines === 0 ? 0 : 1);
    while (at < start) out += lines[at++];
    hunk.lines.forEach((line, i) => {
      if (line.startsWith('\\')) return;
      const text = line.slice(1) + (hunk.lines[i + 1]?.startsWith('\\') ? '' : '\n');
      if (line[0] !== '+') assert.equal(text, lines[at++]);
      if (line[0] !== '-') out += text;
    });
  }
  return out + lines.slice(at).join('');
}

test('hunks applied to the old text give the new one', () => {
  const text = fc.string({ unit: fc.constantFrom('a\n', 'b\n', 'c\n', '\n', 'd'), maxLength: 60 });
  fc.assert(
    fc.property(text, text, (old, now) => {
      assert.equal(patched(old, diffTexts(old, now).hunks), now);
    }),
    { numRuns: campaign('rounds', 2000) },
  );
});

test('a rewritten file, and one with more changes than are searched for, cost little', () => {
  const lines = (n: number, word: string) => Array.from({ length: n }, (_, i) => `${word} ${i}\n`);
  const started = process.cpuUsage();
  const rewritten = diffTexts(lines(30_000, 'old').join(''), lines(30_000, 'new').join(''));
  assert.deepEqual([rewritten.added, rewritten.removed], [30_000, 30_000]);
  assert.equal(rewritten.similarity, 0);
  const old = lines(30_000, 'x');
  // Every line is on both sides, and none where it was.
  const shuffled = old.map((_, i) => old[(i * 7919) % 30_000]).join('');
  assert.equal(patched(old.join(''), diffTexts(old.join(''), shuffled).hunks), shuffled);
  assert.ok(process.cpuUsage(started).user < 5e6, 'the search is bounded');
});

test('one line in the middle of many is one hunk', () => {
  const old = Array.from({ length: 20_000 }, (_, i) => `${i % 7}\n`);
  const diff = diffTexts(old.join(''), old.with(9_999, 'here\n').join(''));
  assert.equal(diff.hunks.length, 1);
  assert.deepEqual(
    diff.hunks[0]?.lines.filter((line) => line[0] !== ' '),
    ['-3', '+here'],
  );
  assert.equal(diff.hunks[0]?.oldStart, 9_997);
  assert.equal(diff.similarity, 99);
});

test('what has no lines says why', () => {
  const file = (fields: object) => makeNode(S.IFREG | 0o644, fields);
  const memory = (text: string) => ({
    size: text.length,
    content: memoryContent(Buffer.from(text, 'latin1')),
  });
  assert.equal(textOf(file(memory('a\xff\n'))), 'a\xff\n');
  assert.equal(textOf(makeNode(S.IFLNK | 0o777, { target: '../x' })), '../x');
  assert.equal(textOf(undefined), '');
  assert.equal(textOf(makeNode(S.IFDIR | 0o755)), '');
  assert.deepEqual(textOf(file(memory('a\0b'))), { why: 'binary' });
  assert.deepEqual(textOf(file({ size: 5 })), { why: 'binary' }, 'a hole');
  assert.deepEqual(textOf(file(memory('12345')), 4), { why: 'large' });
  assert.deepEqual(textOf(file({ size: 5, backing: { path: 'ab/cd' } })), { why: 'elsewhere' });
  const gone = file({
    size: 1,
    content: {
      open: () => {
        throw new Error('gone');
      },
    },
  });
  assert.deepEqual(textOf(gone), { why: 'unreadable', detail: 'gone' });
});
