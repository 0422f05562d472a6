// Changes as a tree for people: what happened to each path, how large it is, what differs.
// Printed by `varve diff` and wherever a command shows what it is about to do.
// Directories that have a change only somewhere below are folded into one line: `usr/share/doc/`.

import type { ChangeEntry, Summary } from './document.js';
import { bytesText, changeWords, type Paint, painter, plain, sizeWords } from './words.js';

export interface OutlineOptions {
  /** ECMA-48 colours. Default: none. */
  readonly colours?: boolean;
  /** Lines shown at most, for a preview; default all. */
  readonly limit?: number;
}

interface Branch {
  /** Of this line: one name, or several with slashes between them. */
  name: string;
  entry?: ChangeEntry;
  readonly children: Map<string, Branch>;
}

/** @returns lines, each ended; empty when there is nothing. */
export function outline(entries: readonly ChangeEntry[], options: OutlineOptions = {}): string {
  const paint = painter(options.colours === true);
  const lines: Line[] = [];
  const root = grow(entries);
  if (root.entry !== undefined) lines.push(lineOf(root, '', './', paint));
  // Depth costs no stack: a path may have two thousand directories.
  const open = [...foldedChildren(root)].map((branch, i, all) => ({
    branch,
    stem: '',
    isLast: i === all.length - 1,
  }));
  open.reverse();
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { branch, stem, isLast } = next;
    lines.push(lineOf(branch, `${stem}${isLast ? '└── ' : '├── '}`, branch.name, paint));
    const below = `${stem}${isLast ? '    ' : '│   '}`;
    const children = foldedChildren(branch);
    for (let i = children.length - 1; i >= 0; i--) {
      const isLastChild = i === children.length - 1;
      open.push({ branch: children[i] as Branch, stem: below, isLast: isLastChild });
    }
  }
  return layOut(lines, options.limit ?? Number.POSITIVE_INFINITY, paint);
}

function grow(entries: readonly ChangeEntry[]): Branch {
  const root: Branch = { name: '', children: new Map() };
  for (const entry of entries) {
    let at = root;
    for (const name of entry.path.split('/')) {
      if (name === '') continue;
      let child = at.children.get(name);
      if (child === undefined) {
        child = { name, children: new Map() };
        at.children.set(name, child);
      }
      at = child;
    }
    at.entry = entry;
  }
  return root;
}

/** The children of a branch; one that has no change of its own and one child only is one line with that. */
function foldedChildren(branch: Branch): Branch[] {
  return [...branch.children.values()].map((child) => {
    let at = child;
    let name = child.name;
    while (at.entry === undefined && at.children.size === 1) {
      at = at.children.values().next().value as Branch;
      name += `/${at.name}`;
    }
    at.name = name;
    return at;
  });
}

interface Line {
  /** The stem, the letter and the name: its width decides where sizes begin. */
  readonly left: string;
  readonly width: number;
  readonly size: string;
  readonly words: string;
}

function lineOf(branch: Branch, stem: string, name: string, paint: Paint): Line {
  const { entry } = branch;
  const isDir = entry === undefined ? true : entry.type === 'directory';
  const text = plain(isDir && !name.endsWith('/') ? `${name}/` : name);
  if (entry === undefined) {
    return {
      left: `${paint('dim', stem)}${text}`,
      width: stem.length + text.length,
      size: '',
      words: '',
    };
  }
  const { status } = entry;
  const from = status === 'R' && entry.from !== undefined ? plain(entry.from) : '';
  const shown = from === '' ? text : `${from} → ${text}`;
  return {
    left: `${paint('dim', stem)}${paint(status, `${status} ${shown}`)}`,
    width: stem.length + 2 + shown.length,
    size: sizeWords(entry),
    words: changeWords(entry).join(', '),
  };
}

/** Names wider than this do not push the sizes of all others to the right. */
const WIDEST = 56;

function layOut(lines: readonly Line[], limit: number, paint: Paint): string {
  const widths = lines.filter(({ size, words }) => size !== '' || words !== '');
  const column = Math.min(WIDEST, Math.max(0, ...widths.map(({ width }) => width)));
  const sizes = Math.max(0, ...lines.map(({ size }) => size.length));
  const shown = lines.slice(0, limit).map(({ left, width, size, words }) => {
    if (size === '' && words === '') return `${left}\n`;
    const gap = ' '.repeat(Math.max(0, column - width) + 2);
    const tail = `${size.padStart(sizes)}${words === '' ? '' : `  ${words}`}`;
    return `${left}${gap}${paint('dim', tail.trimEnd())}\n`;
  });
  const more = lines.length - shown.length;
  if (more > 0) shown.push(`${paint('dim', `... and ${more} more`)}\n`);
  return shown.join('');
}

/** The last line: `5 changes: 2 added, 1 modified, 2 deleted; 1.2 MiB in the upper`. */
export function summaryLine(summary: Summary): string {
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
    tail.push(`${bytesText(summary.identicalBytes)} of identical copies: --prune drops them`);
  } else if (summary.identical > 0) {
    tail.push(`${summary.identical} more that differ in time at most: --all lists them`);
  }
  return `${head}; ${tail.join('; ')}`;
}
