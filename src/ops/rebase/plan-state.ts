// What all decisions of a rebase share: the versions, what was said so far, and how a conflict is kept.
// Used by plan.ts, plan-directory.ts and plan-file.ts; decides only who wins a conflict.
// The table of decisions: docs/rebase.md.

import { S } from '../../linux/constants.js';
import { join } from '../../tree/path.js';
import { isDirectory, makeNode, show, type TreeNode } from '../../tree/tree.js';
import { type Change, isNews } from '../../union/change.js';
import { fill } from '../../union/flat.js';
import type { Place } from '../../union/union.js';
import { type Group, groupsOf } from './links.js';
import type { Marker } from './marker.js';
import { type Clash, whatOf } from './three-way.js';
import { isSameTree, type Versions } from './versions.js';

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
  /** Told of each conflict whose other side is an object: NEW has it under another path where it was renamed here. */
  readonly onClash?: (path: string, theirs: Place) => void;
}

/** A directory of the upper, and what it is held against. */
export interface Folder {
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
export type Item =
  /** Nothing. @param seesNew what NEW has there shows. */
  | { readonly kind: 'nothing'; readonly seesNew: boolean }
  | { readonly kind: 'whiteout'; readonly seesNew: false }
  /** @param seesNew it needs what lies below it in NEW. */
  | { readonly kind: 'node'; readonly node: TreeNode; readonly seesNew: boolean };

export const nothing = (seesNew: boolean): Item => ({ kind: 'nothing', seesNew });
export const WHITEOUT: Item = { kind: 'whiteout', seesNew: false };

/** An object of the upper, what was there before, and what NEW has in its place. */
export interface Three {
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

export class PlanState {
  readonly versions: Versions;
  readonly marker: Marker;
  readonly options: PlanOptions;
  readonly favour: 'ours' | 'theirs';
  readonly decisions: Decision[] = [];
  readonly changes = new Map<string, Change>();
  readonly groups: ReadonlyMap<string, Group>;
  /** Paths of lowers whose objects have another name in the upper. */
  readonly moved = new Set<string>();
  /** What became of an object with several names, by what it was made of. */
  readonly linked = new Map<string, TreeNode>();
  /** The first path of each object with several names that is still there, by its id in the upper. */
  readonly #firstNames = new Map<string, string>();
  /** How many there were so far. */
  conflicts = 0;

  constructor(
    versions: Versions,
    changes: readonly Change[],
    marker: Marker,
    options: PlanOptions,
  ) {
    this.versions = versions;
    this.marker = marker;
    this.options = options;
    this.favour = options.conflict === 'theirs' ? 'theirs' : 'ours';
    for (const change of changes) {
      this.changes.set(change.path, change);
      if (change.status === 'R') this.moved.add(change.from as string);
    }
    this.groups = groupsOf(changes);
  }

  /** Whether an object that was there before is changed by more than its time. */
  isNews({ path }: Place): boolean {
    const change = this.changes.get(path);
    return change === undefined || isNews(change);
  }

  /** What was moved here may lie over something of NEW that was not there before. @returns who wins. */
  coversNew({ folder, name }: Three): 'ours' | 'theirs' {
    const { base: old, theirs: now } = this.versions;
    const theirs = folder.theirs && now.union.enter(folder.theirs, name);
    if (theirs === undefined) return 'ours';
    const base = folder.base && old.union.enter(folder.base, name);
    if (base !== undefined) {
      if (this.moved.has(base.path) || isSameTree(old, now, base, theirs)) return 'ours';
    }
    const clash = existence('moved here', base === undefined ? 'added' : 'changed');
    return this.clash(folder, name, [clash], theirs);
  }

  decide(path: string, outcome: 'kept' | 'dropped' | 'merged', from?: string): void {
    this.decisions.push({ path, outcome, ...(from === undefined ? {} : { from }) });
  }

  /** Notes a conflict. @param theirs what is kept beside ours, if that is asked for. @returns whose version stays. */
  clash(
    folder: Folder,
    name: string,
    clashes: readonly Clash[],
    theirs: Place | undefined,
  ): 'ours' | 'theirs' {
    this.conflicts++;
    const path = name === '' ? '' : join(folder.place.path, name);
    const decision = { path, outcome: 'conflict', clashes } as const;
    if (theirs !== undefined) this.options.onClash?.(path, theirs);
    if (this.options.conflict !== 'both' || theirs === undefined) {
      this.decisions.push(decision);
      return this.favour;
    }
    const other = this.#besideName(folder, name);
    folder.beside.set(other, this.#copyOf(theirs));
    this.decisions.push({ ...decision, theirs: join(folder.place.path, other) });
    return 'ours';
  }

  /** Notes that a name gets an object of its own: where others have got one already, a hard link is parted. */
  ownObject({ path, seen }: Place): void {
    const first = this.#firstNames.get(seen.id);
    if (first === undefined) {
      this.#firstNames.set(seen.id, path);
      return;
    }
    const clash: Clash = {
      aspect: 'links',
      ours: `one file with ${show(first)}`,
      theirs: 'another file than that',
    };
    const said = this.decisions.findLastIndex((decision) => decision.path === path);
    const before = this.decisions[said];
    if (before?.outcome !== 'conflict') this.conflicts++;
    const clashes = [...(before?.clashes ?? []), clash];
    const decision: Decision = { ...before, path, outcome: 'conflict', clashes };
    this.decisions.splice(said < 0 ? this.decisions.length : said, said < 0 ? 0 : 1, decision);
  }

  #besideName({ place, theirs, beside }: Folder, name: string): string {
    const { ours, theirs: now, upper } = this.versions;
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
    const { theirs: now } = this.versions;
    if (isDirectory(theirs.seen.node) && !this.options.redirects) {
      const node = fill(now.union, theirs, new Map());
      this.marker.markAll(node);
      return node;
    }
    const node = bare(now.union.node(theirs));
    const redirect = isDirectory(node) ? `/${theirs.path}` : undefined;
    this.marker.mark(node, undefined, { redirect });
    return node;
  }
}

/** A node of its own, without entries. */
export function bare(node: TreeNode): TreeNode {
  return makeNode(node.mode, { ...node, home: undefined });
}

export const typeOf = ({ seen }: Place): number => seen.node.mode & S.IFMT;

export const existence = (ours: string, theirs: string): Clash => ({
  aspect: 'existence',
  ours,
  theirs,
});

export function replacement(ours: Place, theirs: Place | undefined): Clash {
  if (theirs === undefined) return existence('replaced', 'deleted');
  return { aspect: 'type', ours: whatOf(ours.seen.node), theirs: whatOf(theirs.seen.node) };
}
