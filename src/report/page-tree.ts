// The changes as a tree of directories: what a filter leaves of it, and the rows that are to be seen.
// Used by the HTML page for the tree, the treemap and the totals: pure code, tested in Node.
// One pass over all nodes for a filter, one over what is open for the rows: 100,000 changes take some ten milliseconds.

import { type Item, STATUSES, type StatusLetter } from './page-data.js';

export interface TreeItem {
  /** Last part of the path; `` for the root. */
  readonly name: string;
  readonly path: string;
  readonly parent: TreeItem | undefined;
  /** Directories by their own names, in the order of the changes; empty for what is no directory. */
  readonly children: TreeItem[];
  /** The change of the object itself; a directory on the way to one has none. */
  item: Item | undefined;
  expanded: boolean;
  /** What the filter leaves, this node included. */
  readonly shown: Totals;
}

export interface Totals {
  changes: number;
  /** Bytes in the upper. */
  stored: number;
  /** Changes by position in STATUSES. */
  readonly counts: Uint32Array;
}

export function isFolder(node: TreeItem): boolean {
  return node.children.length > 0 || node.item?.type === 'directory';
}

/** A directory that is in the upper for what is in it, and is no change. */
export function isMereWay(item: Item): boolean {
  return item.status === '=' && item.type === 'directory';
}

export function buildTree(items: readonly Item[]): TreeItem {
  const root = makeItem('', '', undefined);
  const folders = new Map<string, TreeItem>([['', root]]);
  const folder = (path: string): TreeItem => {
    // Upwards to what is known, then down again: a path may have more parts than a stack has room.
    const missing: string[] = [];
    let known = folders.get(path);
    for (let at = path; known === undefined; known = folders.get(at)) {
      missing.push(at);
      at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
    }
    for (const at of missing.reverse()) {
      const made = makeItem(at.slice(at.lastIndexOf('/') + 1), at, known);
      known.children.push(made);
      folders.set(at, made);
      known = made;
    }
    return known;
  };
  for (const item of items) {
    const { path } = item;
    const known = folders.get(path);
    if (item.type === 'directory' || path === '' || known !== undefined) {
      (known ?? folder(path)).item ??= item;
      continue;
    }
    const slash = path.lastIndexOf('/');
    const parent = folder(slash < 0 ? '' : path.slice(0, slash));
    const node = makeItem(path.slice(slash + 1), path, parent);
    node.item = item;
    parent.children.push(node);
    // What was a file may be a directory now: its content hangs below it.
    if (item.status === 'T') folders.set(path, node);
  }
  return root;
}

function makeItem(name: string, path: string, parent: TreeItem | undefined): TreeItem {
  return {
    name,
    path,
    parent,
    children: [],
    item: undefined,
    expanded: false,
    shown: { changes: 0, stored: 0, counts: new Uint32Array(STATUSES.length) },
  };
}

export interface Filter {
  readonly statuses: ReadonlySet<StatusLetter>;
  /** One of these aspects must differ; empty: no matter. What is new or gone has no aspects. */
  readonly aspects: number;
  /** Type of object; undefined: any. */
  readonly type: Item['type'] | undefined;
  /** Bytes that the larger side must have. */
  readonly size: number;
  /** Whether a path is looked for. */
  readonly path: (path: string) => boolean;
}

export function matches(filter: Filter, item: Item): boolean {
  if (!filter.statuses.has(item.status) || isMereWay(item)) return false;
  if (filter.aspects !== 0 && (filter.aspects & item.bits) === 0) return false;
  if (filter.type !== undefined && filter.type !== item.type) return false;
  if (filter.size > 0 && Math.max(item.before, item.after, item.stored) < filter.size) return false;
  return filter.path(item.path) || (item.extra.from !== undefined && filter.path(item.extra.from));
}

/** A search as a person types it. @throws SyntaxError when it is no regular expression. */
export function pathFilter(text: string, isRegexp: boolean): (path: string) => boolean {
  if (text === '') return () => true;
  if (isRegexp) {
    const regexp = new RegExp(text, 'iu');
    return (path) => regexp.test(path);
  }
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (path) => {
    const lower = path.toLowerCase();
    return words.every((word) => lower.includes(word));
  };
}

/** Fills `shown` of every node. */
export function applyFilter(root: TreeItem, filter: Filter): void {
  for (const node of postOrder(root)) {
    const { shown, item, children } = node;
    shown.changes = 0;
    shown.stored = 0;
    shown.counts.fill(0);
    if (item !== undefined && matches(filter, item)) {
      shown.changes = 1;
      shown.stored = item.stored;
      shown.counts[STATUSES.indexOf(item.status)] = 1;
    }
    for (const child of children) {
      shown.changes += child.shown.changes;
      shown.stored += child.shown.stored;
      for (let i = 0; i < STATUSES.length; i++) {
        shown.counts[i] = (shown.counts[i] as number) + (child.shown.counts[i] as number);
      }
    }
  }
}

/** Children before parents; depth costs no stack. */
function postOrder(root: TreeItem): TreeItem[] {
  const order = [root];
  for (let i = 0; i < order.length; i++) {
    for (const child of (order[i] as TreeItem).children) order.push(child);
  }
  return order.reverse();
}

/** A line of the tree that is to be seen. */
export interface TreeRow {
  readonly node: TreeItem;
  /** Its name; with those of the directories before it that hold nothing else. */
  readonly label: string;
  /** From 1. */
  readonly level: number;
  /** Position of the row of its parent; -1 at the top. */
  readonly parent: number;
  readonly position: number;
  readonly siblings: number;
}

/** The rows of everything whose parents are open, below the root. */
export function rowsOf(root: TreeItem): TreeRow[] {
  const rows: TreeRow[] = [];
  interface Level {
    readonly nodes: readonly TreeItem[];
    readonly parent: number;
    next: number;
  }
  const levels: Level[] = [{ nodes: shownChildren(root), parent: -1, next: 0 }];
  // The root itself is a row where it is a change.
  const isRootChanged = root.item !== undefined && root.shown.changes > sumOf(root.children);
  if (isRootChanged) {
    rows.push({ node: root, label: '/', level: 1, parent: -1, position: 1, siblings: 1 });
  }
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const first = level.nodes[level.next++];
    if (first === undefined) {
      levels.pop();
      continue;
    }
    const [node, label] = compacted(first);
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

function sumOf(nodes: readonly TreeItem[]): number {
  return nodes.reduce((sum, { shown }) => sum + shown.changes, 0);
}

/** Directories first, as in every file manager; each in the order of the changes. */
export function shownChildren(node: TreeItem): TreeItem[] {
  const shown = node.children.filter((child) => child.shown.changes > 0);
  return [...shown.filter(isFolder), ...shown.filter((child) => !isFolder(child))];
}

/** Follows directories that hold one directory and nothing else. */
export function compacted(node: TreeItem): [TreeItem, string] {
  let label = node.name;
  for (;;) {
    const children = isFolder(node) ? shownChildren(node) : [];
    const [only] = children;
    const isAlone = children.length === 1 && only !== undefined && isFolder(only);
    if (!isAlone || only.shown.changes !== node.shown.changes) return [node, label];
    node = only;
    label = `${label}/${node.name}`;
  }
}

/** Opens directories, the shallow ones first, until about `rows` rows are to be seen. */
export function expandUpTo(root: TreeItem, rows: number): void {
  let seen = 0;
  const queue = shownChildren(root);
  for (let i = 0; i < queue.length; i++) {
    const [node] = compacted(queue[i] as TreeItem);
    seen++;
    if (!isFolder(node)) continue;
    const children = shownChildren(node);
    if (seen + children.length + (queue.length - i) > rows) continue;
    node.expanded = true;
    queue.push(...children);
  }
}

/** Opens or closes everything below, the node included. */
export function setExpanded(node: TreeItem, expanded: boolean): void {
  for (const each of postOrder(node)) each.expanded = expanded;
}
