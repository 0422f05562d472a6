// The upper with all names under which a mount shows its hard-linked objects: some are in the index only.
// Between rebase.ts, which opens the layers, and the reading of changes; a tree without such objects costs one listing.
// Follows: "index=on" of Documentation/filesystems/overlayfs.rst: an entry is called by the handle of the lower object.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isDirectory, isWhiteout, makeNode, type TreeNode } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import { viewDirectory } from '../../union/directory-view.js';
import { marksOf } from '../../union/marks.js';
import type { Place, Union } from '../../union/union.js';
import type { Handle, LayerView, Seen } from '../../union/view.js';

/** The unions that a rebase looks at, as far as aliases concern it. */
export interface Unions {
  readonly base: Union;
  readonly ours: Union;
  readonly theirs: Union;
}

/** An object of the index. */
interface Entry {
  readonly seen: Seen;
  /** A name that OLD has for it, where a change tells one. */
  path: string | undefined;
}

/** Bytes of struct ovl_fb before the handle; the fifth is its type. */
const HEAD = 21;
const TYPE_AT = 4;

/**
 * Names that the upper does not have, but shows through the index, and which NEW would not show by itself: of objects that
 * have no name in the upper any more, or that have more or fewer names in NEW. Only then the whole union is walked.
 * @param work the work directory. @param changes of the upper.
 * @returns a view of the upper with these names; undefined: it has them all.
 */
export function withAliases(
  upper: LayerView,
  work: string,
  unions: Unions,
  changes: readonly Change[],
): LayerView | undefined {
  const path = join(work, 'index');
  if (!existsSync(path)) return undefined;
  const index = viewDirectory(path, upper.marks);
  const entries = entriesOf(index);
  if (entries.size > 0) findPaths(entries, unions.base, changes);
  const wanted = new Map([...entries].filter(([, entry]) => isWanted(entry, unions)));
  const names = wanted.size === 0 ? new Map<string, Entry>() : findNames(unions.ours, wanted);
  if (names.size === 0) {
    index.close();
    return undefined;
  }
  return new Aliased(upper, index, additions(upper, unions, names));
}

function entriesOf(index: LayerView): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const name of index.list('')) {
    if (!/^(?:[0-9a-f]{2}){22,}$/.test(name)) continue;
    const seen = index.look(name);
    // Directories and whiteouts are there for nfs_export=on.
    if (seen === undefined || isDirectory(seen.node) || isWhiteout(seen.node)) continue;
    const bytes = Buffer.from(name, 'hex');
    const handle = { type: bytes[TYPE_AT] as number, bytes: bytes.subarray(HEAD) };
    entries.set(keyOf(handle), { seen, path: undefined });
  }
  return entries;
}

const keyOf = ({ type, bytes }: Handle): string =>
  `${type}:${Buffer.from(bytes).toString('latin1')}`;

function keyAt(union: Union, { spots: [spot] }: Place): string | undefined {
  const handle = union.layers[spot.layer]?.handle(spot.at);
  return handle && keyOf(handle);
}

function findPaths(
  entries: ReadonlyMap<string, Entry>,
  base: Union,
  changes: readonly Change[],
): void {
  for (const { before, from, path } of changes) {
    if (before === undefined || isDirectory(before)) continue;
    const place = base.at(from ?? path);
    if (place === undefined || place.seen.links < 2) continue;
    const entry = entries.get(keyAt(base, place) ?? '');
    if (entry !== undefined) entry.path ??= place.path;
  }
}

function isWanted({ seen, path }: Entry, { base, theirs }: Unions): boolean {
  if (path === undefined || seen.links < 2) return true;
  return theirs.at(path)?.seen.links !== base.at(path)?.seen.links;
}

/** Names of lower objects that a mount shows as the index has them. */
function findNames(ours: Union, wanted: ReadonlyMap<string, Entry>): Map<string, Entry> {
  const names = new Map<string, Entry>();
  const pending = [ours.root()];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    for (const place of ours.children(dir)) {
      if (isDirectory(place.seen.node)) pending.push(place);
      else if (place.spots[0].layer > 0 && place.seen.links > 1) {
        const entry = wanted.get(keyAt(ours, place) ?? '');
        if (entry !== undefined) names.set(place.path, entry);
      }
    }
  }
  return names;
}

/** What these names, and the directories that they are in, look like in the upper. */
function additions(
  upper: LayerView,
  { ours }: Unions,
  names: ReadonlyMap<string, Entry>,
): Map<string, Seen> {
  const added = new Map<string, Seen>();
  const counts = new Map<string, number>();
  for (const { seen } of names.values()) counts.set(seen.id, (counts.get(seen.id) ?? 0) + 1);
  for (const [path, { seen }] of names) {
    const place = ours.at(path) as Place;
    const links = seen.links + (counts.get(seen.id) ?? 0);
    added.set(path, { ...seen, node: relative(seen, upper.marks, place), links });
    for (let cut = path.lastIndexOf('/'); cut > 0; cut = path.lastIndexOf('/', cut - 1)) {
      const parent = path.slice(0, cut);
      if (added.has(parent) || upper.look(parent) !== undefined) break;
      added.set(parent, copied(ours, ours.at(parent) as Place, upper));
    }
  }
  return added;
}

/** The object with its count of names said in relation to the lower one: it is about to have more in the upper. */
function relative({ node, links }: Seen, prefix: string, lower: Place): TreeNode {
  const nlink = marksOf(node, prefix as LayerView['marks']).nlink;
  if (nlink === undefined || !nlink.startsWith('U')) return node;
  const difference = Number(nlink.slice(1)) + links - lower.seen.links;
  const text = `L${difference < 0 ? '' : '+'}${difference}`;
  const xattrs = new Map([...(node.xattrs ?? []), [`${prefix}nlink`, Buffer.from(text)]]);
  return { ...node, xattrs };
}

/** A directory of the lowers as if it had been copied up. */
function copied(ours: Union, place: Place, { marks }: LayerView): Seen {
  const node = ours.node(place);
  const xattrs = new Map<string, Uint8Array>([[`${marks}origin`, new Uint8Array()]]);
  for (const [name, value] of node.xattrs ?? []) {
    xattrs.set(
      name.startsWith(marks) ? `${marks}overlay.${name.slice(marks.length)}` : name,
      value,
    );
  }
  return { node: makeNode(node.mode, { ...node, xattrs }), id: `copied ${place.path}`, links: 1 };
}

class Aliased implements LayerView {
  readonly label: string;
  readonly marks: LayerView['marks'];
  readonly #upper: LayerView;
  readonly #index: LayerView;
  readonly #added: ReadonlyMap<string, Seen>;
  readonly #names = new Map<string, string[]>();

  constructor(upper: LayerView, index: LayerView, added: ReadonlyMap<string, Seen>) {
    this.label = upper.label;
    this.marks = upper.marks;
    this.#upper = upper;
    this.#index = index;
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
    const names = this.#upper.list(path);
    const added = this.#names.get(path);
    return added === undefined ? names : [...names, ...added].sort();
  }

  handle(path: string): Handle | undefined {
    return this.#upper.handle(path);
  }

  /** The upper stays open. */
  close(): void {
    this.#index.close();
  }
}
