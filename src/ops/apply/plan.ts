// What has to be done to a directory so that it shows what a stack shows: which of its objects stay, move, go, and what is new.
// Called by apply.ts with the changes of the upper; looks at those objects of the target that they name, changes nothing.
// An object is known by two paths: where it was (in the target before) and where it will be (in the union).

import { S } from '../../linux/constants.js';
import { join, nameOf, parentOf } from '../../tree/path.js';
import { add, isDirectory, makeNode, type TreeNode } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import type { Stack } from '../../union/changes.js';
import { fill } from '../../union/flat.js';
import { attributesOf, readAttributes } from '../attributes.js';
import { type Held, isDirectoryMode, isWithin, type Met } from '../held.js';
import { PARTS, type Put, type Setting, type Take } from './journal.js';

/** A plan, whose new objects are still to be staged. */
export interface ApplyPlan {
  readonly takes: readonly Take[];
  readonly puts: readonly DraftPut[];
  readonly sets: readonly Setting[];
  readonly restores: readonly Setting[];
  readonly opened: readonly string[];
  /** Entries `0`, `1`...: what becomes `new/0`, `new/1`... */
  readonly news: TreeNode;
  /** Paths of the union of new regular files by their path in `news`. */
  readonly files: ReadonlyMap<string, string>;
  /** For people, in the order of the paths. */
  readonly steps: readonly PlannedStep[];
}

/** What happens to one object: it is new, in another one's place, moved, taken away, or gets other attributes. */
export interface PlannedStep {
  readonly what: 'add' | 'replace' | 'move' | 'remove' | 'change';
  /** Latin1. */
  readonly path: string;
  /** Of a move. */
  readonly from?: string;
}

/** As Put; of what is new there is no identity yet. */
export type DraftPut = Omit<Put, 'id'> & { id?: string };

/** A directory of the union. */
type Home =
  /** It is one of the target, which was at this path. */
  | { readonly was: string }
  /** It is new: the node that will be staged. */
  | { readonly node: TreeNode; readonly staged: string };

/** @throws SysError, TreeError. */
export function planApply(stack: Stack, changes: readonly Change[], target: Held): ApplyPlan {
  return new Planner(stack, changes, target).run();
}

class Planner {
  readonly #stack: Stack;
  readonly #changes: readonly Change[];
  readonly #target: Held;
  readonly #homes = new Map<string, Home>();
  /** What leaves its place, by where it was. */
  readonly #takes = new Map<string, { id: string; put?: DraftPut }>();
  readonly #puts: DraftPut[] = [];
  readonly #sets: Setting[] = [];
  readonly #restores = new Map<string, Setting>();
  readonly #opened: string[] = [];
  readonly #news = makeNode(S.IFDIR | 0o700);
  readonly #files = new Map<string, string>();
  /** Copies of nodes that are new, by the change's own. */
  readonly #copies = new Map<TreeNode, TreeNode>();
  /** Objects of the target that stay, by the node that several names share: the path that they will have. */
  readonly #kept = new Map<TreeNode, string>();
  readonly #moved = new Map<string, Change>();
  readonly #directories = new Map<string, Change>();
  /** Names that a node has among the changes. */
  readonly #names = new Map<TreeNode, Change[]>();
  readonly #steps: PlannedStep[] = [];

  constructor(stack: Stack, changes: readonly Change[], target: Held) {
    this.#stack = stack;
    this.#changes = changes;
    this.#target = target;
    // What is directly below it stays in its place, whether a change tells of the target itself or not.
    this.#homes.set('', { was: '' });
  }

  run(): ApplyPlan {
    this.#note();
    /** A directory that was taken from the union as a whole. */
    let whole: string | undefined;
    for (const change of this.#changes) {
      const { path, after, status } = change;
      if (whole !== undefined && isWithin(path, whole)) {
        this.#leave(change);
        continue;
      }
      if (status === 'D') this.#delete(change);
      else if (after !== undefined && isDirectory(after)) {
        if (this.#directory(change, after)) whole = path;
      } else if (after !== undefined) this.#object(change, after);
    }
    const { takes, puts } = this.#finishMoves();
    for (const { path } of takes) this.#keepAsItWas(parentOf(path));
    this.#open(takes);
    return {
      takes,
      puts,
      sets: this.#sets.reverse(),
      restores: deepestFirst([...this.#restores.values()]),
      opened: this.#opened,
      news: this.#news,
      files: this.#files,
      steps: this.#steps,
    };
  }

  /** First of all: which objects of the target go where, and which names share one object. */
  #note(): void {
    for (const change of this.#changes) {
      const { from, after } = change;
      if (from !== undefined && this.#hasLeft(change) && !this.#moved.has(from)) {
        this.#moved.set(from, change);
      }
      if (after === undefined) continue;
      if (isDirectory(after)) {
        this.#directories.set(change.path, change);
        continue;
      }
      const names = this.#names.get(after);
      if (names === undefined) this.#names.set(after, [change]);
      else names.push(change);
    }
  }

  /** Whether the object that a change tells to be renamed is no longer seen where it was, too. */
  #hasLeft({ status, from = '', after }: Change): boolean {
    if (status !== 'R' || after === undefined) return false;
    const place = this.#stack.after.at(from);
    if (place === undefined) return true;
    if (place.spots[0].layer > 0) return false;
    if (isDirectory(after)) return !place.spots.some(({ layer, at }) => layer > 0 && at === from);
    return !place.marks.metacopy;
  }

  /** The source of what was renamed and cannot be the old object: it goes. */
  #leave(change: Change): void {
    const { status, from } = change;
    if (status !== 'R' || from === undefined || this.#moved.get(from) !== change) return;
    const met = this.#target.look(from);
    if (met === undefined) return;
    this.#takes.set(from, { id: met.id });
    this.#steps.push({ what: 'remove', path: from });
  }

  /** Where the object of a change was in the target; undefined: what was there is not this object. */
  #wasAt(change: Change): string | undefined {
    const { status, path, from } = change;
    if (status === 'A') return undefined;
    const was = from ?? path;
    const mover = this.#moved.get(was);
    if (status === 'R') return mover === change ? was : undefined;
    return mover === undefined ? was : undefined;
  }

  /** A directory of the union; one that no change tells of is what it was, but for a name of a hard-linked file in it. */
  #home(path: string): Home | undefined {
    const known = this.#homes.get(path);
    if (known !== undefined || path === '') return known;
    const above = this.#home(parentOf(path));
    if (above === undefined || 'node' in above) return undefined;
    const home = { was: join(above.was, nameOf(path)) };
    this.#homes.set(path, home);
    this.#sets.push({ path, attributes: readAttributes(this.#target, home.was) });
    this.#keepAsItWas(home.was);
    return home;
  }

  #delete(change: Change): void {
    const home = this.#home(parentOf(change.path));
    if (home !== undefined && 'node' in home) return;
    const was = this.#wasAt(change);
    const met = was === undefined ? undefined : this.#target.look(was);
    if (was === undefined || met === undefined) return;
    this.#takes.set(was, { id: met.id });
    this.#steps.push({ what: 'remove', path: was });
  }

  /** @returns true when it has been taken with all that is in it. */
  #directory(change: Change, after: TreeNode): boolean {
    const { path } = change;
    const old = this.#oldDirectory(change);
    if (old !== undefined) {
      const { was, met } = old;
      this.#homes.set(path, { was });
      if (!this.#movesAlong(path, was)) this.#move(change, was, met);
      this.#set(change, was, after);
      return false;
    }
    // Its content is the lower's, which another one has got, or which is gone.
    const isWhole = change.opaque !== true && change.status === 'R';
    const place = isWhole ? this.#stack.after.at(path) : undefined;
    const node =
      place === undefined
        ? makeNode(after.mode, { ...after })
        : fill(this.#stack.after, place, new Map());
    this.#leave(change);
    const staged = this.#new(path, node);
    this.#homes.set(path, { node, staged });
    return place !== undefined;
  }

  #object(change: Change, after: TreeNode): void {
    const { path } = change;
    const known = this.#kept.get(after);
    if (known !== undefined) {
      const over = this.#isOver(path);
      this.#steps.push({ what: over ? 'replace' : 'add', path });
      this.#puts.push({ path, from: `=${known}`, over });
      this.#touch(path);
      return;
    }
    const was = this.#stays(change, after);
    if (was === undefined) {
      this.#leave(change);
      this.#new(path, this.#copy(after));
      return;
    }
    if ((this.#names.get(after)?.length ?? 0) > 1) this.#kept.set(after, path);
    const met = this.#target.look(was) as Met;
    if (!this.#movesAlong(path, was)) this.#move(change, was, met);
    const { mode, owner, xattr, time } = change.differs;
    if (mode || owner || xattr || time) this.#set(change, was, after);
  }

  /** Where the object was that stays what it is, but for its attributes; undefined: it is to be made anew. */
  #stays(change: Change, after: TreeNode): string | undefined {
    if (this.#copies.has(after)) return undefined;
    const was = this.#mayStay(change, after);
    if (was === undefined) return undefined;
    const names = this.#names.get(after) ?? [];
    const links = (this.#target.look(was) as Met).links;
    if (names.length === 1 && links === 1) return was;
    return this.#sharedStay(names, after) ? was : undefined;
  }

  #mayStay(change: Change, after: TreeNode): string | undefined {
    if (change.status === 'T' || change.differs.content) return undefined;
    const was = this.#wasAt(change);
    const met = was === undefined ? undefined : this.#target.look(was);
    if (met === undefined || (met.mode & S.IFMT) !== (after.mode & S.IFMT)) return undefined;
    // In a new directory only what has moved there on its own is not new.
    return change.status !== 'R' && this.#isNew(parentOf(change.path)) ? undefined : was;
  }

  /** Of a directory of the union whose turn may still come: of several names of an object the first asks for all. */
  #isNew(directory: string): boolean {
    const home = this.#homes.get(directory);
    if (home !== undefined) return 'node' in home;
    if (directory === '') return false;
    const change = this.#directories.get(directory);
    if (change === undefined) return this.#isNew(parentOf(directory));
    return this.#oldDirectory(change) === undefined;
  }

  /** The directory of the target that goes on as that of a change. */
  #oldDirectory(change: Change): { readonly was: string; readonly met: Met } | undefined {
    const was = this.#wasAt(change);
    const met = was === undefined ? undefined : this.#target.look(was);
    if (was === undefined || met === undefined || !isDirectoryMode(met.mode)) return undefined;
    return { was, met };
  }

  /** Whether names that share one object in the union share one in the target that has no others. */
  #sharedStay(names: readonly Change[], after: TreeNode): boolean {
    const ids = new Set<string>();
    let links = 0;
    let found = 0;
    for (const change of names) {
      if (this.#wasAt(change) === undefined) continue;
      const was = this.#mayStay(change, after);
      if (was === undefined) return false;
      const met = this.#target.look(was) as Met;
      ids.add(met.id);
      links = met.links;
      found++;
    }
    // The first of them is the one that the others become links to.
    const [first] = names;
    return (
      ids.size === 1 && links === found && first !== undefined && this.#wasAt(first) !== undefined
    );
  }

  /** A copy to be staged, one for all names. */
  #copy(node: TreeNode): TreeNode {
    const known = this.#copies.get(node);
    if (known !== undefined) return known;
    const copy = makeNode(node.mode, { ...node, home: undefined, statedLinks: undefined });
    this.#copies.set(node, copy);
    return copy;
  }

  /** @returns its path in `news`. */
  #new(path: string, node: TreeNode): string {
    const home = this.#home(parentOf(path));
    let staged: string;
    if (home !== undefined && 'node' in home) {
      add(home.node, nameOf(path), node);
      staged = `${home.staged}/${nameOf(path)}`;
      this.#steps.push({ what: 'add', path });
    } else {
      const name = `${this.#news.entries?.size ?? 0}`;
      add(this.#news, name, node);
      staged = name;
      const over = this.#isOver(path);
      this.#puts.push({ path, from: `${PARTS.news}/${name}`, over });
      this.#steps.push({ what: over ? 'replace' : 'add', path });
      this.#touch(path);
    }
    if (isDirectory(node)) this.#makeWritable(path, node);
    else if ((node.mode & S.IFMT) === S.IFREG) this.#files.set(staged, path);
    return staged;
  }

  /** A new directory gets its own mode and time at the end, when all is in it and it is where it belongs. */
  #makeWritable(path: string, node: TreeNode): void {
    this.#sets.push({ path, attributes: attributesOf(node) });
    node.mode |= 0o700;
  }

  /** Whether an object gets its place by that of its parent. */
  #movesAlong(path: string, was: string): boolean {
    if (path === '') return true;
    const home = this.#home(parentOf(path));
    const above = home === undefined || 'node' in home ? undefined : home.was;
    if (above === undefined) return false;
    return nameOf(path) === nameOf(was) && parentOf(was) === above;
  }

  #move(change: Change, was: string, { id }: Met): void {
    const put: DraftPut = { path: change.path, from: was, id, over: this.#isOver(change.path) };
    this.#takes.set(was, { id, put });
    this.#puts.push(put);
    this.#steps.push({ what: 'move', path: change.path, from: was });
    this.#touch(change.path);
  }

  /** Whether the target has something at the place when all that leaves has left; known when all changes are. */
  #isOver(path: string): boolean {
    const was = this.#homeWas(path);
    if (was === undefined) return false;
    const place = join(was, nameOf(path));
    return !this.#moved.has(place) && this.#target.look(place) !== undefined;
  }

  #homeWas(path: string): string | undefined {
    const home = this.#home(parentOf(path));
    return home !== undefined && 'was' in home ? home.was : undefined;
  }

  #set(change: Change, was: string, after: TreeNode): void {
    this.#sets.push({ path: change.path, attributes: attributesOf(after) });
    this.#keepAsItWas(was);
    const { mode, owner, xattr } = change.differs;
    if (mode || owner || xattr) this.#steps.push({ what: 'change', path: change.path });
  }

  /** The parent of a path gets another time by what is done in it. */
  #touch(path: string): void {
    const was = this.#homeWas(path);
    if (was !== undefined) this.#keepAsItWas(was);
  }

  #keepAsItWas(path: string): void {
    if (this.#restores.has(path)) return;
    this.#restores.set(path, { path, attributes: readAttributes(this.#target, path) });
  }

  #finishMoves(): { takes: Take[]; puts: DraftPut[] } {
    const takes = deepestFirst([...this.#takes].map(([path, take]) => ({ path, ...take })));
    const puts = this.#puts;
    takes.forEach(({ put }, i) => {
      if (put === undefined) return;
      const index = puts.indexOf(put);
      puts[index] = { ...put, from: `${PARTS.held}/${i}` };
    });
    return { takes: takes.map(({ path, id }) => ({ path, id })), puts };
  }

  /** Directories of a plain user that their owner may not write to, as far as something is done in them or with them. */
  #open(takes: readonly Take[]): void {
    const uid = process.geteuid?.() ?? 0;
    if (uid === 0) return;
    for (const { path } of takes) {
      const met = this.#target.look(path);
      if (met !== undefined && isDirectoryMode(met.mode)) this.#keepAsItWas(path);
    }
    for (const { path, attributes } of this.#restores.values()) {
      const { mode } = attributes;
      if (!isDirectoryMode(mode) || (mode & 0o700) === 0o700 || attributes.uid !== uid) continue;
      this.#opened.push(path);
    }
  }
}

function deepestFirst<T extends { readonly path: string }>(list: T[]): T[] {
  // What lies in a directory comes behind it in byte order.
  return list.sort((a, b) => (a.path < b.path ? 1 : a.path > b.path ? -1 : 0));
}
