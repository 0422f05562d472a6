// Lines of a text that two sides have changed: both sets of changes in one text, where they do not touch each other.
// Asked by three-way.ts for content that both have changed, when the command line permits it; bytes are latin1.
// The algorithm is that of diff3 (Khanna, Kunal, Pierce 2007), by node-diff3.

import { diff3Merge } from 'node-diff3';

/** Bytes of one side; a longer text is nobody's configuration. */
const LARGEST = 4 * 1024 * 1024;
/** Pairs of equal lines between two sides: the time that a merge takes follows them. */
const MOST_PAIRS = 4_000_000;

/** Whether these bytes are text in some encoding: no NUL among them. */
function isText(bytes: Buffer): boolean {
  return bytes.length <= LARGEST && !bytes.includes(0);
}

/** @returns the merged bytes; undefined: a side is no text, or both have changed the same lines. */
export function mergeText(base: Buffer, ours: Buffer, theirs: Buffer): Buffer | undefined {
  if (!isText(base) || !isText(ours) || !isText(theirs)) return undefined;
  const sides = [linesOf(ours), linesOf(base), linesOf(theirs)] as const;
  const shortest = Math.min(...sides.map((lines) => lines.length));
  let head = 0;
  while (head < shortest && isSame(sides.map((lines) => lines[head]))) head++;
  let tail = 0;
  while (tail < shortest - head && isSame(sides.map((lines) => lines.at(-1 - tail)))) tail++;
  const before = sides[0].slice(0, head);
  const after = tail === 0 ? [] : sides[0].slice(-tail);
  const [mine, old, other] = sides.map((lines) => lines.slice(head, lines.length - tail)) as [
    string[],
    string[],
    string[],
  ];
  if (pairs(mine, old) > MOST_PAIRS || pairs(other, old) > MOST_PAIRS) return undefined;
  const middle: string[] = [];
  for (const region of diff3Merge(mine, old, other, { excludeFalseConflicts: true })) {
    if (region.ok === undefined) return undefined;
    for (const line of region.ok) middle.push(line);
  }
  return Buffer.from([...before, ...middle, ...after].join(''), 'latin1');
}

/** Each with its end of line; the last may have none. */
function linesOf(bytes: Buffer): string[] {
  return bytes.toString('latin1').match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function isSame(lines: readonly (string | undefined)[]): boolean {
  return lines.every((line) => line === lines[0]);
}

function pairs(one: readonly string[], other: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const line of one) counts.set(line, (counts.get(line) ?? 0) + 1);
  let sum = 0;
  for (const line of other) sum += counts.get(line) ?? 0;
  return sum;
}
