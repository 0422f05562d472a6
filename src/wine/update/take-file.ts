// One file of a prefix becomes what lies below it: the side of a conflict that was decided for the base.
// Called by resolve.ts while the prefix is down, with its lock.
// Ours goes where the lower then shows; else theirs is written in its place. Cut off, the same may be done again.

import { closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { O, S } from '../../linux/constants.js';
import { mapMemory } from '../../linux/memory.js';
import { unlinkName } from '../../linux/named.js';
import { type OpenLayers, openLayers } from '../../ops/open-stack.js';
import { isSameTree, type Version } from '../../ops/rebase/versions.js';
import { MountError } from '../../stack/errors.js';
import { openBelow } from '../../tree/below.js';
import { extractTree } from '../../tree/extract.js';
import { nameOf, parentOf } from '../../tree/path.js';
import { removeTree } from '../../tree/remove-tree.js';
import { add, isDirectory, makeNode, show, type TreeNode } from '../../tree/tree.js';
import { fill } from '../../union/flat.js';
import { type Place, Union } from '../../union/union.js';
import type { Below } from '../prefix/below.js';
import { pathsOf } from '../prefix/places.js';
import type { FileConflict } from './conflicts.js';
import { directoryAt } from './directory-at.js';
import { specOver } from './rebase-files.js';

const ATTRIBUTES: readonly string[] = ['mode', 'owner', 'xattr'];

/** @param folder of the prefix. @param below topmost first. @throws MountError, SysError, TreeError. */
export function takeFile(folder: string, conflict: FileConflict, below: readonly Below[]): void {
  const { driveC } = pathsOf(folder);
  const opened = openLayers({ layers: specOver(driveC, below) });
  try {
    const first = 1 + below.findIndex(({ label }) => label === conflict.layer) + 1;
    const under = versionOf(opened, first);
    const theirs = under.union.at(conflict.source ?? conflict.path);
    const isWhole = conflict.clashes.some(({ aspect }) => !ATTRIBUTES.includes(aspect));
    if (!isWhole) takeAttributes(folder, conflict, versionOf(opened, 0).union, theirs, under.union);
    else takeWhole(folder, conflict, opened, theirs, under);
  } finally {
    opened.close();
  }
}

/** The layers from one on, by position. */
function versionOf({ layers, ...options }: OpenLayers, first: number): Version {
  const some = layers.slice(first);
  return { union: new Union(some, [], options), names: some.map(({ label }) => label) };
}

function takeWhole(
  folder: string,
  { path, source, layer }: FileConflict,
  opened: OpenLayers,
  theirs: Place | undefined,
  under: Version,
): void {
  const { driveC } = pathsOf(folder);
  if (source !== undefined && theirs === undefined) {
    throw new MountError(
      'option',
      `${show(path)}: was renamed here, and the base has lost it: remove it yourself, then decide for ours`,
    );
  }
  if (layer === undefined) removeOwn(driveC, path);
  const now = versionOf(opened, 0);
  const shown = now.union.at(path);
  if (theirs === undefined) {
    if (shown !== undefined) put(folder, path, makeNode(S.IFCHR), now.union);
  } else if (shown === undefined || !isSameTree(now, under, shown, theirs)) {
    const node = isDirectory(theirs.seen.node)
      ? fill(under.union, theirs, new Map())
      : under.union.node(theirs);
    put(folder, path, node, now.union);
  }
}

/** Mode, owner and attributes of which both have another one. */
function takeAttributes(
  folder: string,
  { path, clashes }: FileConflict,
  all: Union,
  theirs: Place | undefined,
  under: Union,
): void {
  const place = all.at(path);
  if (place === undefined || theirs === undefined) return;
  const { mode, uid, gid, xattrs } = under.node(theirs);
  const node = all.node(place);
  const own = new Map(node.xattrs);
  for (const { aspect, name = '' } of clashes) {
    if (aspect === 'mode') node.mode = mode;
    else if (aspect === 'owner') Object.assign(node, { uid, gid });
    else {
      const value = xattrs?.get(name);
      if (value === undefined) own.delete(name);
      else own.set(name, value);
    }
  }
  node.xattrs = own.size === 0 ? undefined : own;
  if (!isDirectory(node)) {
    put(folder, path, node, all);
    return;
  }
  const root = all.node(all.root());
  const dir = path === '' ? root : directoryAt(root, path, all);
  if (dir !== undefined) Object.assign(dir, { mode: node.mode, uid: node.uid, gid: node.gid });
  if (dir !== undefined) dir.xattrs = node.xattrs;
  extractTree(root, pathsOf(folder).driveC, { merge: true });
}

/** Takes the prefix's own object away. */
function removeOwn(driveC: string, path: string): void {
  mapMemory();
  const root = openSync(driveC, O.RDONLY | O.DIRECTORY);
  try {
    const parent = openBelow(root, parentOf(path), O.RDONLY | O.DIRECTORY);
    if (parent < 0) return;
    if (unlinkName(parent, nameOf(path)) < 0) removeTree(parent, nameOf(path));
    closeSync(parent);
  } finally {
    closeSync(root);
  }
}

/** Gives a prefix an object of its own, in place of one that is no directory; what is above it is copied up. */
function put(folder: string, path: string, node: TreeNode, union: Union): void {
  const { driveC, state } = pathsOf(folder);
  const stage = join(state, `taking-${process.pid}`);
  rmSync(stage, { recursive: true, force: true });
  try {
    mkdirSync(stage);
    const alone = makeNode(S.IFDIR | 0o700);
    add(alone, 'it', node);
    extractTree(alone, join(stage, 'tree'));
    const root = union.node(union.root());
    directoryAt(root, parentOf(path), union);
    extractTree(root, driveC, { merge: true });
    if (isDirectory(node)) removeOwn(driveC, path);
    renameSync(join(stage, 'tree/it'), Buffer.from(`${bytesOf(driveC)}/${path}`, 'latin1'));
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

const bytesOf = (path: string): string => Buffer.from(path).toString('latin1');
