// Writes overlayfs's marks onto the objects of a new upper: what was marked before, made right for the layers that are below now.
// Used by plan.ts; origins.ts knows what the objects of NEW are called by handle and number.
// Follows: fs/overlayfs/{copy_up,dir,util}.c (Linux 6.18); overlay.varve.ino: docs/decisions/inode-numbers.md.

import { S } from '../../linux/constants.js';
import { type TreeNode, walk } from '../../tree/tree.js';
import { escaped } from '../../union/marks.js';
import type { Place } from '../../union/union.js';
import type { MarkPrefix } from '../../union/view.js';

/** Marks that are written anew, or not at all; others that an upper has (protattr, uuid) stay as they are. */
const OWN: ReadonlySet<string> = new Set([
  'opaque',
  'redirect',
  'metacopy',
  'origin',
  'impure',
  'nlink',
  'whiteout',
  'upper',
  'varve.ino',
]);

/** Bytes of a metacopy mark that carries no fs-verity digest; an older one is empty. */
const METACOPY_HEAD = 4;

/** How an object of NEW is named in the upper. */
export interface Origin {
  /** Value of the origin mark: struct ovl_fb, or empty where the filesystem has no handles. */
  readonly mark: Uint8Array;
  /** Value of `overlay.varve.ino`, where the mark cannot tell the inode number. */
  readonly number?: Uint8Array;
  /** Value of that mark on the root of the upper. */
  readonly announced?: Uint8Array;
}

export type OriginOf = (theirs: Place) => Origin | undefined;

export interface Marks {
  readonly opaque?: boolean;
  readonly redirect?: string;
  /** Value as the old mark. */
  readonly metacopy?: boolean;
  /** What of NEW it stands for. */
  readonly origin?: Place;
  /** What of OLD it stood for. */
  readonly base?: Place;
}

export class Marker {
  readonly prefix: MarkPrefix;
  readonly #overrideStat: string | undefined;
  readonly #originOf: OriginOf;
  /** Objects that are to have an entry in the index, by its name. */
  readonly indexed = new Map<TreeNode, string>();
  #announced: Uint8Array | undefined;

  /** @param overrideStat name of the xattr that has owner and mode, where inodes have not. */
  constructor(prefix: MarkPrefix, overrideStat: string | undefined, originOf: OriginOf) {
    this.prefix = prefix;
    this.#overrideStat = overrideStat;
    this.#originOf = originOf;
  }

  /** Whether a file may go on having its data below, whatever that is now. */
  mayStayMetacopy(place: Place): boolean {
    const value = this.#value(place, 'metacopy');
    return value !== undefined && value.length <= METACOPY_HEAD;
  }

  /**
   * Gives a node, whose xattrs are those of a user, the marks of the layer. Its entries must be complete.
   * @param old what it was in the old upper.
   */
  mark(node: TreeNode, old: Place | undefined, marks: Marks): void {
    const xattrs = this.#stored(node);
    const set = (name: string, value: Uint8Array | string): void => {
      xattrs.set(this.prefix + name, typeof value === 'string' ? latin1(value) : value);
    };
    for (const [name, value] of old?.seen.node.xattrs ?? []) {
      if (this.#isUnknownMark(name)) xattrs.set(name, value);
    }
    if (marks.opaque) set('opaque', 'y');
    else if (marks.redirect !== undefined) set('redirect', marks.redirect);
    if (marks.metacopy) {
      set('metacopy', (old && this.#value(old, 'metacopy')) ?? '');
      if (marks.redirect !== undefined) set('redirect', marks.redirect);
    }
    this.#markOrigin(node, old, marks, set);
    if (node.entries !== undefined && this.#hasCopies(node)) set('impure', 'y');
    node.xattrs = xattrs.size === 0 ? undefined : sorted(xattrs);
  }

  /** A tree that the union shows, as a layer has to hold it; to be called once. */
  markAll(root: TreeNode): void {
    const seen = new Set<TreeNode>();
    walk(root, (_path, node) => {
      if (seen.has(node)) return;
      seen.add(node);
      const xattrs = this.#stored(node);
      node.xattrs = xattrs.size === 0 ? undefined : sorted(xattrs);
    });
  }

  /** To a directory that is marked already. */
  makeOpaque(dir: TreeNode): void {
    dir.xattrs = sorted(new Map([...(dir.xattrs ?? []), [`${this.prefix}opaque`, latin1('y')]]));
  }

  /** The root's own marks; after all others. */
  markRoot(root: TreeNode, old: Place): void {
    this.mark(root, old, {});
    if (this.#announced === undefined) return;
    const xattrs = new Map([...(root.xattrs ?? []), [`${this.prefix}varve.ino`, this.#announced]]);
    root.xattrs = sorted(xattrs);
  }

  #markOrigin(
    node: TreeNode,
    old: Place | undefined,
    { origin: theirs, base }: Marks,
    set: (name: string, value: Uint8Array | string) => void,
  ): void {
    if (old === undefined || theirs === undefined) return;
    // What was made in the upper is its own; what takes no xattrs goes without.
    if (this.#value(old, 'origin') === undefined) return;
    const hasNames = (node.mode & S.IFMT) !== S.IFDIR && theirs.seen.links > 1;
    const difference = hasNames ? this.#linksMore(old, base) : undefined;
    if (hasNames && difference === undefined) return;
    const origin = this.#originOf(theirs);
    if (origin === undefined) return;
    set('origin', origin.mark);
    if (origin.number !== undefined) set('varve.ino', origin.number);
    this.#announced ??= origin.announced;
    if (difference === undefined || origin.mark.length === 0) return;
    set('nlink', `L${difference < 0 ? '' : '+'}${difference}`);
    this.indexed.set(node, Buffer.from(origin.mark).toString('hex'));
  }

  /** How many names more than below an indexed object has in the union; undefined: it is not indexed. */
  #linksMore(old: Place, base: Place | undefined): number | undefined {
    const [, of, digits] = /^([UL])([+-]\d+)$/.exec(old.marks.nlink ?? '') ?? [];
    if (of === undefined || base === undefined) return undefined;
    const difference = Number(digits);
    return of === 'L' ? difference : old.seen.links + difference - base.seen.links;
  }

  /** The xattrs of a node as a layer holds them. */
  #stored(node: TreeNode): Map<string, Uint8Array> {
    const xattrs = new Map(escaped(node.xattrs, this.prefix));
    const name = this.#overrideStat;
    const isLink = (node.mode & S.IFMT) === S.IFLNK;
    if (name !== undefined && !(isLink && name.startsWith('user.'))) {
      const { uid, gid, mode } = node;
      xattrs.set(name, latin1(`${uid}:${gid}:${(mode & 0o7777).toString(8)}`));
    }
    return xattrs;
  }

  #hasCopies(dir: TreeNode): boolean {
    for (const entry of dir.entries?.values() ?? []) {
      if (entry.xattrs?.has(`${this.prefix}origin`)) return true;
    }
    return false;
  }

  #isUnknownMark(name: string): boolean {
    if (!name.startsWith(this.prefix)) return false;
    const rest = name.slice(this.prefix.length);
    return !rest.startsWith('overlay.') && !OWN.has(rest);
  }

  #value(place: Place, name: string): Uint8Array | undefined {
    return place.seen.node.xattrs?.get(this.prefix + name);
  }
}

function sorted(xattrs: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array> {
  return new Map([...xattrs].sort(([a], [b]) => (a < b ? -1 : 1)));
}

const latin1 = (text: string): Uint8Array => Buffer.from(text, 'latin1');
