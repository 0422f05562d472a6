// Changes as a tree for people: what happened to each path, how large it is, what differs.
// Printed by `varve diff` and wherever a command shows what it is about to do.
// Directories that have a change only somewhere below are folded into one line: `usr/share/doc/`.

import type { ChangeEntry, Summary } from './document.js';
import { drawn, layOut, makeTwig, type OutlineLine, type Twig, twigOf } from './outline-lines.js';
import { bytesText, changeWords, type Paint, painter, plain, sizeWords } from './words.js';

export interface OutlineOptions {
  /** ECMA-48 colours. Default: none. */
  readonly colours?: boolean;
  /** Lines shown at most, for a preview; default all. */
  readonly limit?: number;
}

/** @returns lines, each ended; empty when there is nothing. */
export function outline(entries: readonly ChangeEntry[], options: OutlineOptions = {}): string {
  const paint = painter(options.colours === true);
  const root = grow(entries);
  const lines = root.entry === undefined ? [] : [lineOf(root, '', './', paint)];
  for (const { twig, stem } of drawn(root, '/')) {
    lines.push(lineOf(twig, stem, twig.name, paint));
  }
  return layOut(lines, paint, options);
}

function grow(entries: readonly ChangeEntry[]): Twig<ChangeEntry> {
  const root = makeTwig<ChangeEntry>('');
  for (const entry of entries) {
    let at = root;
    for (const name of entry.path.split('/')) if (name !== '') at = twigOf(at, name);
    at.entry = entry;
  }
  return root;
}

function lineOf(
  { entry }: Twig<ChangeEntry>,
  stem: string,
  name: string,
  paint: Paint,
): OutlineLine {
  const isDir = entry === undefined ? true : entry.type === 'directory';
  const text = plain(isDir && !name.endsWith('/') ? `${name}/` : name);
  if (entry === undefined) {
    return {
      left: `${paint('dim', stem)}${text}`,
      width: stem.length + text.length,
      column: '',
      words: '',
    };
  }
  const { status } = entry;
  const from = status === 'R' && entry.from !== undefined ? plain(entry.from) : '';
  const shown = from === '' ? text : `${from} → ${text}`;
  return {
    left: `${paint('dim', stem)}${paint(status, `${status} ${shown}`)}`,
    width: stem.length + 2 + shown.length,
    column: sizeWords(entry),
    words: changeWords(entry).join(', '),
  };
}

/** @param prunes whether the command that prints it has --prune. @returns the last line: `5 changes: 2 added, 1 modified, 2 deleted; 1.2 MiB in the upper`. */
export function summaryLine(summary: Summary, { prunes = true } = {}): string {
  const counts: (readonly [number, string])[] = [
    [summary.added, 'added'],
    [summary.modified, 'modified'],
    [summary.deleted, 'deleted'],
    [summary.renamed, 'renamed'],
    [summary.typeChanged, 'of another type'],
  ];
  const total = counts.reduce((sum, [n]) => sum + n, 0);
  const parts = counts.filter(([n]) => n > 0).map(([n, word]) => `${n} ${word}`);
  const head =
    total === 0 ? 'no changes' : `${total} change${total === 1 ? '' : 's'}: ${parts.join(', ')}`;
  const tail = [`${bytesText(summary.bytesStored)} in the upper`];
  if (summary.identicalBytes > 0) {
    const what = prunes ? '--prune drops' : '--all lists';
    tail.push(`${bytesText(summary.identicalBytes)} of identical copies: ${what} them`);
  } else if (summary.identical > 0) {
    tail.push(`${summary.identical} more that differ in time at most: --all lists them`);
  }
  return `${head}; ${tail.join('; ')}`;
}
