// What an upper has changed: one pass over the upper, a lookup below for each of its objects.
// The way from layer views to what diff, prune, apply and rebase work on; a live upper may change meanwhile.
// Follows Documentation/filesystems/overlayfs.rst: whiteouts, opaque directories, redirect_dir, metadata only copy up, origin.

import { S } from '../linux/constants.js';
import { join, nameOf } from '../tree/path.js';
import { isDirectory, type TreeNode } from '../tree/tree.js';
import type { Change, Status } from './change.js';
import { compareNodes, SAME, storedBytes } from './compare.js';
import { findNames, type Wanted } from './further-names.js';
import { HandleMap } from './handle-map.js';
import { type Indexed, unionLinks } from './index-names.js';
import { hides, marksOf } from './marks.js';
import { INDEX, type Place, Union, type UnionOptions } from './union.js';
import type { Handle, LayerView, Seen } from './view.js';
import { finish, type Work } from './work.js';

/** A stack whose topmost layer is to be read. */
export interface Stack {
  /** Without the upper. */
  readonly before: Union;
  /** With it. */
  readonly after: Union;
  readonly upper: LayerView;
  readonly aufs: boolean;
}

/** @param layers the upper first. @param data data-only layers. Views stay the caller's to close. */
export function stackOf(
  layers: readonly [LayerView, ...LayerView[]],
  data: readonly LayerView[] = [],
  options: UnionOptions = {},
): Stack {
  const [upper, ...lowers] = layers;
  return {
    before: new Union(lowers, data, { ...options, index: undefined }),
    after: new Union(layers, data, options),
    upper,
    aufs: options.aufs ?? false,
  };
}

/**
 * All that the upper has, a directory before what is in it, names in byte order: changes, and what is only copied (`=`).
 * A whiteout of nothing is an `=` without before and after. What a deleted directory had is not listed.
 * @throws SysError, TreeError, ErofsError.
 */
export function readChanges(stack: Stack): Change[] {
  return new Reading(stack).run();
}

const AUFS = '.wh.';
const AUFS_OPAQUE = '.wh..wh..opq';

/** What else is known of an object that is compared. */
interface How {
  /** The path that it had before, unless it was renamed itself. */
  readonly expected: string;
  /** A directory through which what is below shows. */
  readonly merged: boolean;
  /** First name of a hard link. */
  readonly link?: string;
}

class Reading {
  readonly #stack: Stack;
  readonly #changes: Change[] = [];
  /** Hard-linked objects of the upper, by their first name. */
  readonly #linked = new Map<string, Change>();
  /** Deleted objects that are no directories, by handle; and new ones that were copied from one. */
  readonly #deleted = new HandleMap<Change>();
  /** How many names the upper has of an object, by id; only where there is an index. */
  readonly #covered = new Map<string, number>();
  /** Lower objects with several names of which one was copied up or removed, by handle. */
  readonly #lowers = new HandleMap<Place>();
  readonly #copied: { readonly origin: Handle; readonly change: Change }[] = [];

  constructor(stack: Stack) {
    this.#stack = stack;
  }

  run(): Change[] {
    const { before, after } = this.#stack;
    const root = after.root();
    const base = before.layers.length === 0 ? undefined : before.root();
    const now = after.node(root);
    this.#changes.push(
      base === undefined
        ? { path: '', status: 'A', after: now, differs: SAME, stored: 0 }
        : this.#compared(root, now, base, { expected: '', merged: true }),
    );
    finish(this.#directory(root, base, base === undefined));
    this.#furtherNames();
    return this.#paired();
  }

  /** @param base what it is compared with. @param alone nothing of `base` shows through. */
  *#directory(place: Place, base: Place | undefined, alone: boolean): Work<void> {
    const { upper, before, aufs } = this.#stack;
    const own = new Set<string>();
    const hidden = new Set<string>();
    for (const name of upper.list(place.spots[0].at)) {
      if (!aufs || !name.startsWith(AUFS)) own.add(name);
      else if (name !== AUFS_OPAQUE) hidden.add(name.slice(AUFS.length));
    }
    const names = new Set([...own, ...hidden]);
    if (alone && base !== undefined)
      for (const b of before.children(base)) names.add(nameOf(b.path));
    for (const name of [...names].sort()) {
      const seen = own.has(name) ? upper.look(join(place.spots[0].at, name)) : undefined;
      const marks = seen && marksOf(seen.node, upper.marks);
      const isGone =
        seen === undefined ||
        marks === undefined ||
        hides(seen.node, marks, place.marks.opaque === 'x');
      if (isGone) {
        // A live upper may have lost it since it was listed.
        if (seen === undefined && own.has(name)) continue;
        this.#delete(place, base, name);
      } else {
        yield* this.#entry(place, base, name, seen);
      }
    }
  }

  #delete(place: Place, base: Place | undefined, name: string): void {
    const { before } = this.#stack;
    const was = base && before.enter(base, name);
    const path = join(place.path, name);
    if (was === undefined) {
      this.#changes.push({ path, status: '=', differs: SAME, stored: 0 });
      return;
    }
    const change: Change = {
      path,
      status: 'D',
      ...(was.path === path ? {} : { from: was.path }),
      before: before.node(was),
      differs: SAME,
      stored: 0,
    };
    this.#changes.push(change);
    if (isDirectory(was.seen.node)) return;
    const [spot] = was.spots;
    const handle = before.layers[spot.layer]?.handle(spot.at);
    if (handle === undefined) return;
    this.#deleted.set(handle, change);
    if (was.seen.links > 1) this.#lowers.set(handle, was);
  }

  *#entry(parent: Place, base: Place | undefined, name: string, seen: Seen): Work<void> {
    const { before, after } = this.#stack;
    const place = after.enter(parent, name);
    if (place === undefined || place.spots[0].layer !== 0) return;
    const node = after.node(place);
    const was = base && before.enter(base, name);
    const expected = join(base?.path ?? parent.path, name);
    if (isDirectory(node)) {
      const below = this.#mergedWith(place, base, name);
      const other = below ?? was;
      const merged = below !== undefined;
      this.#changes.push(this.#compared(place, node, other, { expected, merged }));
      yield this.#directory(
        place,
        other && isDirectory(other.seen.node) ? other : undefined,
        !merged,
      );
      return;
    }
    if (seen.links > 1 && after.index !== undefined) {
      this.#covered.set(seen.id, (this.#covered.get(seen.id) ?? 0) + 1);
      const handle = was && before.layers[was.spots[0].layer]?.handle(was.spots[0].at);
      if (handle && was.seen.links > 1) this.#lowers.set(handle, was);
    }
    const first = seen.links > 1 ? this.#linked.get(seen.id) : undefined;
    const source = was ?? this.#sourceOf(place, base);
    const shared = first?.after ?? node;
    const how = { expected, merged: false, link: first?.path };
    const change = this.#compared(place, shared, source, how);
    if (seen.links > 1 && first === undefined) this.#linked.set(seen.id, change);
    const { origin } = place.marks;
    if (change.status === 'A' && origin !== undefined) {
      this.#copied.push({ origin, change });
    }
    this.#changes.push(change);
  }

  /** The lower part of a merged directory, under the path that it had before. */
  #mergedWith(place: Place, base: Place | undefined, name: string): Place | undefined {
    const lowers = place.spots.slice(1).map(({ layer, at }) => ({ layer: layer - 1, at }));
    if (lowers.length === 0) return undefined;
    const { redirect } = place.marks;
    const path = redirect?.startsWith('/')
      ? redirect.slice(1)
      : join(base?.path ?? '', redirect ?? name);
    return this.#stack.before.directory(path, lowers);
  }

  /** Of a metacopy file that has another name: what has its data. */
  #sourceOf(place: Place, base: Place | undefined): Place | undefined {
    const { redirect } = place.marks;
    if (redirect === undefined || place.data === undefined) return undefined;
    const path = redirect.startsWith('/') ? redirect.slice(1) : join(base?.path ?? '', redirect);
    return this.#stack.before.at(path);
  }

  #compared(place: Place, now: TreeNode, was: Place | undefined, how: How): Change {
    const { before, after } = this.#stack;
    const { path } = place;
    const { expected, merged, link } = how;
    const isDir = isDirectory(now);
    const common = {
      path,
      after: now,
      stored:
        isDir || link !== undefined || place.marks.metacopy ? 0 : storedBytes(place.seen.node),
      ...(link === undefined ? {} : { link }),
      ...(isDir && !merged ? { opaque: true } : {}),
    };
    if (was === undefined) return { ...common, status: 'A', differs: SAME };
    const old = before.node(was);
    const from = was.path === path ? {} : { from: was.path };
    if ((old.mode & S.IFMT) !== (now.mode & S.IFMT)) {
      return { ...common, ...from, status: 'T', before: old, differs: { ...SAME, content: true } };
    }
    const bytes = after.bytesOf(place);
    const oldBytes = before.bytesOf(was);
    const sameBytes =
      bytes !== undefined && bytes.layer - 1 === oldBytes?.layer && bytes.at === oldBytes.at;
    const differs = compareNodes(old, now, sameBytes);
    const { content, mode, owner, xattr } = differs;
    let status: Status = content || mode || owner || xattr ? 'M' : '=';
    if (was.path !== expected) status = 'R';
    return { ...common, ...from, status, before: old, differs };
  }

  /** Names of changed objects that the upper has not, for they are those of the lower still: hard links, by the index. */
  #furtherNames(): void {
    const { before, after } = this.#stack;
    const wanted: Wanted[] = [];
    const byId = new Map<string, Indexed>();
    for (const indexed of after.index?.entries ?? []) {
      const { id } = indexed.seen;
      const lower = this.#lowers.get(indexed.origin);
      const covered = this.#covered.get(id) ?? 0;
      const links = lower?.seen.links ?? Number.POSITIVE_INFINITY;
      if ((unionLinks(indexed, links) ?? links) <= covered) continue;
      // Without a name in the upper it may be there for its link count alone.
      if (covered === 0 && lower !== undefined && this.#isUnchanged(indexed, lower)) continue;
      byId.set(id, indexed);
      if (lower !== undefined) {
        wanted.push({ id, layer: lower.spots[0].layer, lowerId: lower.seen.id });
        continue;
      }
      for (const [layer, view] of before.layers.entries()) {
        const lowerId = view.named?.(indexed.origin);
        if (lowerId !== undefined) wanted.push({ id, layer, lowerId });
      }
    }
    if (wanted.length === 0) return;
    for (const { id, was, path } of findNames(before, wanted, this.#changes)) {
      const place = after.at(path);
      if (place?.spots[0].layer !== INDEX || place.seen.id !== id) continue;
      const first = this.#linked.get(id);
      if (first === undefined && this.#isUnchanged(byId.get(id) as Indexed, was)) continue;
      const now = first?.after ?? after.node(place);
      const how = { expected: was.path, merged: false, link: first?.path };
      const change = this.#compared(place, now, was, how);
      if (first === undefined) this.#linked.set(id, change);
      this.#changes.push(change);
    }
    // In the order of a walk a slash comes before every other byte.
    const keys = new Map(this.#changes.map((c) => [c, c.path.replaceAll('/', '\0')]));
    const order = (a: Change, b: Change): number => {
      const [one = '', other = ''] = [keys.get(a), keys.get(b)];
      return one < other ? -1 : one > other ? 1 : 0;
    };
    this.#changes.sort(order);
  }

  #isUnchanged({ seen, marks, name }: Indexed, lower: Place): boolean {
    const { before, after } = this.#stack;
    const spots: Place['spots'] = [{ layer: INDEX, at: name }];
    const now = after.node({ path: '', seen, marks: { ...marks, metacopy: false }, spots });
    const differs = compareNodes(before.node(lower), now, marks.metacopy);
    return Object.values(differs).every((aspect) => aspect === false);
  }

  /** New objects that were copied from a deleted one are renamed: one change in place of the two. */
  #paired(): Change[] {
    const gone = new Set<Change>();
    const places = new Map(this.#changes.map((change, i) => [change, i]));
    for (const { origin, change } of this.#copied) {
      const deleted = this.#deleted.get(origin);
      if (deleted?.before === undefined || change.after === undefined) continue;
      if ((deleted.before.mode & S.IFMT) !== (change.after.mode & S.IFMT)) continue;
      this.#deleted.delete(origin);
      gone.add(deleted);
      this.#changes[places.get(change) as number] = {
        ...change,
        status: 'R',
        from: deleted.from ?? deleted.path,
        before: deleted.before,
        differs: compareNodes(deleted.before, change.after),
      };
    }
    const renamed = new Set<string>();
    for (const { status, from } of this.#changes) if (status === 'R') renamed.add(from as string);
    for (const change of this.#changes) {
      if (change.status === 'D' && renamed.has(change.from ?? change.path)) gone.add(change);
    }
    return this.#changes.filter((change) => !gone.has(change));
  }
}
