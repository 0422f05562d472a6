// Changes made by hand for the tests of reports: files in memory, one line each.
// Used by html.test.ts and its neighbours.
// Paths are latin1 strings of bytes, as everywhere below the edge.

import { S } from '../../src/linux/constants.js';
import { makeNode, memoryContent, type NodeFields, type TreeNode } from '../../src/tree/tree.js';
import type { Change, Differs } from '../../src/union/change.js';

export const NONE: Differs = {
  content: false,
  mode: false,
  owner: false,
  xattr: false,
  time: false,
};

export function textFile(text: string, fields: NodeFields & { mode?: number } = {}): TreeNode {
  const bytes = Buffer.from(text);
  const { mode, ...rest } = fields;
  const content = bytes.length === 0 ? undefined : memoryContent(bytes);
  return makeNode(S.IFREG | (mode ?? 0o644), { size: bytes.length, content, ...rest });
}

export function folder(): TreeNode {
  return makeNode(S.IFDIR | 0o755);
}

export const added = (path: string, after: TreeNode): Change => ({
  path,
  status: 'A',
  after,
  differs: NONE,
  stored: after.entries === undefined ? after.size : 0,
});

export const deleted = (path: string, before: TreeNode): Change => ({
  path,
  status: 'D',
  before,
  differs: NONE,
  stored: 0,
});

export const modified = (
  path: string,
  before: TreeNode,
  after: TreeNode,
  differs: Partial<Differs> = { content: true },
): Change => ({
  path,
  status: 'M',
  before,
  after,
  differs: { ...NONE, ...differs },
  stored: after.size,
});

/** The bytes of a text as a path. */
export const utf8 = (text: string): string => Buffer.from(text).toString('latin1');
