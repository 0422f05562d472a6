// What becomes of each object of an upper when the layers below it are replaced: one walk over the upper.
// Between versions.ts (what there is) and publish.ts (what is written): the result is the new upper as a tree in memory.
// The table of decisions: docs/rebase.md. Whiteouts and opaque directories: Documentation/filesystems/overlayfs.rst.

import { S } from '../../linux/constants.js';
import { join, nameOf } from '../../tree/path.js';
import { add, isDirectory, makeNode, type TreeNode } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import { hides, marksOf } from '../../union/marks.js';
import type { Place } from '../../union/union.js';
import { finish, type Work } from '../../union/work.js';
import { copiedFrom, type Group } from './links.js';
import type { Marker } from './marker.js';
import { attributesOf, type Filled, planDirectory } from './plan-directory.js';
import { planFile } from './plan-file.js';
import {
  type Decision,
  existence,
  type Folder,
  type Item,
  nothing,
  type PlanOptions,
  PlanState,
  type Three,
  WHITEOUT,
} from './plan-state.js';
import { isSameTree, type Versions } from './versions.js';

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
  return new Planner(new PlanState(versions, changes, marker, options)).run();
}

class Planner {
  readonly #state: PlanState;

  constructor(state: PlanState) {
    this.#state = state;
  }

  run(): Plan {
    const { base, ours, theirs } = this.#state.versions;
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
    const root = attributesOf(this.#state, three);
    finish(this.#fill(folder, root));
    this.#state.marker.markRoot(root, place);
    const decisions = this.#state.decisions.sort((a, b) => (a.path < b.path ? -1 : 1));
    return { root, decisions };
  }

  /** Puts what is to be there into the new directory. @returns how it goes together with NEW. */
  *#fill(folder: Folder, into: TreeNode): Work<Filled> {
    const items = new Map<string, Item>();
    for (const name of this.#names(folder)) items.set(name, yield* this.#item(folder, name));
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
    const { upper, aufs } = this.#state.versions;
    const names = new Set<string>();
    for (const name of upper.list(place.spots[0].at)) {
      if (!aufs || !name.startsWith('.wh.')) names.add(name);
      else if (name !== '.wh..wh..opq') names.add(name.slice(4));
    }
    if (!shows) {
      const { union } = this.#state.versions.base;
      if (base !== undefined)
        for (const child of union.children(base)) names.add(nameOf(child.path));
      const other = this.#state.versions.theirs.union;
      if (theirs !== undefined) {
        for (const child of other.children(theirs)) names.add(nameOf(child.path));
      }
    }
    return [...names].sort();
  }

  *#item(folder: Folder, name: string): Work<Item> {
    const { upper, ours } = this.#state.versions;
    const base = folder.base && this.#state.versions.base.union.enter(folder.base, name);
    const theirs = folder.theirs && this.#state.versions.theirs.union.enter(folder.theirs, name);
    const seen = upper.look(join(folder.place.spots[0].at, name));
    const inHiding = folder.place.marks.opaque === 'x';
    if (seen === undefined || hides(seen.node, marksOf(seen.node, upper.marks), inHiding)) {
      return this.#gone(folder, name, base, theirs);
    }
    const place = ours.union.enter(folder.place, name);
    if (place === undefined || place.spots[0].layer !== 0) return nothing(false);
    if (isDirectory(place.seen.node)) {
      const three = this.#threeOfDirectory(folder, name, place, base, theirs);
      return yield* planDirectory(this.#state, three, (inner, into) => this.#fill(inner, into));
    }
    return planFile(this.#state, this.#threeOfFile(folder, name, place, base, theirs));
  }

  /** What is seen there no more. @param base, theirs what the lowers have under the name. */
  #gone(folder: Folder, name: string, base: Place | undefined, theirs: Place | undefined): Item {
    const path = join(folder.place.path, name);
    const { base: old, theirs: now } = this.#state.versions;
    if (theirs === undefined) {
      if (base !== undefined) this.#state.decide(path, 'dropped');
      return nothing(false);
    }
    // What NEW has added nobody has deleted.
    if (base === undefined) return nothing(true);
    if (this.#state.moved.has(base.path) || isSameTree(old, now, base, theirs)) {
      this.#state.decide(path, 'kept');
      return WHITEOUT;
    }
    const clash = existence('deleted', 'changed');
    if (this.#state.clash(folder, name, [clash], theirs) === 'theirs') return nothing(true);
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
    const below = this.#state.versions.base.union.directory(source, lowers);
    const moved = source !== expected;
    const other = moved ? this.#state.versions.theirs.union.at(source) : theirs;
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
    const change = this.#state.changes.get(place.path);
    const group = this.#state.groups.get(place.path);
    const own =
      change?.before !== undefined
        ? (change.from ?? change.path)
        : base === undefined
          ? (group?.source ?? expected)
          : expected;
    const source = this.#sourceOfLinked(group, place, own) ?? own;
    const common = { folder, name, place, source };
    if (source === expected) return { ...common, base, theirs, moved: false };
    return {
      ...common,
      base: this.#state.versions.base.union.at(source),
      theirs: this.#state.versions.theirs.union.at(source),
      moved: true,
    };
  }

  /** Of a name that was linked over another file of the lowers: where the object is that it is a name of. */
  #sourceOfLinked(group: Group | undefined, place: Place, own: string): string | undefined {
    const { union } = this.#state.versions.base;
    const source = group && copiedFrom(group, place, union);
    const [from, covered] = [source === undefined ? undefined : union.at(source), union.at(own)];
    if (from === undefined || covered === undefined) return undefined;
    return union.identity(from) === union.identity(covered) ? undefined : source;
  }
}

function sourceOf(redirect: string | undefined, parent: string, name: string): string {
  return redirect?.startsWith('/') ? redirect.slice(1) : join(parent, redirect ?? name);
}
