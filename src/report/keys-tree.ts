// Changed keys as a tree, and what a filter leaves of it: keys of which something has changed, and their values.
// Used by the HTML page: pure code, tested in Node.
// A key's own change and each of its values' count one each.

import { isOwn, type KeyStatus } from './keys.js';
import { KEY_STATUSES, type KeyItem, type ValueItem } from './keys-page.js';
import { dataWords, valueName } from './keys-words.js';
import { type Branch, postOrder } from './tree-rows.js';

export interface KeyNode extends Branch<KeyNode> {
  readonly path: string;
  /** Absent: a key on the way to one that has changed. */
  item: KeyItem | undefined;
  readonly shown: KeyTotals;
  /** Of these the node's own: the key, and values by position. */
  readonly own: { key: boolean; values: ValueItem[] };
}

export interface KeyTotals {
  changes: number;
  /** Changes by position in KEY_STATUSES. */
  readonly counts: Uint32Array;
}

export function buildKeys(items: readonly KeyItem[]): KeyNode {
  const root = makeNode('', '', undefined);
  // Names of keys differ in more than their case; `\` separates them and is in none.
  const known = new Map<string, KeyNode>([['', root]]);
  const keyAt = (path: string): KeyNode => {
    const missing: string[] = [];
    let at = path;
    let node = known.get(at.toLowerCase());
    for (; node === undefined; node = known.get(at.toLowerCase())) {
      missing.push(at);
      at = at.slice(0, Math.max(0, at.lastIndexOf('\\')));
    }
    for (const part of missing.reverse()) {
      const made = makeNode(part.slice(part.lastIndexOf('\\') + 1), part, node);
      node.children.push(made);
      known.set(part.toLowerCase(), made);
      node = made;
    }
    return node;
  };
  for (const item of items) keyAt(item.path).item = item;
  return root;
}

function makeNode(name: string, path: string, parent: KeyNode | undefined): KeyNode {
  return {
    name,
    path,
    parent,
    children: [],
    item: undefined,
    folder: true,
    expanded: false,
    shown: { changes: 0, counts: new Uint32Array(KEY_STATUSES.length) },
    own: { key: false, values: [] },
  };
}

export interface KeyFilter {
  readonly statuses: ReadonlySet<KeyStatus>;
  readonly noise: boolean;
  /** Type of a value on one of its sides; undefined: any, keys too. */
  readonly type: string | undefined;
  /** Whether a key's path, or a value's with its name and data, is looked for. */
  readonly text: (text: string) => boolean;
}

/** Fills `shown` and `own` of every node. */
export function applyKeyFilter(root: KeyNode, filter: KeyFilter): void {
  for (const node of postOrder(root)) {
    const { shown, own, item, children } = node;
    shown.changes = 0;
    shown.counts.fill(0);
    const add = (status: KeyStatus): void => {
      const i = KEY_STATUSES.indexOf(status);
      shown.changes++;
      shown.counts[i] = (shown.counts[i] as number) + 1;
    };
    own.key = item !== undefined && isOwn(item) && matchesKey(filter, item);
    own.values = item?.values.filter((value) => matchesValue(filter, item, value)) ?? [];
    if (own.key && item !== undefined) add(item.status);
    for (const { status } of own.values) add(status);
    for (const child of children) {
      shown.changes += child.shown.changes;
      child.shown.counts.forEach((n, i) => {
        shown.counts[i] = (shown.counts[i] as number) + n;
      });
    }
  }
}

function matchesKey(filter: KeyFilter, { status, noise, path }: KeyItem): boolean {
  if (!filter.statuses.has(status) || (noise !== undefined && !filter.noise)) return false;
  return filter.type === undefined && filter.text(path);
}

function matchesValue(filter: KeyFilter, { path }: KeyItem, value: ValueItem): boolean {
  const { name, status, noise, before, after } = value;
  if (!filter.statuses.has(status) || (noise !== undefined && !filter.noise)) return false;
  const { type } = filter;
  if (type !== undefined && before?.type !== type && after?.type !== type) return false;
  return filter.text(`${path}\\${valueName(name)} ${searched(before)} ${searched(after)}`);
}

/** Data as somebody looks for it. */
function searched(data: ValueItem['before']): string {
  if (data === undefined) return '';
  if (data.text !== undefined) return data.text;
  return data.lines?.join(' ') ?? dataWords(data);
}

/** Keys of which the filter leaves something, in the order of the tree. @param node with everything below it. */
export function shownKeys(node: KeyNode): KeyNode[] {
  const found: KeyNode[] = [];
  const queue = [node];
  for (let n = queue.pop(); n !== undefined; n = queue.pop()) {
    if (n.shown.changes === 0) continue;
    if (hasOwn(n)) found.push(n);
    for (let i = n.children.length - 1; i >= 0; i--) queue.push(n.children[i] as KeyNode);
  }
  return found;
}

export function hasOwn({ own }: KeyNode): boolean {
  return own.key || own.values.length > 0;
}
