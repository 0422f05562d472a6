// The upper with all names under which a mount shows its hard-linked objects: some it has by the index only.
// Between rebase.ts, which opens the layers, and plan.ts, for which every such name is one of the upper from then on.
// Follows: "index=on" of Documentation/filesystems/overlayfs.rst; nlink marks: fs/overlayfs/inode.c.

import { makeNode, type TreeNode } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import type { Stack } from '../../union/changes.js';
import { escaped, marksOf } from '../../union/marks.js';
import { INDEX, type Place } from '../../union/union.js';
import type { Handle, LayerView, Seen } from '../../union/view.js';

/**
 * @param changes of the stack's upper, which tell names of the index as well.
 * @returns undefined: the upper has all of its names itself. The upper stays the caller's to close.
 */
export function withAliases(stack: Stack, changes: readonly Change[]): LayerView | undefined {
  const { upper, before, after } = stack;
  const names = new Map<string, Alias>();
  for (const { path, from, after: node } of changes) {
    if (node === undefined || node.entries !== undefined) continue;
    const place = after.at(path);
    if (place?.spots[0].layer !== INDEX) continue;
    names.set(path, { seen: place.seen, lowerLinks: before.at(from ?? path)?.seen.links ?? 1 });
  }
  return names.size === 0 ? undefined : new Aliased(upper, additions(stack, names));
}

/** A name that an object has by the index. */
interface Alias {
  readonly seen: Seen;
  /** st_nlink of the lower object. */
  readonly lowerLinks: number;
}

/** What these names, and the directories that they are in, look like in the upper. */
function additions({ upper, after }: Stack, names: ReadonlyMap<string, Alias>): Map<string, Seen> {
  const added = new Map<string, Seen>();
  const counts = new Map<string, number>();
  for (const { seen } of names.values()) counts.set(seen.id, (counts.get(seen.id) ?? 0) + 1);
  for (const [path, alias] of names) {
    const { seen } = alias;
    const links = seen.links + (counts.get(seen.id) ?? 0);
    added.set(path, { ...seen, node: relative(alias, upper), links });
    for (let cut = path.lastIndexOf('/'); cut > 0; cut = path.lastIndexOf('/', cut - 1)) {
      const parent = path.slice(0, cut);
      if (added.has(parent) || upper.look(parent) !== undefined) break;
      added.set(parent, copied(after.node(after.at(parent) as Place), upper, parent));
    }
  }
  return added;
}

/** The object with its count of names said in relation to the lower one: it is about to have more in the upper. */
function relative({ seen: { node, links }, lowerLinks }: Alias, { marks }: LayerView): TreeNode {
  const { nlink } = marksOf(node, marks);
  if (nlink === undefined || !nlink.startsWith('U')) return node;
  const difference = Number(nlink.slice(1)) + links - lowerLinks;
  const text = `L${difference < 0 ? '' : '+'}${difference}`;
  const xattrs = new Map([...(node.xattrs ?? []), [`${marks}nlink`, Buffer.from(text)]]);
  return { ...node, xattrs };
}

/** A directory of the lowers as if it had been copied up. */
function copied(node: TreeNode, { marks }: LayerView, path: string): Seen {
  const xattrs = new Map(escaped(node.xattrs, marks)).set(`${marks}origin`, new Uint8Array());
  return { node: makeNode(node.mode, { ...node, xattrs }), id: `copied ${path}`, links: 1 };
}

class Aliased implements LayerView {
  readonly label: string;
  readonly marks: LayerView['marks'];
  readonly #upper: LayerView;
  readonly #added: ReadonlyMap<string, Seen>;
  readonly #names = new Map<string, string[]>();

  constructor(upper: LayerView, added: ReadonlyMap<string, Seen>) {
    this.label = upper.label;
    this.marks = upper.marks;
    this.#upper = upper;
    this.#added = added;
    for (const path of added.keys()) {
      const cut = path.lastIndexOf('/');
      const parent = path.slice(0, Math.max(cut, 0));
      const names = this.#names.get(parent);
      if (names === undefined) this.#names.set(parent, [path.slice(cut + 1)]);
      else names.push(path.slice(cut + 1));
    }
  }

  look(path: string): Seen | undefined {
    return this.#added.get(path) ?? this.#upper.look(path);
  }

  list(path: string): string[] {
    const added = this.#names.get(path);
    const names = this.#upper.list(path);
    return added === undefined ? names : [...names, ...added].sort();
  }

  handle(path: string): Handle | undefined {
    return this.#upper.handle(path);
  }

  namesOf(ids: ReadonlySet<string>): Map<string, string[]> {
    return this.#upper.namesOf?.(ids) ?? new Map();
  }

  close(): void {
    this.#upper.close();
  }
}
