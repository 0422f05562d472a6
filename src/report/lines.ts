// Two texts as lines, and which lines of one are those of the other: the longest common run of lines, or a bound on the search.
// Called by text-diff.ts; the search itself is the `diff` package (Myers, O(ND)).
// Text is bytes, one code unit a byte: a line is compared as bytes, in whatever encoding it is.

import { diffArrays } from 'diff';

/** A run of lines that one text has instead of a run of the other; numbers from 0. */
export interface Edit {
  readonly oldStart: number;
  readonly oldEnd: number;
  readonly newStart: number;
  readonly newEnd: number;
}

/**
 * Edits beyond which lines are no longer matched: everything between the common head and tail is one edit then. The
 * search takes the square of it in time: 0.7 s for lines that all have moved.
 */
const MAX_EDITS = 2000;

/** Lines with their newlines; the last may have none. */
export function splitLines(text: string): string[] {
  const lines: string[] = [];
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at);
    const end = newline < 0 ? text.length : newline + 1;
    lines.push(text.slice(at, end));
    at = end;
  }
  return lines;
}

/** In ascending order, never adjacent. */
export function editsOf(before: readonly string[], after: readonly string[]): Edit[] {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head++;
  let tail = 0;
  while (
    tail < shorter - head &&
    before[before.length - 1 - tail] === after[after.length - 1 - tail]
  ) {
    tail++;
  }
  const oldEnd = before.length - tail;
  const newEnd = after.length - tail;
  const edits: Edit[] = [];
  let oldAt = head;
  let newAt = head;
  const matched = (i: number, j: number): void => {
    if (i > oldAt || j > newAt) {
      edits.push({ oldStart: oldAt, oldEnd: i, newStart: newAt, newEnd: j });
    }
    oldAt = i + 1;
    newAt = j + 1;
  };
  for (const [i, j] of matches(before, after, head, oldEnd, newEnd)) matched(i, j);
  matched(oldEnd, newEnd);
  return edits;
}

/** Pairs of equal lines, ascending on both sides. */
function matches(
  before: readonly string[],
  after: readonly string[],
  head: number,
  oldEnd: number,
  newEnd: number,
): [number, number][] {
  // A line that the other side lacks matches nothing: without these a rewritten file costs nothing to compare.
  const numbers = new Map<string, number>();
  for (let i = head; i < oldEnd; i++) numbers.set(before[i] as string, 0);
  const newAt: number[] = [];
  const newLines: number[] = [];
  let known = 0;
  for (let j = head; j < newEnd; j++) {
    const number = numbers.get(after[j] as string);
    if (number === undefined) continue;
    const name = number === 0 ? ++known : number;
    if (number === 0) numbers.set(after[j] as string, name);
    newAt.push(j);
    newLines.push(name);
  }
  const oldAt: number[] = [];
  const oldLines: number[] = [];
  for (let i = head; i < oldEnd; i++) {
    const number = numbers.get(before[i] as string) as number;
    if (number === 0) continue;
    oldAt.push(i);
    oldLines.push(number);
  }
  const pairs: [number, number][] = [];
  let i = 0;
  let j = 0;
  for (const part of diffArrays(oldLines, newLines, { maxEditLength: MAX_EDITS }) ?? []) {
    if (part.removed) i += part.count;
    else if (part.added) j += part.count;
    else {
      for (let n = 0; n < part.count; n++) {
        pairs.push([oldAt[i++] as number, newAt[j++] as number]);
      }
    }
  }
  return pairs;
}
