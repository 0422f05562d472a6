// What differs between two contents, as hunks of lines; and of what is no text, why it has none.
// Called by patch.ts (a patch) and page-texts.ts (the HTML page).
// Hunks are those of POSIX diff -u; a file is no text when it holds a NUL byte.

import { S } from '../linux/constants.js';
import type { OpenContent, TreeNode } from '../tree/tree.js';
import { type Edit, editsOf, splitLines } from './lines.js';

/** Lines that changed, with what stands around them. Line numbers from 1; of an empty side: the line before it. */
export interface Hunk {
  readonly oldStart: number;
  readonly oldLines: number;
  readonly newStart: number;
  readonly newLines: number;
  /**
   * Without newlines, each with ` `, `-` or `+` before it. `\` tells that the line before has no newline in its file.
   */
  readonly lines: readonly string[];
}

export interface TextDiff {
  readonly hunks: readonly Hunk[];
  /** Lines. */
  readonly added: number;
  readonly removed: number;
  /** Percent of the bytes that both have; 100 only of what is equal. */
  readonly similarity: number;
}

/** Why there are no lines. `elsewhere`: the bytes are an object of a store. `unreadable`: with the reason. */
export interface NoText {
  readonly why: 'binary' | 'large' | 'elsewhere' | 'unreadable';
  readonly detail?: string;
}

/** Bytes of a file beyond which nobody compares lines for the page. */
export const TEXT_LIMIT = 1024 * 1024;

const CONTEXT = 3;

/** The bytes of a file or of a symlink's target as a latin1 string; `` for undefined. */
export function textOf(node: TreeNode | undefined, limit = TEXT_LIMIT): string | NoText {
  const bytes = bytesOf(node, limit, true);
  if (!(bytes instanceof Uint8Array)) return bytes;
  return bytes.toString('latin1');
}

/** Where nearly everything that is no text has a NUL byte. */
const HEAD = 4096;

/**
 * The same as bytes. @param limit bytes; a larger file is `large`, and not read. @param onlyText whether what has a NUL byte
 * is wanted: when not it is `binary`, mostly after one small read.
 */
export function bytesOf(
  node: TreeNode | undefined,
  limit: number,
  onlyText = false,
): Buffer | NoText {
  if (node === undefined) return Buffer.alloc(0);
  if (node.target !== undefined) return Buffer.from(node.target, 'latin1');
  if ((node.mode & S.IFMT) !== S.IFREG || node.size === 0) return Buffer.alloc(0);
  if (node.backing !== undefined && node.content === undefined) return { why: 'elsewhere' };
  if (node.content === undefined && onlyText) return { why: 'binary' };
  if (node.size > limit) return { why: 'large' };
  if (node.content === undefined) return Buffer.alloc(node.size);
  try {
    const content = node.content.open();
    try {
      return readFrom(content, node.size, onlyText);
    } finally {
      content.close();
    }
  } catch (error) {
    return { why: 'unreadable', detail: error instanceof Error ? error.message : String(error) };
  }
}

function readFrom(content: OpenContent, size: number, onlyText: boolean): Buffer | NoText {
  const head = Math.min(size, HEAD);
  const bytes = Buffer.alloc(onlyText ? head : size);
  content.read(0, bytes);
  if (onlyText && bytes.includes(0)) return { why: 'binary' };
  if (bytes.length === size) {
    content.check?.();
    return bytes;
  }
  const whole = Buffer.alloc(size);
  whole.set(bytes);
  content.read(head, whole.subarray(head));
  content.check?.();
  return whole.includes(0) ? { why: 'binary' } : whole;
}

/** @param before, after as latin1 strings. */
export function diffTexts(before: string, after: string): TextDiff {
  const old = splitLines(before);
  const now = splitLines(after);
  const edits = editsOf(old, now);
  let added = 0;
  let removed = 0;
  let kept = before.length;
  for (const edit of edits) {
    removed += edit.oldEnd - edit.oldStart;
    added += edit.newEnd - edit.newStart;
    for (let i = edit.oldStart; i < edit.oldEnd; i++) kept -= (old[i] as string).length;
  }
  const longer = Math.max(before.length, after.length);
  return {
    hunks: grouped(edits).map((group) => hunk(old, now, group)),
    added,
    removed,
    similarity: edits.length === 0 ? 100 : Math.min(99, Math.floor((100 * kept) / longer)),
  };
}

/** Edits whose context would touch are shown together. */
function grouped(edits: readonly Edit[]): Edit[][] {
  const groups: Edit[][] = [];
  for (const edit of edits) {
    const last = groups.at(-1);
    const previous = last?.at(-1);
    if (previous !== undefined && edit.oldStart - previous.oldEnd <= 2 * CONTEXT) last?.push(edit);
    else groups.push([edit]);
  }
  return groups;
}

function hunk(old: readonly string[], now: readonly string[], edits: readonly Edit[]): Hunk {
  const first = edits[0] as Edit;
  const last = edits.at(-1) as Edit;
  const lead = Math.min(CONTEXT, first.oldStart);
  const trail = Math.min(CONTEXT, old.length - last.oldEnd);
  const lines: string[] = [];
  const push = (mark: string, line: string): void => {
    if (line.endsWith('\n')) lines.push(mark + line.slice(0, -1));
    else lines.push(mark + line, '\\ No newline at end of file');
  };
  let at = first.oldStart - lead;
  for (const edit of edits) {
    while (at < edit.oldStart) push(' ', old[at++] as string);
    while (at < edit.oldEnd) push('-', old[at++] as string);
    for (let j = edit.newStart; j < edit.newEnd; j++) push('+', now[j] as string);
  }
  while (at < last.oldEnd + trail) push(' ', old[at++] as string);
  const oldLines = last.oldEnd + trail - (first.oldStart - lead);
  const newLines = last.newEnd + trail - (first.newStart - lead);
  return {
    oldStart: first.oldStart - lead + (oldLines === 0 ? 0 : 1),
    oldLines,
    newStart: first.newStart - lead + (newLines === 0 ? 0 : 1),
    newLines,
    lines,
  };
}
