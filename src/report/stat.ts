// How much has changed, one line a path and a bar: bytes that came and bytes that went.
// Printed by `varve diff --stat`.
// After git-diff(1) --stat, with bytes in place of lines: a rewritten file counts what it had and what it has.

import type { Change } from '../union/change.js';
import { type ChangeEntry, entryOf } from './document.js';
import { bytesText, changeWords, type Paint, painter, plain } from './words.js';

export interface StatOptions {
  readonly colours?: boolean;
  /** Columns of the whole; default 80. */
  readonly width?: number;
}

interface Row {
  readonly name: string;
  readonly added: number;
  readonly removed: number;
  /** In place of a bar, of what has no bytes. */
  readonly words: string;
}

/** @returns lines, each ended, the totals last; empty when there are no changes. */
export function statText(changes: readonly Change[], options: StatOptions = {}): string {
  if (changes.length === 0) return '';
  const paint = painter(options.colours === true);
  const rows = changes.map((change) => rowOf(entryOf(change)));
  const figures = rows.map(figuresOf);
  const total = options.width ?? 80;
  const numbers = Math.max(...figures.map((text) => text.length));
  // Half the columns at least are the names', as there.
  const longest = Math.max(...rows.map(({ name }) => name.length));
  const names = Math.min(longest, Math.max(Math.floor(total / 2), total - numbers - 30));
  const bar = Math.max(10, total - names - numbers - 5);
  const most = Math.max(...rows.map(({ added, removed }) => added + removed));
  const lines = rows.map((row, i) => {
    const name = row.name.length > names ? `...${row.name.slice(3 - names)}` : row.name;
    const figure = (figures[i] as string).padStart(numbers);
    return ` ${name.padEnd(names)} | ${figure} ${graph(row, bar, most, paint)}`.trimEnd();
  });
  const added = rows.reduce((sum, row) => sum + row.added, 0);
  const removed = rows.reduce((sum, row) => sum + row.removed, 0);
  const stored = changes.reduce((sum, change) => sum + change.stored, 0);
  const count = `${rows.length} change${rows.length === 1 ? '' : 's'}`;
  const totals = [
    count,
    `${bytesText(added)} added(+)`,
    `${bytesText(removed)} removed(-)`,
    `${bytesText(stored)} in the upper`,
  ];
  return `${lines.join('\n')}\n ${totals.join(', ')}\n`;
}

function rowOf(entry: ChangeEntry): Row {
  const { status, size, path, link } = entry;
  const isRenamed = status === 'R' && entry.from !== undefined;
  const slash = entry.type === 'directory' ? '/' : '';
  const name = isRenamed
    ? `${entry.from} => ${path}${slash}`
    : `${path === '' ? '.' : path}${slash}`;
  // Without news in its content a file neither brings bytes nor loses any; a link's are its first name's.
  const counts =
    link === undefined &&
    (status !== 'M' && status !== 'R' ? status !== '=' : entry.what.includes('content'));
  const words = changeWords(entry).filter((word) => word !== 'content');
  return {
    name: plain(name),
    added: counts ? (size?.after ?? 0) : 0,
    removed: counts ? (size?.before ?? 0) : 0,
    words: words.length > 0 ? words.join(', ') : WORDS[status],
  };
}

const WORDS = {
  A: 'new',
  M: '',
  D: 'deleted',
  R: 'renamed',
  T: '',
  '=': 'identical',
} as const;

function figuresOf({ added, removed }: Row): string {
  const plus = added > 0 ? `+${bytesText(added)}` : '';
  const minus = removed > 0 ? `-${bytesText(removed)}` : '';
  return [plus, minus].filter((text) => text !== '').join(' ') || '0';
}

function graph(row: Row, width: number, most: number, paint: Paint): string {
  const { added, removed } = row;
  if (added + removed === 0) return paint('dim', row.words);
  // As there: whoever has anything gets one sign.
  const signs = Math.max(1, Math.round(((added + removed) * width) / most));
  let plus = Math.round((added * signs) / (added + removed));
  if (added > 0 && plus === 0) plus = 1;
  if (removed > 0 && plus === signs && signs > 1) plus = signs - 1;
  return paint('added', '+'.repeat(plus)) + paint('removed', '-'.repeat(signs - plus));
}
