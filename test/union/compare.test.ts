// What of an object is another now, where its bytes cannot be had.
// Under test: src/union/compare.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { TreeError } from '../../src/tree/errors.js';
import { makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';
import { compareNodes, SAME } from '../../src/union/compare.js';

const file = (text: string): TreeNode =>
  makeNode(S.IFREG | 0o644, { size: text.length, content: memoryContent(Buffer.from(text)) });

/** As a file of a live mount that somebody writes to. */
function changing(text: string): TreeNode {
  const open = (): never => {
    throw new TreeError('changed while the tree was read');
  };
  return makeNode(S.IFREG | 0o644, { size: text.length, content: { open } });
}

test('bytes that cannot be read are not the same, and nothing fails for them', () => {
  assert.deepEqual(compareNodes(file('abc'), file('abc')), SAME);
  assert.deepEqual(compareNodes(file('abc'), file('abd')), { ...SAME, content: true });
  assert.deepEqual(compareNodes(file('abc'), changing('abc')), { ...SAME, content: true });
  assert.deepEqual(compareNodes(changing('abc'), changing('abc'), true), SAME);
  const broken = makeNode(S.IFREG | 0o644, {
    size: 3,
    content: {
      open: () => {
        throw new RangeError('a mistake of ours');
      },
    },
  });
  assert.throws(() => compareNodes(file('abc'), broken), RangeError);
});
