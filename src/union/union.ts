// Layers as one tree, object by object: which layers have it, what they merge to, where its bytes are.
// Reads layer views; changes.ts, delta.ts and flat.ts ask it. The server's own lookup is overlay/lookup.ts, over node tables.
// Follows: ovl_lookup() and ovl_check_redirect() of fs/overlayfs/namei.c (Linux 6.18): whiteouts, opaque, redirect, metacopy.

import { S } from '../linux/constants.js';
import { TreeError } from '../tree/errors.js';
import { join } from '../tree/path.js';
import { type Content, isDirectory, makeNode, show, type TreeNode } from '../tree/tree.js';
import { IndexNames } from './index-names.js';
import { hides, type Marks, marksOf, withoutMarks } from './marks.js';
import type { LayerView, Seen } from './view.js';

/** In place of a layer: the index of the upper. */
export const INDEX = -1;

/** An object of one layer. */
export interface Spot {
  /** Position among the layers of the union, 0 the topmost; data-only layers follow the others. INDEX: in the index. */
  readonly layer: number;
  /** Path in the layer. */
  readonly at: string;
}

/** An object of the union. */
export interface Place {
  readonly path: string;
  /** What is seen there, marks included: of the topmost layer that has it. */
  readonly seen: Seen;
  readonly marks: Marks;
  /** Of a directory: everything that is merged, topmost first. Of others: one. */
  readonly spots: readonly [Spot, ...Spot[]];
  /** Of a metacopy file: where its bytes are; undefined: in no layer. */
  readonly data?: Spot;
}

export interface UnionOptions {
  /** `.wh.NAME` files and `.wh..wh..opq` are whiteouts, too. */
  readonly aufs?: boolean;
  /** The attribute that has owner and permissions of an object, where there is one: `uid:gid:mode`, octal. */
  readonly overrideStat?: string;
  /** The index directory of the upper's workdir; the first layer is the upper then. */
  readonly index?: LayerView;
}

const AUFS = '.wh.';
const AUFS_OPAQUE = '.wh..wh..opq';

/** What a search for the lower parts of an object has become by the marks that it has met. */
interface Search {
  name: string;
  /** Of an absolute redirect: path in every further layer. */
  path: string | undefined;
  /** What lies in further layers is hidden. */
  stop: boolean;
}

export class Union {
  readonly layers: readonly LayerView[];
  readonly #data: readonly LayerView[];
  readonly #aufs: boolean;
  readonly #overrideStat: string | undefined;
  /** Of hard links in the upper. */
  readonly index: IndexNames | undefined;
  /** The directories of the last path that was asked for. */
  #way: Place[] = [];

  /** @param layers topmost first. @param data data-only layers, topmost first. Views stay the caller's to close. */
  constructor(
    layers: readonly LayerView[],
    data: readonly LayerView[] = [],
    options: UnionOptions = {},
  ) {
    this.layers = layers;
    this.#data = data;
    this.#aufs = options.aufs ?? false;
    this.#overrideStat = options.overrideStat;
    this.index = options.index === undefined ? undefined : new IndexNames(options.index);
  }

  /** @throws TreeError when there is no layer, or one that has no root. */
  root(): Place {
    const spots = this.layers.map((_, layer) => ({ layer, at: '' }));
    const root = this.directory('', spots);
    if (root === undefined) throw new TreeError('there is no layer');
    return root;
  }

  /** A directory of the given layers under the name of `path`. undefined: there is none. */
  directory(path: string, spots: readonly Spot[]): Place | undefined {
    const [first, ...rest] = spots;
    const seen = first === undefined ? undefined : this.#view(first).look(first.at);
    if (first === undefined || seen === undefined) return undefined;
    const marks = marksOf(seen.node, this.#view(first).marks);
    return { path, seen, marks, spots: [first, ...rest] };
  }

  /** The object at a path (latin1; '' is the root); no symlink is followed. */
  at(path: string): Place | undefined {
    const names = path === '' ? [] : path.split('/');
    let place = this.#way[0] ?? this.root();
    const way = [place];
    for (let i = 0; i < names.length; i++) {
      const known = this.#way[i + 1];
      const wanted = join(place.path, names[i] as string);
      const next = known?.path === wanted ? known : this.enter(place, names[i] as string);
      if (next === undefined) return undefined;
      place = next;
      if (isDirectory(place.seen.node)) way.push(place);
    }
    this.#way = way;
    return place;
  }

  /** An entry of a directory. */
  enter(directory: Place, name: string): Place | undefined {
    if (!isDirectory(directory.seen.node)) return undefined;
    if (this.#aufs && name.startsWith(AUFS)) return undefined;
    const path = join(directory.path, name);
    const search: Search = { name, path: undefined, stop: false };
    for (const [i, spot] of directory.spots.entries()) {
      const found = this.#look(spot, name, search);
      if (found === undefined && search.stop) return undefined;
      if (found === undefined) continue;
      const place = { path, seen: found.seen, marks: found.marks };
      if (isDirectory(found.seen.node)) {
        const below = this.#below(directory, i, found, search, true);
        return { ...place, spots: [found.spot, ...below.map((b) => b.spot)] };
      }
      const data = found.marks.metacopy
        ? this.#below(directory, i, found, search, false).at(-1)?.spot
        : undefined;
      return this.#indexed({ ...place, spots: [found.spot], data });
    }
    return undefined;
  }

  /** A name of a lower object with several is that of what the index has for it. */
  #indexed(place: Place): Place {
    const [spot] = place.spots;
    if (this.index === undefined || spot.layer < 1 || place.seen.links < 2) return place;
    const indexed = this.index.of(this.#view(spot), spot.at);
    if (indexed === undefined) return place;
    const { seen, marks, name } = indexed;
    return {
      path: place.path,
      seen: { ...seen, links: Math.max(seen.links, place.seen.links) },
      marks,
      spots: [{ layer: INDEX, at: name }],
      data: marks.metacopy ? (place.data ?? spot) : undefined,
    };
  }

  /** The entries of a directory, in byte order of their names. */
  children(directory: Place): Place[] {
    const names = new Set<string>();
    for (const spot of directory.spots) {
      for (const name of this.#view(spot).list(spot.at)) names.add(name);
    }
    return [...names].sort().flatMap((name) => this.enter(directory, name) ?? []);
  }

  /** The object as the union shows it: without marks, with all its content; of a directory without entries. */
  node(place: Place): TreeNode {
    const { node } = place.seen;
    const xattrs = withoutMarks(node.xattrs, this.#view(place.spots[0]).marks);
    const content = place.marks.metacopy ? this.#dataOf(place) : node.content;
    const plain = makeNode(node.mode, { ...node, xattrs, content });
    if (this.#overrideStat !== undefined) override(plain, this.#overrideStat);
    return plain;
  }

  /** What tells the object from every other of the union; hard links have the same. */
  identity(place: Place): string {
    // The index lies beside the upper: its objects are those that the upper has names of.
    return `${Math.max(0, place.spots[0].layer)} ${place.seen.id}`;
  }

  /** Where a file's bytes are. */
  bytesOf(place: Place): Spot | undefined {
    return place.marks.metacopy ? place.data : place.spots[0];
  }

  #view(spot: Spot): LayerView {
    if (spot.layer === INDEX && this.index !== undefined) return this.index.view;
    const view = this.layers[spot.layer] ?? this.#data[spot.layer - this.layers.length];
    return view as LayerView;
  }

  #dataOf(place: Place): Content | undefined {
    if (place.seen.node.size === 0) return undefined;
    const { path, data } = place;
    const content = data && this.#view(data).look(data.at)?.node.content;
    if (content !== undefined) return content;
    return {
      open() {
        throw new TreeError(
          `${show(path)}: only its metadata is there: no layer has its data (a layer is missing or was changed)`,
        );
      },
    };
  }

  /** One name in one layer. Without a result `search.stop` says whether the layers below are hidden. */
  #look(spot: Spot, name: string, search: Search): Found | undefined {
    const view = this.#view(spot);
    const at = join(spot.at, name);
    const seen = view.look(at);
    if (seen === undefined) {
      if (this.#aufs && view.look(join(spot.at, AUFS + name)) !== undefined) search.stop = true;
      return undefined;
    }
    const marks = marksOf(seen.node, view.marks);
    if (hides(seen.node, marks, marks.whiteout && this.#isHiding(view, spot.at))) {
      search.stop = true;
      return undefined;
    }
    const isOpaque =
      marks.opaque === 'y' ||
      (this.#aufs && isDirectory(seen.node) && view.look(join(at, AUFS_OPAQUE)) !== undefined);
    return { spot: { layer: spot.layer, at }, seen, marks, isOpaque };
  }

  #isHiding(view: LayerView, directory: string): boolean {
    const seen = view.look(directory);
    return seen !== undefined && marksOf(seen.node, view.marks).opaque === 'x';
  }

  /**
   * What the layers below have for a directory (all that is merged), or for a metacopy file (down to its data, which is
   * the last; nothing where there is none).
   */
  #below(parent: Place, from: number, top: Found, search: Search, dirs: boolean): Found[] {
    const found: Found[] = [];
    /** @returns false when the search is at its end. */
    const take = (next: Found | undefined, rest = ''): boolean => {
      if (next === undefined) return !search.stop;
      if (isDirectory(next.seen.node) !== dirs) return false;
      if (!dirs && (next.seen.node.mode & S.IFMT) !== S.IFREG) return false;
      found.push(next);
      if (dirs ? next.isOpaque : !next.marks.metacopy) return false;
      follow(search, next.marks.redirect, rest);
      return true;
    };
    const end = (): Found[] => {
      if (dirs || found.at(-1)?.marks.metacopy === false) return found;
      const data = this.#inDataLayers(search.path);
      return data === undefined ? [] : [data];
    };
    if (top.isOpaque) return [];
    follow(search, top.marks.redirect, '');
    for (let i = from + 1; search.path === undefined; i++) {
      const spot = parent.spots[i];
      if (spot === undefined) return end();
      if (!take(this.#look(spot, search.name, search))) return dirs ? found : end();
    }
    let layer = (found.at(-1) ?? top).spot.layer + 1;
    for (; layer < this.layers.length && !search.stop; layer++) {
      const spot = this.#walk(layer, search);
      if (spot === undefined) continue;
      const name = search.path.slice(search.path.lastIndexOf('/') + 1);
      if (!take(this.#look(spot, name, search))) break;
    }
    return end();
  }

  /** The directory in `layer` that `search.path` lies in; marks on the way change the search for the layers below. */
  #walk(layer: number, search: Search): Spot | undefined {
    const names = (search.path as string).split('/');
    let spot: Spot = { layer, at: '' };
    for (let i = 0; i + 1 < names.length; i++) {
      const found = this.#look(spot, names[i] as string, search);
      if (found === undefined) return undefined;
      if (!isDirectory(found.seen.node)) {
        search.stop = true;
        return undefined;
      }
      if (found.isOpaque) search.stop = true;
      follow(search, found.marks.redirect, `/${names.slice(i + 1).join('/')}`, names.slice(0, i));
      spot = found.spot;
    }
    return spot;
  }

  #inDataLayers(path: string | undefined): Found | undefined {
    if (path === undefined) return undefined;
    for (const [i, view] of this.#data.entries()) {
      const seen = view.look(path);
      if (seen === undefined || (seen.node.mode & S.IFMT) !== S.IFREG) continue;
      const spot = { layer: this.layers.length + i, at: path };
      return { spot, seen, marks: { metacopy: false, whiteout: false }, isOpaque: false };
    }
    return undefined;
  }
}

/** As overlay/override-stat.ts does for a server. */
function override(node: TreeNode, name: string): void {
  const value = node.xattrs?.get(name);
  const parsed = /^(\d+):(\d+):([0-7]+)/.exec(Buffer.from(value ?? []).toString('latin1'));
  if (parsed === null) return;
  node.uid = Number(parsed[1]);
  node.gid = Number(parsed[2]);
  node.mode = (node.mode & S.IFMT) | (Number.parseInt(parsed[3] as string, 8) & 0o7777);
  node.xattrs = new Map([...(node.xattrs ?? [])].filter(([other]) => other !== name));
}

interface Found {
  readonly spot: Spot;
  readonly seen: Seen;
  readonly marks: Marks;
  readonly isOpaque: boolean;
}

/**
 * A redirect that was met: where the layers below are searched from now on.
 * @param rest what follows the object in the path, with a leading slash. @param before names on the way to it, from the root.
 */
function follow(
  search: Search,
  redirect: string | undefined,
  rest: string,
  before?: readonly string[],
): void {
  if (redirect === undefined || redirect === '') return;
  if (redirect.startsWith('/')) {
    search.path = redirect.slice(1) + rest;
    // It leads away from what was hidden.
    search.stop = false;
  } else if (search.path === undefined) {
    search.name = redirect;
  } else {
    const way = before ?? search.path.split('/').slice(0, -1);
    search.path = [...way, redirect].join('/') + rest;
  }
}
