// How much of a renamed file is what it was, in percent: the number behind git's R.
// Used by name-status.ts and by patches; reads both files, unless they are known to be equal.
// Follows the idea of git's diffcore-delta.c: both files in pieces that end at a newline or after 64 bytes.

import { S } from '../linux/constants.js';
import type { TreeNode } from '../tree/tree.js';
import type { Change } from '../union/change.js';

/** Bytes of a file that are worth reading for a number that nobody computes with. */
const MAX_SIZE = 64 << 20;
const PIECE = 64;
const CHUNK = 256 * 1024;
/** Said of what is not compared: different, and not wholly. */
const UNKNOWN = 50;

/** 0 to 100; 100 only when the content is the same. */
export function similarity(change: Change): number {
  const { before, after, differs } = change;
  if (!differs.content || before === undefined || after === undefined) return 100;
  const areFiles = [before, after].every(({ mode }) => (mode & S.IFMT) === S.IFREG);
  if (!areFiles || before.size === 0 || after.size === 0) return 0;
  if (before.size > MAX_SIZE || after.size > MAX_SIZE) return UNKNOWN;
  const pieces = new Map<string, number>();
  forEachPiece(before, (piece) => {
    pieces.set(piece, (pieces.get(piece) ?? 0) + 1);
  });
  let common = 0;
  forEachPiece(after, (piece) => {
    const left = pieces.get(piece) ?? 0;
    if (left === 0) return;
    pieces.set(piece, left - 1);
    common += piece.length;
  });
  return Math.min(99, Math.floor((common * 100) / Math.max(before.size, after.size)));
}

function forEachPiece(node: TreeNode, use: (piece: string) => void): void {
  if (node.content === undefined) return;
  const content = node.content.open();
  try {
    const buffer = Buffer.alloc(Math.min(CHUNK, node.size));
    let piece = '';
    for (let at = 0; at < node.size; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, node.size - at));
      content.read(at, part);
      const text = part.toString('latin1');
      for (let from = 0; from < text.length; ) {
        const room = from + PIECE - piece.length;
        const newline = text.indexOf('\n', from);
        const end = Math.min(text.length, room, newline < 0 ? text.length : newline + 1);
        piece += text.slice(from, end);
        from = end;
        if (piece.length < PIECE && !piece.endsWith('\n')) continue;
        use(piece);
        piece = '';
      }
    }
    if (piece !== '') use(piece);
  } finally {
    content.close();
  }
}
