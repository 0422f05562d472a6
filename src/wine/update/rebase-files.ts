// The files of a prefix, or of one of its layers, when the base below them is replaced: what becomes of them, and what contradicts.
// Called by move.ts; decided by ops/rebase, object by object and aspect by aspect. In a conflict the upper's side stays.
// The table of decisions: docs/rebase.md.

import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { O, S } from '../../linux/constants.js';
import { type OpenPlan, openPlan } from '../../ops/rebase/open-plan.js';
import type { Decision } from '../../ops/rebase/plan-state.js';
import { refuseLosses } from '../../ops/rebase/publish.js';
import type { Clash } from '../../ops/rebase/three-way.js';
import { isSameTree, type Versions } from '../../ops/rebase/versions.js';
import { checkLayers } from '../../stack/check.js';
import { parseOptions } from '../../stack/options.js';
import { privilege } from '../../stack/privilege.js';
import type { MountSpec } from '../../stack/spec.js';
import { extractTree, type Reuse } from '../../tree/extract.js';
import { isDirectory, type TreeNode } from '../../tree/tree.js';
import { hasSameXattrs } from '../../union/compare.js';
import { fill } from '../../union/flat.js';
import { withoutMarks } from '../../union/marks.js';
import type { Union } from '../../union/union.js';
import type { Below } from '../prefix/below.js';
import { putAt } from './directory-at.js';

/** Both sides have changed it. */
export interface FileClash {
  /** In drive_c, latin1. */
  readonly path: string;
  /** Where the layers below have it, when it was renamed here. */
  readonly source?: string;
  readonly clashes: readonly Clash[];
}

export interface RebasedFiles {
  readonly decisions: readonly Decision[];
  readonly clashes: readonly FileClash[];
  /** That the prefix had changed, and the new base has changed in the same way. */
  readonly agreed: readonly AgreedFile[];
  /** Whether the new upper differs from the old one. */
  readonly changes: boolean;
  /**
   * Writes the new upper: files that stay as they are get one name more, in place of being copied.
   * @throws MountError, SysError, TreeError.
   */
  write(to: string): void;
  /** Copies of what the old and the new base have of each clash, as `old/PATH` and `theirs/PATH`. */
  keep(folder: string): void;
  close(): void;
}

/** A change that is the base's now. Path in drive_c, latin1; `gone`: it is a deletion. */
export interface AgreedFile {
  readonly path: string;
  readonly gone: boolean;
}

/** Where an upper is read, and what is below it before and afterwards. */
export interface FileMove {
  readonly upper: string;
  /** Topmost first. */
  readonly from: readonly Below[];
  readonly to: readonly Below[];
}

/** @throws MountError; SysError, TreeError and ErofsError for what cannot be read. */
export function rebaseFiles({ upper, from, to }: FileMove): RebasedFiles {
  const sources = new Map<string, string>();
  const opened = openPlan(specOver(upper, from), specOver(upper, to), {
    conflict: 'ours',
    lines: false,
    redirects: false,
    onClash: (path, theirs) => sources.set(path, theirs.path),
  });
  const { decisions } = opened.plan;
  const clashes = decisions.flatMap(({ path, outcome, clashes: found }): FileClash[] => {
    if (outcome !== 'conflict') return [];
    const source = sources.get(path) ?? path;
    return [{ path, clashes: found ?? [], ...(source === path ? {} : { source }) }];
  });
  return {
    decisions,
    clashes,
    agreed: decisions.flatMap((decision) => agreedIn(opened.versions, decision)),
    changes: decisions.some(({ outcome }) => outcome !== 'kept'),
    write: (target) => writeUpper(opened, upper, target),
    keep: (folder) => keepSides(opened.versions, clashes, folder),
    close: opened.close,
  };
}

function agreedIn({ base, theirs }: Versions, { path, outcome }: Decision): AgreedFile[] {
  if (outcome !== 'dropped') return [];
  const [old, now] = [base.union.at(path), theirs.union.at(path)];
  if (now === undefined) return [{ path, gone: true }];
  if (old === undefined) return [{ path, gone: false }];
  // Of a directory that both have, its entries tell.
  if (isDirectory(now.seen.node) || isSameTree(base, theirs, old, now)) return [];
  return [{ path, gone: false }];
}

/** The stack as a session mounts it; an index is not used there. */
export function specOver(upper: string, below: readonly Below[]): MountSpec {
  const options = parseOptions(['lowerdir=/,index=off'], { defaults: '' });
  const lowerdirs = below.map(({ driveC }) => driveC);
  const datadirs = below.flatMap(({ data }) => data);
  const spec = checkLayers({ ...options, lowerdirs, datadirs }, '/proc', !privilege().full);
  return { ...spec, upperdir: upper };
}

function writeUpper(opened: OpenPlan, upper: string, target: string): void {
  const fd = openSync(upper, O.RDONLY | O.DIRECTORY);
  try {
    const reuse: Reuse = { fd, has: (path, node) => isSame(opened, path, node) };
    refuseLosses(extractTree(opened.plan.root, target, { reuse }));
  } finally {
    closeSync(fd);
  }
}

/** Whether the old upper has the file just so; marks of an origin do not matter to a stack without an index. */
function isSame({ versions: { upper }, own }: OpenPlan, path: string, node: TreeNode): boolean {
  if (!own.isAt(path, node)) return false;
  const seen = upper.look(path)?.node;
  if (seen === undefined || (seen.mode & S.IFMT) !== S.IFREG) return false;
  const names = [...(seen.xattrs?.keys() ?? [])];
  if (names.some((name) => name.startsWith(upper.marks) && !name.endsWith('.origin'))) return false;
  return (
    seen.size === node.size &&
    seen.mode === node.mode &&
    seen.uid === node.uid &&
    seen.gid === node.gid &&
    seen.mtime === node.mtime &&
    seen.mtimeNsec === node.mtimeNsec &&
    hasSameXattrs(withoutMarks(seen.xattrs, upper.marks), withoutMarks(node.xattrs, upper.marks))
  );
}

function keepSides(versions: Versions, clashes: readonly FileClash[], folder: string): void {
  const sides = [
    ['old', versions.base.union],
    ['theirs', versions.theirs.union],
  ] as const;
  for (const [name, union] of sides) {
    const root = copies(union, clashes);
    if (root.entries?.size === 0) continue;
    mkdirSync(folder, { recursive: true });
    extractTree(root, join(folder, name));
  }
}

/** A tree with the objects of the clashes alone, under the paths that they have in the prefix. */
function copies(union: Union, clashes: readonly FileClash[]): TreeNode {
  const root = union.node(union.root());
  for (const { path, source } of clashes) {
    const place = union.at(source ?? path);
    if (path === '' || place === undefined) continue;
    const node = isDirectory(place.seen.node) ? fill(union, place, new Map()) : union.node(place);
    putAt(root, path, node, union);
  }
  return root;
}
