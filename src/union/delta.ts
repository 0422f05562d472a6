// Changes as a layer that needs nothing but what it is put over: no redirects, no metadata without its content.
// Made for layer tars, for images of a change, and for whoever applies one to a directory.
// Form of overlayfs: 0/0 devices, opaque marks; the form of OCI layers is made from it.

import { S } from '../linux/constants.js';
import { nameOf, parentOf } from '../tree/path.js';
import { add, isDirectory, makeNode, remove, type TreeNode, walk } from '../tree/tree.js';
import type { Change } from './change.js';
import type { Stack } from './changes.js';
import { fill } from './flat.js';
import { findNames, type Wanted } from './further-names.js';
import { escaped } from './marks.js';
import type { Place } from './union.js';
import type { MarkPrefix } from './view.js';

export interface DeltaOptions {
  /** Under which names opaque marks are written. */
  readonly marks: MarkPrefix;
  /** Leave out what is copied up and equal but for its time; default false: times are part of the tree. */
  readonly ignoreTimes?: boolean;
}

/**
 * @param changes what readChanges() gave for `stack`, or some of it: what is left out stays as it was before.
 * @returns the root of a layer that shows what `stack` shows when it is put over what it was over.
 */
export function deltaTree(
  stack: Stack,
  changes: readonly Change[],
  options: DeltaOptions,
): TreeNode {
  return new Delta(stack, options).run(changes);
}

class Delta {
  readonly #stack: Stack;
  readonly #options: DeltaOptions;
  readonly #root: TreeNode;
  readonly #dirs = new Map<string, TreeNode>();
  /** Nodes of hard-linked objects, by identity in the union; the same that the changes have. */
  readonly #linked = new Map<string, TreeNode>();
  readonly #nodes = new Map<TreeNode, TreeNode>();
  /** Those of them that were met in a directory that was taken whole. */
  readonly #taken = new Map<string, Place>();
  /** What changes have that are news. */
  readonly #wanted = new Set<TreeNode>();
  readonly #opaque = new Set<TreeNode>();

  constructor(stack: Stack, options: DeltaOptions) {
    this.#stack = stack;
    this.#options = options;
    const { after } = stack;
    this.#root = after.node(after.root());
    this.#dirs.set('', this.#root);
  }

  run(changes: readonly Change[]): TreeNode {
    /** A directory that has been taken with all that is in it. */
    let whole: string | undefined;
    for (const change of changes) {
      const { after } = change;
      if (after !== undefined && !isDirectory(after) && this.#isWanted(change))
        this.#wanted.add(after);
    }
    for (const change of changes) {
      const { path, status } = change;
      if (path === '') continue;
      if (status === 'R') this.#whiteout(change.from as string);
      if (whole !== undefined && path.startsWith(`${whole}/`)) continue;
      if (status === 'D') this.#whiteout(path);
      else if (this.#isWanted(change)) this.#put(change);
      if (change.after !== undefined && isDirectory(change.after) && needsAll(change)) whole = path;
    }
    this.#addFurtherNames(changes);
    this.#mark();
    return this.#root;
  }

  /** Attributes that look like marks are escaped, then the marks are put on. */
  #mark(): void {
    const { marks } = this.#options;
    const done = new Set<TreeNode>();
    walk(this.#root, (_path, node) => {
      if (done.has(node)) return;
      done.add(node);
      node.xattrs = escaped(node.xattrs, marks);
      if (!this.#opaque.has(node)) return;
      node.xattrs = new Map([...(node.xattrs ?? []), [`${marks}opaque`, Buffer.from('y')]]);
    });
  }

  #isWanted(change: Change): boolean {
    const { status, differs, after } = change;
    if (after === undefined) return false;
    if (status !== '=') return true;
    if (isDirectory(after) && needsAll(change)) return true;
    // A name beside one that is written anew would else be another file.
    return this.#wanted.has(after) || (differs.time && this.#options.ignoreTimes !== true);
  }

  /** Names that files of directories which were taken whole have elsewhere: they are to stay those of one file. */
  #addFurtherNames(changes: readonly Change[]): void {
    if (this.#linked.size === 0) return;
    const { before, after } = this.#stack;
    const addIf = (path: string): void => {
      const place = after.at(path);
      const node = place && place.seen.links > 1 && this.#linked.get(after.identity(place));
      if (node && node.entries === undefined) this.#add(path, node);
    };
    for (const { path, status, after: node } of changes) {
      if (status === '=' && node !== undefined && !isDirectory(node)) addIf(path);
    }
    const wanted: Wanted[] = [];
    for (const [id, { seen, spots }] of this.#taken) {
      const [{ layer }] = spots;
      if (layer < 1 || (this.#linked.get(id) as TreeNode).links >= seen.links) continue;
      wanted.push({ id, layer: layer - 1, lowerId: seen.id });
    }
    if (wanted.length === 0) return;
    for (const { path } of findNames(before, wanted, changes)) addIf(path);
  }

  #put(change: Change): void {
    const { after: union } = this.#stack;
    const node = change.after as TreeNode;
    if (!isDirectory(node)) {
      this.#add(change.path, this.#shared(change.path, node));
      return;
    }
    const place = union.at(change.path);
    if (place === undefined) return;
    if (!needsAll(change)) {
      this.#directory(change.path);
      return;
    }
    const dir = fill(union, place, this.#linked, (id, linked) => this.#taken.set(id, linked));
    this.#opaque.add(dir);
    const parent = this.#directory(parentOf(change.path));
    // What is there was put there for a whiteout, which an opaque directory does not need.
    remove(parent, nameOf(change.path));
    add(parent, nameOf(change.path), dir);
  }

  /** One node for all names of a hard link, here and in directories that were taken whole. */
  #shared(path: string, node: TreeNode): TreeNode {
    const known = this.#nodes.get(node);
    if (known !== undefined) return known;
    const { after: union } = this.#stack;
    const place = union.at(path);
    const id = place !== undefined && place.seen.links > 1 ? union.identity(place) : '';
    const own = this.#linked.get(id) ?? makeNode(node.mode, { ...node });
    if (id !== '') this.#linked.set(id, own);
    this.#nodes.set(node, own);
    return own;
  }

  /** A name that is to be gone: nothing where nothing was, or where its directory is gone as well, or something is there. */
  #whiteout(path: string): void {
    const { before, after } = this.#stack;
    if (before.at(path) === undefined || after.at(path) !== undefined) return;
    const above = after.at(parentOf(path));
    if (above === undefined || !isDirectory(above.seen.node)) return;
    const parent = this.#directory(parentOf(path));
    const name = nameOf(path);
    if (parent.entries?.has(name) !== true) add(parent, name, makeNode(S.IFCHR));
  }

  #add(path: string, node: TreeNode): void {
    const parent = this.#directory(parentOf(path));
    if (parent.entries?.has(nameOf(path)) !== true) add(parent, nameOf(path), node);
  }

  /** A directory of the layer, with those above it. */
  #directory(path: string): TreeNode {
    const known = this.#dirs.get(path);
    if (known !== undefined) return known;
    const { after } = this.#stack;
    const place = after.at(path);
    const node = place === undefined ? makeNode(S.IFDIR | 0o755) : after.node(place);
    this.#add(path, node);
    this.#dirs.set(path, node);
    return node;
  }
}

/** Whether nothing of the layers below may show through: then all of it must be in the layer. */
function needsAll({ status, opaque, before }: Change): boolean {
  return status === 'R' || status === 'T' || (opaque === true && before !== undefined);
}
