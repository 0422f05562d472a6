// One tree is cut into layers: every file is in one of them, every directory in each that needs it, with all its attributes.
// Called by `varve split`; stacked in any order, the layers show the tree again.
// A tree that is a layer itself keeps its whiteouts; opaque marks and redirects go to the lowest layer that has the directory.

import { add, isDirectory, makeNode, type TreeNode, walk } from '../../tree/tree.js';
import { layerOf, type Matched, match, type Rules } from './split-rules.js';

/** A layer that was cut out. */
export interface Cut {
  readonly name: string;
  readonly root: TreeNode;
  /** All that is no directory, by path (latin1), for who links it. */
  readonly files: ReadonlyMap<string, TreeNode>;
  readonly bytes: number;
}

export interface Split {
  /** Topmost first, in the order of the rules. */
  readonly cuts: readonly Cut[];
  /** Names of hard-linked files that follow their first name, whatever the rules say of them. */
  readonly followed: number;
}

/** Contents stay those of `root`, which is not changed. */
export function split(root: TreeNode, rules: Rules): Split {
  const knives = new Map(rules.layers.map((name) => [name, new Knife(root)]));
  const matched = new Map<TreeNode, Matched>();
  const homes = new Map<TreeNode, string>();
  let followed = 0;
  walk(root, (path, node, parent) => {
    if (parent === undefined) return;
    const inside = path.slice(1);
    const found = match(rules, inside, isDirectory(node), matched.get(parent));
    let layer = layerOf(rules, node, found);
    if (isDirectory(node)) matched.set(node, found);
    else if (node.links > 1) {
      const home = homes.get(node) ?? layer;
      if (home !== layer) followed++;
      homes.set(node, home);
      layer = home;
    }
    (knives.get(layer) as Knife).cut(inside, node, root);
  });
  const inOrder = [...knives.values()];
  inOrder.forEach((knife, i) => {
    knife.leaveMarks(inOrder.slice(i + 1));
  });
  return {
    cuts: [...knives].map(([name, { top, files, bytes }]) => ({ name, root: top, files, bytes })),
    followed,
  };
}

class Knife {
  readonly top: TreeNode;
  readonly files = new Map<string, TreeNode>();
  bytes = 0;
  readonly #dirs = new Map<string, TreeNode>();
  readonly #copies = new Map<TreeNode, TreeNode>();

  constructor(root: TreeNode) {
    this.top = copyOf(root);
    this.#dirs.set('', this.top);
  }

  /** Puts one object of the tree into this layer, and the directories above it. */
  cut(path: string, node: TreeNode, root: TreeNode): void {
    if (isDirectory(node)) {
      this.#directory(path, root);
      return;
    }
    const slash = path.lastIndexOf('/');
    const parent = this.#directory(path.slice(0, Math.max(slash, 0)), root);
    const known = this.#copies.get(node);
    const copy = known ?? copyOf(node);
    if (known === undefined) {
      this.#copies.set(node, copy);
      this.bytes += node.size;
    }
    add(parent, path.slice(slash + 1), copy);
    this.files.set(path, copy);
  }

  #directory(path: string, root: TreeNode): TreeNode {
    const known = this.#dirs.get(path);
    if (known !== undefined) return known;
    let node = root;
    let own = this.top;
    let at = '';
    for (const name of path.split('/')) {
      at = at === '' ? name : `${at}/${name}`;
      node = node.entries?.get(name) as TreeNode;
      let next = this.#dirs.get(at);
      if (next === undefined) {
        next = copyOf(node);
        add(own, name, next);
        this.#dirs.set(at, next);
      }
      own = next;
    }
    return own;
  }

  /** A mark that hides what is below would hide the same directory of the layers behind this one. */
  leaveMarks(behind: readonly Knife[]): void {
    for (const [path, node] of this.#dirs) {
      if (node.xattrs === undefined) continue;
      if (!behind.some((knife) => knife.#dirs.has(path))) continue;
      const kept = [...node.xattrs].filter(([name, value]) => !isHiding(name, value));
      if (kept.length < node.xattrs.size) node.xattrs = new Map(kept);
    }
  }
}

/** `x` is no opaque mark: it announces whiteouts in xattr form. */
function isHiding(name: string, value: Uint8Array): boolean {
  if (name === 'user.fuseoverlayfs.opaque') return true;
  if (/^(?:trusted|user)\.overlay\.redirect$/.test(name)) return true;
  return /^(?:trusted|user)\.overlay\.opaque$/.test(name) && value[0] !== 0x78;
}

function copyOf(node: TreeNode): TreeNode {
  return makeNode(node.mode, { ...node, home: undefined, statedLinks: undefined });
}
