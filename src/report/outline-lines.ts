// A tree drawn with lines, and what stands beside each of its names in columns.
// Used by outline.ts for files and keys-outline.ts for keys.
// What has nothing of its own and one part only is one line with that: `usr/share/doc/`.

import type { Paint } from './words.js';

export interface Twig<E> {
  /** Of this line: one name, or several with separators between them. */
  name: string;
  entry?: E;
  readonly children: Map<string, Twig<E>>;
}

export function makeTwig<E>(name: string): Twig<E> {
  return { name, children: new Map() };
}

/** The child of a name, made where there is none. @param key what tells it from others, where that is not the name. */
export function twigOf<E>(parent: Twig<E>, name: string, key = name): Twig<E> {
  let child = parent.children.get(key);
  if (child === undefined) {
    child = makeTwig(name);
    parent.children.set(key, child);
  }
  return child;
}

interface Drawn<E> {
  readonly twig: Twig<E>;
  /** The lines before its name. */
  readonly stem: string;
}

/** Everything below the root, in order. Depth costs no stack: a path may have two thousand directories. */
export function* drawn<E>(root: Twig<E>, separator: string): Generator<Drawn<E>> {
  const open: { twig: Twig<E>; stem: string; isLast: boolean }[] = [];
  const push = (parent: Twig<E>, stem: string): void => {
    const children = foldedChildren(parent, separator);
    for (let i = children.length - 1; i >= 0; i--) {
      open.push({ twig: children[i] as Twig<E>, stem, isLast: i === children.length - 1 });
    }
  };
  push(root, '');
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { twig, stem, isLast } = next;
    yield { twig, stem: `${stem}${isLast ? '└── ' : '├── '}` };
    push(twig, `${stem}${isLast ? '    ' : '│   '}`);
  }
}

/** The children of a twig; one that has no change of its own and one child only is one line with that. */
function foldedChildren<E>(twig: Twig<E>, separator: string): Twig<E>[] {
  return [...twig.children.values()].map((child) => {
    let at = child;
    let name = child.name;
    while (at.entry === undefined && at.children.size === 1) {
      at = at.children.values().next().value as Twig<E>;
      name += `${separator}${at.name}`;
    }
    at.name = name;
    return at;
  });
}

export interface OutlineLine {
  /** The stem, the letter and the name: its width decides where the column begins. */
  readonly left: string;
  readonly width: number;
  /** A size, or a type. */
  readonly column: string;
  readonly words: string;
}

/** Names wider than this do not push the columns of all others to the right. */
const WIDEST = 56;

/** @returns lines, each ended. @param limit lines shown at most. @param align where the column's text stands. */
export function layOut(
  lines: readonly OutlineLine[],
  paint: Paint,
  { limit = Number.POSITIVE_INFINITY, align = 'right' }: { limit?: number; align?: string } = {},
): string {
  const beside = lines.filter(({ column, words }) => column !== '' || words !== '');
  const start = beside.reduce((most, { width }) => Math.max(most, width), 0);
  const at = Math.min(WIDEST, start);
  const wide = lines.reduce((most, { column }) => Math.max(most, column.length), 0);
  const shown = lines.slice(0, limit).map(({ left, width, column, words }) => {
    if (column === '' && words === '') return `${left}\n`;
    const gap = ' '.repeat(Math.max(0, at - width) + 2);
    const cell = align === 'left' ? column.padEnd(wide) : column.padStart(wide);
    const tail = `${cell}${words === '' ? '' : `  ${words}`}`;
    return `${left}${gap}${paint('dim', tail.trimEnd())}\n`;
  });
  const more = lines.length - shown.length;
  if (more > 0) shown.push(`${paint('dim', `... and ${more} more`)}\n`);
  return shown.join('');
}
