// What becomes of each object of an upper when the layers below it are replaced: one walk over the upper.
// Between versions.ts (what there is) and publish.ts (what is written): the result is the new upper as a tree in memory.
// The table of decisions: docs/rebase.md. Marks: Documentation/filesystems/overlayfs.rst.

import { S } from '../../linux/constants.js';
import { add, isDirectory, makeNode, type TreeNode } from '../../tree/tree.js';
import { type Change, isNews } from '../../union/change.js';
import { compareNodes } from '../../union/compare.js';
import { fill } from '../../union/flat.js';
import { hides, marksOf } from '../../union/marks.js';
import { join, type Place } from '../../union/union.js';
import { type Group, groupsOf } from './links.js';
import type { Marker } from './marker.js';
import { type Clash, mergeObjects, whatOf } from './three-way.js';
import { identityOf, isSameObject, isSameTree, nameOf, sideOf, type Versions } from './versions.js';

/** What became of a change. */
export interface Decision {
  /** Inside the mount, latin1, without a leading slash. */
  readonly path: string;
  /** dropped: NEW has it already, or nothing of it is left. merged: something of NEW has come into it. */
  readonly outcome: 'kept' | 'dropped' | 'merged' | 'conflict';
  /** Path that it has in the lowers, where it was renamed. */
  readonly from?: string;
  /** Of a conflict. */
  readonly clashes?: readonly Clash[];
  /** Of a conflict: where the version of NEW lies in the new upper. */
  readonly theirs?: string;
}

export interface PlanOptions {
  /** both: ours at its place, theirs beside it. */
  readonly conflict: 'both' | 'ours' | 'theirs';
  /** Merge the lines of texts. */
  readonly lines: boolean;
  /** A copy of a directory may be a redirect to it. */
  readonly redirects: boolean;
}

export interface Plan {
  /** The new upper, marks included. */
  readonly root: TreeNode;
  readonly decisions: readonly Decision[];
}

/**
 * @param changes of the upper over OLD. @param marker writes what NEW needs to be found again.
 * @throws SysError, TreeError, ErofsError for what cannot be read.
 */
export function planRebase(
  versions: Versions,
  changes: readonly Change[],
  marker: Marker,
  options: PlanOptions,
): Plan {
  return new Planner(versions, changes, marker, options).run();
}

/** A directory of the upper, and what it is held against. */
interface Folder {
  readonly place: Place;
  /** Where its entries are in the lowers. */
  readonly source: string;
  readonly base: Place | undefined;
  readonly theirs: Place | undefined;
  /** The entries of `base` show through. */
  readonly shows: boolean;
  /** Names that copies of the other side have got. */
  readonly beside: Map<string, TreeNode>;
}

/** What a name becomes in the new upper. */
type Item =
  /** Nothing. @param seesNew what NEW has there shows. */
  | { readonly kind: 'nothing'; readonly seesNew: boolean }
  | { readonly kind: 'whiteout'; readonly seesNew: false }
  /** @param seesNew it needs what lies below it in NEW. */
  | { readonly kind: 'node'; readonly node: TreeNode; readonly seesNew: boolean };

const nothing = (seesNew: boolean): Item => ({ kind: 'nothing', seesNew });
const WHITEOUT: Item = { kind: 'whiteout', seesNew: false };

/** An object of the upper, what was there before, and what NEW has in its place. */
interface Three {
  readonly folder: Folder;
  readonly name: string;
  readonly place: Place;
  /** The path of `base` and `theirs`. */
  readonly source: string;
  readonly base: Place | undefined;
  readonly theirs: Place | undefined;
  /** It has another name than in the lowers. */
  readonly moved: boolean;
}

class Planner {
  readonly #versions: Versions;
  readonly #marker: Marker;
  readonly #options: PlanOptions;
  readonly #favour: 'ours' | 'theirs';
  readonly #decisions: Decision[] = [];
  readonly #changes = new Map<string, Change>();
  readonly #groups: ReadonlyMap<string, Group>;
  /** Paths of lowers whose objects have another name in the upper. */
  readonly #moved = new Set<string>();
  /** What became of an object with several names, by what it was made of. */
  readonly #linked = new Map<string, TreeNode>();
  #conflicts = 0;

  constructor(
    versions: Versions,
    changes: readonly Change[],
    marker: Marker,
    options: PlanOptions,
  ) {
    this.#versions = versions;
    this.#marker = marker;
    this.#options = options;
    this.#favour = options.conflict === 'theirs' ? 'theirs' : 'ours';
    for (const change of changes) {
      this.#changes.set(change.path, change);
      if (change.status === 'R') this.#moved.add(change.from as string);
    }
    this.#groups = groupsOf(changes);
  }

  run(): Plan {
    const { base, ours, theirs } = this.#versions;
    const place = ours.union.root();
    const folder: Folder = {
      place,
      source: '',
      base: base.union.root(),
      theirs: theirs.union.root(),
      shows: true,
      beside: new Map(),
    };
    const three: Three = {
      ...folder,
      folder,
      name: '',
      base: folder.base,
      theirs: folder.theirs,
      moved: false,
    };
    const root = this.#attributes(three);
    this.#fill(folder, root);
    this.#marker.markRoot(root, place);
    const decisions = this.#decisions.sort((a, b) => (a.path < b.path ? -1 : 1));
    return { root, decisions };
  }

  /** Puts what is to be there into the new directory. @returns how it goes together with NEW. */
  #fill(folder: Folder, into: TreeNode): { readonly opaque: boolean; readonly isEmpty: boolean } {
    const items = new Map<string, Item>();
    for (const name of this.#names(folder)) items.set(name, this.#item(folder, name));
    const all = [...items.values()];
    const through =
      folder.theirs !== undefined &&
      (folder.shows || all.length === 0 || all.some((item) => item.seesNew));
    for (const [name, item] of items) {
      if (item.kind === 'node') add(into, name, item.node);
      else if (item.kind === 'whiteout' && through) add(into, name, makeNode(S.IFCHR));
    }
    for (const [name, node] of folder.beside) add(into, name, node);
    const opaque = !through && (folder.theirs !== undefined || folder.place.marks.opaque === 'y');
    return { opaque, isEmpty: into.entries?.size === 0 };
  }

  /** Names that the upper has something to say about. */
  #names({ place, shows, base, theirs }: Folder): string[] {
    const { upper, aufs } = this.#versions;
    const names = new Set<string>();
    for (const name of upper.list(place.spots[0].at)) {
      if (!aufs || !name.startsWith('.wh.')) names.add(name);
      else if (name !== '.wh..wh..opq') names.add(name.slice(4));
    }
    if (!shows) {
      const { union } = this.#versions.base;
      if (base !== undefined) for (const child of union.children(base)) names.add(nameOf(child));
      const other = this.#versions.theirs.union;
      if (theirs !== undefined) {
        for (const child of other.children(theirs)) names.add(nameOf(child));
      }
    }
    return [...names].sort();
  }

  #item(folder: Folder, name: string): Item {
    const { upper, ours } = this.#versions;
    const base = folder.base && this.#versions.base.union.enter(folder.base, name);
    const theirs = folder.theirs && this.#versions.theirs.union.enter(folder.theirs, name);
    const seen = upper.look(join(folder.place.spots[0].at, name));
    const inHiding = folder.place.marks.opaque === 'x';
    if (seen === undefined || hides(seen.node, marksOf(seen.node, upper.marks), inHiding)) {
      return this.#gone(folder, name, base, theirs);
    }
    const place = ours.union.enter(folder.place, name);
    if (place === undefined || place.spots[0].layer !== 0) return nothing(false);
    if (isDirectory(place.seen.node)) {
      return this.#directory(this.#threeOfDirectory(folder, name, place, base, theirs));
    }
    return this.#file(this.#threeOfFile(folder, name, place, base, theirs));
  }

  /** What is seen there no more. @param base, theirs what the lowers have under the name. */
  #gone(folder: Folder, name: string, base: Place | undefined, theirs: Place | undefined): Item {
    const path = join(folder.place.path, name);
    const { base: old, theirs: now } = this.#versions;
    if (theirs === undefined) {
      if (base !== undefined) this.#decide(path, 'dropped');
      return nothing(false);
    }
    // What NEW has added nobody has deleted.
    if (base === undefined) return nothing(true);
    if (this.#moved.has(base.path) || isSameTree(old, now, base, theirs)) {
      this.#decide(path, 'kept');
      return WHITEOUT;
    }
    const clash = existence('deleted', 'changed');
    if (this.#clash(folder, name, [clash], theirs) === 'theirs') return nothing(true);
    return WHITEOUT;
  }

  #threeOfDirectory(
    folder: Folder,
    name: string,
    place: Place,
    base: Place | undefined,
    theirs: Place | undefined,
  ): Three {
    const expected = join(folder.source, name);
    const { redirect } = place.marks;
    const lowers = place.spots.slice(1).map(({ layer, at }) => ({ layer: layer - 1, at }));
    const common = { folder, name, place };
    if (lowers.length === 0) {
      return { ...common, source: expected, base, theirs, moved: false };
    }
    const source = sourceOf(redirect, folder.source, name);
    const below = this.#versions.base.union.directory(source, lowers);
    const moved = source !== expected;
    const other = moved ? this.#versions.theirs.union.at(source) : theirs;
    return { ...common, source, base: below, theirs: other, moved };
  }

  #threeOfFile(
    folder: Folder,
    name: string,
    place: Place,
    base: Place | undefined,
    theirs: Place | undefined,
  ): Three {
    const expected = join(folder.source, name);
    const change = this.#changes.get(place.path);
    const group = this.#groups.get(place.path);
    const source =
      change?.before !== undefined
        ? (change.from ?? change.path)
        : base === undefined
          ? (group?.source ?? expected)
          : expected;
    const common = { folder, name, place, source };
    if (source === expected) return { ...common, base, theirs, moved: false };
    return {
      ...common,
      base: this.#versions.base.union.at(source),
      theirs: this.#versions.theirs.union.at(source),
      moved: true,
    };
  }

  #directory(three: Three): Item {
    const { place, base, theirs, moved, folder, name } = three;
    const { base: old, ours, theirs: now } = this.#versions;
    if (moved && this.#coversNew(three) === 'theirs') return nothing(true);
    const wasDir = base !== undefined && isDirectory(base.seen.node);
    const isDir = theirs !== undefined && isDirectory(theirs.seen.node);
    if (isDir) return this.#directoryInNew(three, theirs);
    if (moved) {
      const clash = existence('renamed', theirs === undefined ? 'deleted' : 'replaced');
      if (this.#clash(folder, name, [clash], theirs) === 'theirs') return nothing(false);
      return this.#whole(place);
    }
    if (base === undefined && theirs === undefined) return this.#directoryAlone(three);
    if (!wasDir) {
      if (base !== undefined && theirs !== undefined && isSameObject(old, now, base, theirs)) {
        return this.#directoryAlone(three);
      }
      const clash = replacement(place, theirs);
      if (this.#clash(folder, name, [clash], theirs) === 'theirs')
        return nothing(theirs !== undefined);
      return this.#directoryAlone(three);
    }
    // NEW has the directory no more. What was not changed here goes with it; what was is not lost.
    const conflicts = this.#conflicts;
    const kept = this.#directoryAlone(three);
    const node = kept.kind === 'node' ? kept.node : undefined;
    const { mode, owner, xattr } = compareNodes(old.union.node(base), ours.union.node(place));
    const isChanged = mode || owner || xattr || (node?.entries?.size ?? 0) > 0;
    if (!isChanged) {
      this.#decide(place.path, 'dropped');
      return nothing(theirs !== undefined);
    }
    if (this.#conflicts === conflicts || theirs !== undefined) {
      const clash =
        theirs === undefined ? existence('changed', 'deleted') : replacement(place, theirs);
      if (this.#clash(folder, name, [clash], theirs) === 'theirs')
        return nothing(theirs !== undefined);
    }
    return kept;
  }

  /** Both have a directory there: attributes are merged, entries looked at one by one. */
  #directoryInNew(three: Three, theirs: Place): Item {
    const { place, base, moved, source } = three;
    const isDir = base !== undefined && isDirectory(base.seen.node);
    const below = isDir ? base : undefined;
    const folder: Folder = {
      place,
      source,
      base: below,
      theirs,
      shows: place.spots.length > 1,
      beside: new Map(),
    };
    const node = this.#attributes({ ...three, base: below });
    const { opaque, isEmpty } = this.#fill(folder, node);
    const isTheirs = isSameAttributes(node, this.#versions.theirs.union.node(theirs));
    if (isEmpty && isTheirs && !opaque && !moved) {
      this.#decide(place.path, 'dropped');
      return nothing(true);
    }
    const redirect = opaque ? undefined : place.marks.redirect;
    this.#marker.mark(node, place, { opaque, redirect, origin: theirs });
    return { kind: 'node', node, seesNew: !opaque && !moved };
  }

  /** A directory with nothing of NEW in it. */
  #directoryAlone(three: Three): Item {
    const { place, base, source } = three;
    const node = bare(this.#versions.ours.union.node(place));
    const folder: Folder = {
      place,
      source,
      base: base !== undefined && isDirectory(base.seen.node) ? base : undefined,
      theirs: undefined,
      shows: place.spots.length > 1,
      beside: new Map(),
    };
    const { opaque } = this.#fill(folder, node);
    this.#marker.mark(node, place, { opaque });
    if (base === undefined) this.#decide(place.path, 'kept');
    return { kind: 'node', node, seesNew: false };
  }

  /** All that is seen of a directory, from wherever it comes. */
  #whole(place: Place): Item {
    const { ours } = this.#versions;
    const node = fill(ours.union, place, this.#linked);
    this.#marker.markAll(node);
    this.#marker.makeOpaque(node);
    return { kind: 'node', node, seesNew: false };
  }

  /** The attributes of a directory that both have; the result has no entries. */
  #attributes({ place, base, theirs, folder, name }: Three): TreeNode {
    const { base: old, ours, theirs: now } = this.#versions;
    const merged = mergeObjects(
      base && sideOf(old, base),
      sideOf(ours, place),
      sideOf(now, theirs as Place),
      { favour: this.#favour, lines: false },
    );
    if (merged.clashes.length > 0) this.#clash(folder, name, merged.clashes, undefined);
    else if (base !== undefined) {
      const { mode, owner, xattr } = compareNodes(old.union.node(base), ours.union.node(place));
      if (mode || owner || xattr) this.#decide(place.path, merged.hasTheirs ? 'merged' : 'kept');
    }
    return bare(merged.node);
  }

  #file(three: Three): Item {
    const { place, base, theirs, moved, folder, name } = three;
    const { base: old, theirs: now } = this.#versions;
    if (moved && this.#coversNew(three) === 'theirs') return nothing(true);
    const type = typeOf(place);
    const hadType = base === undefined ? undefined : typeOf(base);
    const hasType = theirs === undefined ? undefined : typeOf(theirs);
    if (theirs === undefined) {
      if (base === undefined) return this.#keep(three);
      if (!moved && hadType === type && !this.#isNews(place)) {
        this.#decide(place.path, 'dropped');
        return nothing(false);
      }
      const clash = existence(moved ? 'renamed' : 'changed', 'deleted');
      if (this.#clash(folder, name, [clash], undefined) === 'theirs') return nothing(false);
      return this.#keep(three, true);
    }
    if (hasType === type && (hadType === type || base === undefined))
      return this.#merge(three, theirs);
    if (hadType === type && !moved && !this.#isNews(place)) {
      this.#decide(place.path, 'dropped');
      return nothing(true);
    }
    if (base !== undefined && hadType !== type && isSameTree(old, now, base, theirs)) {
      return this.#keep(three);
    }
    if (hasType === type && isSameObject(this.#versions.ours, now, place, theirs)) {
      this.#decide(place.path, 'dropped');
      return nothing(true);
    }
    if (this.#clash(folder, name, [replacement(place, theirs)], theirs) === 'theirs') {
      return nothing(true);
    }
    return this.#keep(three, true);
  }

  /** All three, or both, are objects of one type. */
  #merge(three: Three, theirs: Place): Item {
    const { place, base, moved, folder, name } = three;
    const { base: old, ours, theirs: now } = this.#versions;
    const merged = mergeObjects(
      base && sideOf(old, base),
      sideOf(ours, place),
      sideOf(now, theirs),
      { favour: this.#favour, lines: this.#options.lines },
    );
    if (merged.clashes.length > 0) {
      const other = merged.clashes.some(({ aspect }) => aspect === 'content') ? theirs : undefined;
      this.#clash(folder, name, merged.clashes, other);
    }
    if (merged.isTheirs && !moved && this.#mayDrop(place)) {
      if (merged.clashes.length === 0) this.#decide(place.path, 'dropped');
      return nothing(true);
    }
    if (merged.clashes.length === 0) {
      this.#decide(
        place.path,
        merged.hasTheirs ? 'merged' : 'kept',
        moved ? three.source : undefined,
      );
    }
    return this.#shared(three, () => {
      const isMetacopy =
        place.marks.metacopy && merged.content === 'theirs' && theirs.seen.node.size > 0;
      const node = makeNode(merged.node.mode, merged.node);
      if (isMetacopy && this.#marker.mayStayMetacopy(place)) {
        node.content = undefined;
        const { redirect } = place.marks;
        this.#marker.mark(node, place, { metacopy: true, redirect, origin: theirs, base });
      } else {
        if (merged.content === 'ours') node.content = this.#ownContent(place);
        this.#marker.mark(node, place, { origin: theirs, base });
      }
      return node;
    });
  }

  /** @param isDecided it was said already what becomes of it. */
  #keep(three: Three, isDecided = false): Item {
    const { place, base, theirs } = three;
    if (!isDecided) this.#decide(place.path, 'kept');
    return this.#shared(three, () => {
      const node = bare(this.#versions.ours.union.node(place));
      node.content = this.#ownContent(place);
      const origin = theirs !== undefined && typeOf(theirs) === typeOf(place) ? theirs : undefined;
      this.#marker.mark(node, place, { origin, base });
      return node;
    });
  }

  /** The bytes of a file of the upper: its own, or those below that it stands for. */
  #ownContent(place: Place): TreeNode['content'] {
    return place.marks.metacopy
      ? this.#versions.ours.union.node(place).content
      : place.seen.node.content;
  }

  /** One node for all names of an object that are decided alike. */
  #shared({ place, base, theirs, moved }: Three, make: () => TreeNode): Item {
    const { versions } = { versions: this.#versions };
    const seesNew = place.marks.metacopy && theirs !== undefined && !moved;
    if (place.seen.links < 2) return { kind: 'node', node: make(), seesNew };
    const key = [
      place.seen.id,
      identityOf(versions.base, base),
      identityOf(versions.theirs, theirs),
    ].join('\0\0');
    const known = this.#linked.get(key);
    if (known !== undefined) return { kind: 'node', node: known, seesNew };
    const node = make();
    this.#linked.set(key, node);
    return { kind: 'node', node, seesNew };
  }

  /** Whether a copy that NEW makes superfluous may go: of an object with several names only when all of them may. */
  #mayDrop(place: Place): boolean {
    const group = this.#groups.get(place.path);
    if (group === undefined) return true;
    group.mayDrop ??= this.#mayDropAll(group);
    return group.mayDrop;
  }

  #mayDropAll({ members }: Group): boolean {
    const { base: old, ours, theirs: now } = this.#versions;
    const targets = new Set<string>();
    for (const { path, from, before } of members) {
      const place = ours.union.at(path);
      const base = before && old.union.at(from ?? path);
      const theirs = now.union.at(from ?? path);
      if (place === undefined || base === undefined || theirs === undefined) return false;
      if (typeOf(place) !== typeOf(theirs) || typeOf(place) !== typeOf(base)) return false;
      const options = { favour: this.#favour, lines: false };
      const sides = [sideOf(old, base), sideOf(ours, place), sideOf(now, theirs)] as const;
      if (!mergeObjects(...sides, options).isTheirs) return false;
      targets.add(identityOf(now, theirs));
    }
    return targets.size === 1;
  }

  /** Whether an object that was there before is changed by more than its time. */
  #isNews({ path }: Place): boolean {
    const change = this.#changes.get(path);
    return change === undefined || isNews(change);
  }

  /** What was moved here may lie over something of NEW that was not there before. @returns who wins. */
  #coversNew({ folder, name }: Three): 'ours' | 'theirs' {
    const { base: old, theirs: now } = this.#versions;
    const theirs = folder.theirs && now.union.enter(folder.theirs, name);
    if (theirs === undefined) return 'ours';
    const base = folder.base && old.union.enter(folder.base, name);
    if (base !== undefined) {
      if (this.#moved.has(base.path) || isSameTree(old, now, base, theirs)) return 'ours';
    }
    const clash = existence('moved here', base === undefined ? 'added' : 'changed');
    return this.#clash(folder, name, [clash], theirs);
  }

  #decide(path: string, outcome: 'kept' | 'dropped' | 'merged', from?: string): void {
    this.#decisions.push({ path, outcome, ...(from === undefined ? {} : { from }) });
  }

  /** Notes a conflict. @param theirs what is kept beside ours, if that is asked for. @returns whose version stays. */
  #clash(
    folder: Folder,
    name: string,
    clashes: readonly Clash[],
    theirs: Place | undefined,
  ): 'ours' | 'theirs' {
    this.#conflicts++;
    const path = name === '' ? '' : join(folder.place.path, name);
    const decision = { path, outcome: 'conflict', clashes } as const;
    if (this.#options.conflict !== 'both' || theirs === undefined) {
      this.#decisions.push(decision);
      return this.#favour;
    }
    const other = this.#besideName(folder, name);
    folder.beside.set(other, this.#copyOf(theirs));
    this.#decisions.push({ ...decision, theirs: join(folder.place.path, other) });
    return 'ours';
  }

  #besideName({ place, theirs, beside }: Folder, name: string): string {
    const { ours, theirs: now, upper } = this.#versions;
    for (let n = 1; ; n++) {
      const suffix = n === 1 ? '.theirs' : `.theirs.${n}`;
      const candidate = name.slice(0, 255 - suffix.length) + suffix;
      const isTaken =
        beside.has(candidate) ||
        upper.look(join(place.spots[0].at, candidate)) !== undefined ||
        ours.union.enter(place, candidate) !== undefined ||
        (theirs !== undefined && now.union.enter(theirs, candidate) !== undefined);
      if (!isTaken) return candidate;
    }
  }

  /** An object of NEW under another name: of a directory only where to find it, if that may be. */
  #copyOf(theirs: Place): TreeNode {
    const { theirs: now } = this.#versions;
    if (isDirectory(theirs.seen.node) && !this.#options.redirects) {
      const node = fill(now.union, theirs, new Map());
      this.#marker.markAll(node);
      return node;
    }
    const node = bare(now.union.node(theirs));
    const redirect = isDirectory(node) ? `/${theirs.path}` : undefined;
    this.#marker.mark(node, undefined, { redirect });
    return node;
  }
}

/** A node of its own, without entries. */
function bare(node: TreeNode): TreeNode {
  return makeNode(node.mode, { ...node, home: undefined });
}

const typeOf = ({ seen }: Place): number => seen.node.mode & S.IFMT;

const existence = (ours: string, theirs: string): Clash => ({ aspect: 'existence', ours, theirs });

function replacement(ours: Place, theirs: Place | undefined): Clash {
  if (theirs === undefined) return existence('replaced', 'deleted');
  return { aspect: 'type', ours: whatOf(ours.seen.node), theirs: whatOf(theirs.seen.node) };
}

function sourceOf(redirect: string | undefined, parent: string, name: string): string {
  return redirect?.startsWith('/') ? redirect.slice(1) : join(parent, redirect ?? name);
}

function isSameAttributes(a: TreeNode, b: TreeNode): boolean {
  const { mode, owner, xattr } = compareNodes(a, b, true);
  return !mode && !owner && !xattr;
}
