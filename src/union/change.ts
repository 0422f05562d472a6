// One difference between a stack without its upper (before) and with it (after), as data.
// Made by changes.ts; shown by report/, written as a layer by delta.ts, undone and moved by ops/.
// Letters are those of git-diff(1) --name-status; paths as in view.ts.

import type { TreeNode } from '../tree/tree.js';

/**
 * A added, M modified, D deleted, R renamed (and perhaps modified), T of another type now; `=`: it lies in the upper, and
 * is what it would be without (but for its time, where `differs.time` says so).
 */
export type Status = 'A' | 'M' | 'D' | 'R' | 'T' | '=';

/** What of an object that was there before is another now. */
export interface Differs {
  /** Bytes of a file, target of a symlink, number of a device. */
  readonly content: boolean;
  readonly mode: boolean;
  /** uid or gid. */
  readonly owner: boolean;
  /** Attributes that are not overlayfs's own; ACLs and capabilities are among them. */
  readonly xattr: boolean;
  /** mtime. Of a directory it is no news where something in it has changed. */
  readonly time: boolean;
}

export interface Change {
  /** Where it is now; of a deletion: where it would be. */
  readonly path: string;
  readonly status: Status;
  /**
   * Path before, where it is another one: of R, and of everything inside a renamed directory.
   */
  readonly from?: string;
  /** As it was. Absent for A. Directories have no entries here. */
  readonly before?: TreeNode;
  /** As it is, without marks and with all its content. Absent for D. Hard-linked names have the same node. */
  readonly after?: TreeNode;
  /** All false for A, D. */
  readonly differs: Differs;
  /** Bytes that the upper has of it: none for a metacopy file; of a hard link for its first name only. */
  readonly stored: number;
  /** The first path (of these changes) with the same object, for every further hard-linked name. */
  readonly link?: string;
  /** A directory that hides what the lowers have there: new, or emptied and filled again. */
  readonly opaque?: boolean;
}

/** Whether something a person would call a change: not a copy that equals the original, not only a time. */
export function isNews(change: Change): boolean {
  if (change.status === '=') return false;
  const { content, mode, owner, xattr } = change.differs;
  return change.status !== 'M' || content || mode || owner || xattr;
}
