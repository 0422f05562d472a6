// Whether a directory still has what the author of an upper saw there: objects that are others by now would be lost.
// Called by apply.ts before anything is planned; looks at what the changes name, and in deleted directories at all.
// Origin marks: struct ovl_fb of fs/overlayfs/overlayfs.h holds the file handle of what was copied.

import { S } from '../../linux/constants.js';
import { isDirectory, isWhiteout, show, type TreeNode } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import type { Stack } from '../../union/changes.js';
import { compareNodes, hasSameContent } from '../../union/compare.js';
import { marksOf } from '../../union/marks.js';
import type { Handle, LayerView } from '../../union/view.js';

export interface Conflict {
  /** Latin1, in the target. */
  readonly path: string;
  /** `gone`: it is not there. `exists`: it is there, and was not. `differs`: it is another one. */
  readonly kind: 'gone' | 'exists' | 'differs';
  /** What is wrong, for people. */
  readonly message: string;
}

/** What was at a path of the target when the upper was made; undefined: nothing. */
export type Expected = (path: string) => TreeNode | undefined;

/**
 * @param target the directory that is applied to, as a layer.
 * @param isLower it is the lower of the stack itself: then only marks can tell whether it has changed.
 */
export function findConflicts(
  stack: Stack,
  changes: readonly Change[],
  target: LayerView,
  isLower: boolean,
  expected?: Expected,
): Conflict[] {
  const search = new Search(stack, target);
  if (isLower && expected === undefined) return search.byOrigin(changes);
  return search.byComparison(changes, expected);
}

class Search {
  readonly #stack: Stack;
  readonly #target: LayerView;
  readonly #found: Conflict[] = [];

  constructor(stack: Stack, target: LayerView) {
    this.#stack = stack;
    this.#target = target;
  }

  /**
   * Handles of what the upper copied, against those of what is there. Where not one of them fits, the lower is a copy of
   * the one that the upper was made over, and nothing can be told.
   */
  byOrigin(changes: readonly Change[]): Conflict[] {
    let fits = 0;
    const others = new Map<string, string>();
    for (const { path, from, before, status } of changes) {
      const seen = this.#stack.upper.look(path);
      if (seen === undefined || isWhiteout(seen.node)) continue;
      const marks = marksOf(seen.node, this.#stack.upper.marks);
      const was = from ?? path;
      if (marks.metacopy && seen.node.size > 0 && before === undefined) {
        this.#say(was, 'gone', 'the upper has only the metadata of it, and its data is not there');
      }
      if (marks.redirect !== undefined && before === undefined) {
        this.#say(was, 'gone', `what ${show(marks.redirect)} had is not there`);
      }
      const there = marks.origin === undefined ? undefined : this.#target.handle(was);
      if (marks.origin === undefined || there === undefined) continue;
      const origin = keyOf(marks.origin);
      if (origin === keyOf(there)) fits++;
      else if (status === 'M' || status === '=') others.set(was, origin);
    }
    if (fits === 0 || others.size === 0) return this.#found;
    const known = this.#handles(changes);
    for (const [path, origin] of others) {
      // A file that was renamed over another one has the origin that it had before.
      if (known.has(origin)) continue;
      this.#say(path, 'differs', 'it is not the object that the upper has a copy of');
    }
    return this.#found;
  }

  /** Of all that the changes tell to be another now, and of what deleted directories have. */
  #handles(changes: readonly Change[]): Set<string> {
    const handles = new Set<string>();
    const pending: string[] = [];
    for (const { path, from, before, status, opaque } of changes) {
      const was = from ?? path;
      const handle = before === undefined ? undefined : this.#target.handle(was);
      if (handle !== undefined) handles.add(keyOf(handle));
      if (status === 'D' || status === 'T' || opaque === true) pending.push(was);
    }
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      const node = this.#target.look(path)?.node;
      if (node === undefined || !isDirectory(node)) continue;
      for (const name of this.#target.list(path)) {
        const at = path === '' ? name : `${path}/${name}`;
        const handle = this.#target.handle(at);
        if (handle !== undefined) handles.add(keyOf(handle));
        pending.push(at);
      }
    }
    return handles;
  }

  byComparison(changes: readonly Change[], expected: Expected | undefined): Conflict[] {
    const news = new Set<string>();
    for (const change of changes) {
      const { path, status, after } = change;
      const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      if (status === 'A' || status === 'T') news.add(path);
      if (path === '' || (news.has(parent) && status !== 'R')) continue;
      const was = change.from ?? path;
      const before = expected === undefined ? change.before : expected(was);
      const now = this.#target.look(was)?.node;
      // It has been applied before, or somebody had the same idea.
      if (status !== 'R' && isAlike(now, after)) continue;
      if (before === undefined) {
        if (status === 'A' && now !== undefined && !isWhiteout(now)) {
          this.#say(was, 'exists', 'it was not there before, and would be replaced');
        }
        continue;
      }
      if (now === undefined) {
        if (status !== 'D') this.#say(was, 'gone', 'it was there before');
      } else if (!isUnchanged(before, now)) {
        this.#say(was, 'differs', 'it has been changed since');
      } else if ((status === 'D' || status === 'T') && expected === undefined && isDirectory(now)) {
        this.#compareBelow(was);
      }
    }
    return this.#found;
  }

  /** All that a directory had, which goes with it. */
  #compareBelow(directory: string): void {
    const { before } = this.#stack;
    const pending = [directory];
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      const place = before.at(path);
      const had = new Map(
        (place === undefined ? [] : before.children(place)).map((child) => [child.path, child]),
      );
      for (const name of this.#target.list(path)) {
        const at = `${path}/${name}`;
        const now = this.#target.look(at)?.node;
        const child = had.get(at);
        if (now === undefined) continue;
        if (child === undefined) this.#say(at, 'exists', 'it was not there before, and would go');
        else if (!isUnchanged(before.node(child), now)) {
          this.#say(at, 'differs', 'it has been changed since');
        } else if (isDirectory(now)) pending.push(at);
      }
    }
  }

  #say(path: string, kind: Conflict['kind'], message: string): void {
    this.#found.push({ path, kind, message });
  }
}

const keyOf = ({ type, bytes }: Handle): string =>
  `${type}:${Buffer.from(bytes).toString('latin1')}`;

function isAlike(now: TreeNode | undefined, after: TreeNode | undefined): boolean {
  if (now === undefined || after === undefined) return now === after;
  if ((now.mode & S.IFMT) !== (after.mode & S.IFMT) || isDirectory(now)) return false;
  const { content, mode, owner, xattr } = compareNodes(after, now);
  return !content && !mode && !owner && !xattr;
}

/** Directories are compared by type alone: what is in them has changes of its own. */
function isUnchanged(before: TreeNode, now: TreeNode): boolean {
  if ((before.mode & S.IFMT) !== (now.mode & S.IFMT)) return false;
  if (isDirectory(before)) return true;
  const { mode, owner, xattr, time } = compareNodes(before, now, true);
  if (mode || owner || xattr || before.size !== now.size) return false;
  return !time || hasSameContent(before, now);
}
