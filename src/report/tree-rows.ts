// A tree that can be opened and closed: the rows of it that are to be seen.
// Used by the HTML page for files (page-tree.ts) and keys (keys-tree.ts): pure code, tested in Node.
// One pass over what is open for the rows: 100,000 nodes take some ten milliseconds.

/** What such a tree is made of; a filter writes `shown`. */
export interface Branch<N> {
  /** Last part of the path; `` for the root. */
  readonly name: string;
  readonly parent: N | undefined;
  readonly children: N[];
  /** Holds others, or could. */
  folder: boolean;
  expanded: boolean;
  /** What the filter leaves, this node included. */
  readonly shown: { readonly changes: number };
}

/** A line of the tree that is to be seen. */
export interface TreeRow<N> {
  readonly node: N;
  /** Its name; with those of the directories before it that hold nothing else. */
  readonly label: string;
  /** From 1. */
  readonly level: number;
  /** Position of the row of its parent; -1 at the top. */
  readonly parent: number;
  readonly position: number;
  readonly siblings: number;
}

/** The rows of everything whose parents are open, below the root. @param separator between names in one row. */
export function rowsOf<N extends Branch<N>>(root: N, separator = '/'): TreeRow<N>[] {
  const rows: TreeRow<N>[] = [];
  interface Level {
    readonly nodes: readonly N[];
    readonly parent: number;
    next: number;
  }
  const levels: Level[] = [{ nodes: shownChildren(root), parent: -1, next: 0 }];
  // The root itself is a row where it is a change.
  if (root.shown.changes > sumOf(root.children)) {
    rows.push({ node: root, label: separator, level: 1, parent: -1, position: 1, siblings: 1 });
  }
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const first = level.nodes[level.next++];
    if (first === undefined) {
      levels.pop();
      continue;
    }
    const [node, label] = compacted(first, separator);
    rows.push({
      node,
      label,
      level: levels.length,
      parent: level.parent,
      position: level.next,
      siblings: level.nodes.length,
    });
    if (node.expanded && node.children.length > 0) {
      levels.push({ nodes: shownChildren(node), parent: rows.length - 1, next: 0 });
    }
  }
  return rows;
}

function sumOf<N extends Branch<N>>(nodes: readonly N[]): number {
  return nodes.reduce((sum, { shown }) => sum + shown.changes, 0);
}

/** Directories first, as in every file manager; each in the order of the changes. */
export function shownChildren<N extends Branch<N>>(node: N): N[] {
  const shown = node.children.filter((child) => child.shown.changes > 0);
  return [...shown.filter(({ folder }) => folder), ...shown.filter(({ folder }) => !folder)];
}

/** Follows directories that hold one directory and nothing else. */
export function compacted<N extends Branch<N>>(first: N, separator = '/'): [N, string] {
  let node = first;
  let label = node.name;
  for (;;) {
    const children = node.folder ? shownChildren(node) : [];
    const [only] = children;
    const isAlone = children.length === 1 && only?.folder === true;
    if (!isAlone || only.shown.changes !== node.shown.changes) return [node, label];
    node = only;
    label = `${label}${separator}${node.name}`;
  }
}

/** Opens directories, the shallow ones first, until about `rows` rows are to be seen. */
export function expandUpTo<N extends Branch<N>>(root: N, rows: number): void {
  let seen = 0;
  const queue = shownChildren(root);
  for (let i = 0; i < queue.length; i++) {
    const [node] = compacted(queue[i] as N);
    seen++;
    if (!node.folder) continue;
    const children = shownChildren(node);
    if (seen + children.length + (queue.length - i) > rows) continue;
    node.expanded = true;
    queue.push(...children);
  }
}

/** Opens or closes everything below, the node included. */
export function setExpanded<N extends Branch<N>>(node: N, expanded: boolean): void {
  for (const each of postOrder(node)) each.expanded = expanded;
}

/** Children before parents; depth costs no stack. */
export function postOrder<N extends Branch<N>>(root: N): N[] {
  const order = [root];
  for (let i = 0; i < order.length; i++) {
    for (const child of (order[i] as N).children) order.push(child);
  }
  return order.reverse();
}
