// The text diffs that go into the HTML page: of which changes, how much of each, and what there was no room for.
// Called by `varve diff --html` before html.ts writes the page; the lines come from text-diff.ts.
// Lines are shown as UTF-8 where both sides are that, else each byte as a Latin-1 character.

import { S } from '../linux/constants.js';
import type { TreeNode } from '../tree/tree.js';
import type { Change } from '../union/change.js';
import type { NoLines, TextBody, TextOfChange } from './page-data.js';
import { diffTexts, type TextDiff, textOf } from './text-diff.js';

export interface PageTexts {
  /** By position in the changes. */
  readonly of: ReadonlyMap<number, TextOfChange>;
  /** By the id of a TextRef, as JSON. */
  readonly bodies: readonly string[];
  /** Changes of text whose lines there was no room for. */
  readonly leftOut: number;
}

export interface TextLimits {
  /** Bytes of JSON of all bodies. */
  readonly total?: number;
  /** Bytes of JSON of one. */
  readonly each?: number;
}

/** What leaves room in a page of 20 MiB for a hundred thousand changes. */
const TOTAL = 12 * 1024 * 1024;
const EACH = 192 * 1024;
/** Characters of a line. */
const LINE = 4000;

/** @param changes those of the document, in its order. */
export function textsOf(changes: readonly Change[], limits: TextLimits = {}): PageTexts {
  const of = new Map<number, TextOfChange>();
  const bodies: string[] = [];
  let room = limits.total ?? TOTAL;
  let leftOut = 0;
  for (const index of byInterest(changes)) {
    const change = changes[index] as Change;
    // Nothing more is read once the page is full.
    const text = room <= 0 ? 'page' : diffOf(change);
    if (typeof text === 'string') {
      of.set(index, text);
      if (text === 'page') leftOut++;
      continue;
    }
    if (text === undefined) continue;
    const body = JSON.stringify(bodyOf(text.diff, text.utf8, limits.each ?? EACH));
    room -= body.length;
    if (room < 0) {
      room = 0;
      leftOut++;
      of.set(index, 'page');
      continue;
    }
    const { added, removed } = text.diff;
    of.set(index, { id: bodies.push(body) - 1, added, removed });
  }
  return { of, bodies, leftOut };
}

/** What was edited before what is new before what is gone; in each in the order of the changes. */
function byInterest(changes: readonly Change[]): number[] {
  const ranks = { M: 0, R: 0, T: 0, A: 1, D: 2, '=': 3 } as const;
  const indices = changes.flatMap(({ status }, i) => (status === '=' ? [] : [i]));
  const rank = (i: number): number => ranks[(changes[i] as Change).status];
  return indices.sort((a, b) => rank(a) - rank(b) || a - b);
}

function diffOf(change: Change): { diff: TextDiff; utf8: boolean } | NoLines | undefined {
  const { before, after, differs, status } = change;
  if (before !== undefined && after !== undefined && !differs.content && status !== 'T') {
    return undefined;
  }
  const was = before !== undefined && isFile(before) ? before : undefined;
  const is = after !== undefined && isFile(after) ? after : undefined;
  if (was === undefined && is === undefined) return undefined;
  // A further name of a file says no more than the first.
  if (change.link !== undefined && before === undefined) return undefined;
  const old = textOf(was);
  const now = textOf(is);
  if (typeof old !== 'string') return old.why;
  if (typeof now !== 'string') return now.why;
  if (old === now) return undefined;
  return { diff: diffTexts(old, now), utf8: isUtf8(old) && isUtf8(now) };
}

function isFile(node: TreeNode): boolean {
  return (node.mode & S.IFMT) === S.IFREG;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function isUtf8(latin1: string): boolean {
  try {
    strict.decode(Buffer.from(latin1, 'latin1'));
    return true;
  } catch {
    return false;
  }
}

function bodyOf(diff: TextDiff, utf8: boolean, limit: number): TextBody {
  const hunks: [number, number, number, number, string[]][] = [];
  let room = limit;
  let more = 0;
  for (const { oldStart, oldLines, newStart, newLines, lines } of diff.hunks) {
    const shown: string[] = [];
    for (const line of lines) {
      if (room <= 0) {
        more++;
        continue;
      }
      const text = utf8 ? Buffer.from(line, 'latin1').toString('utf8') : line;
      const cut =
        text.length > LINE ? `${text.slice(0, LINE)}… (${text.length - LINE} more)` : text;
      room -= cut.length + 4;
      shown.push(cut);
    }
    if (shown.length > 0) hunks.push([oldStart, oldLines, newStart, newLines, shown]);
  }
  return { hunks, ...(utf8 ? {} : { latin1: true }), ...(more > 0 ? { more } : {}) };
}
