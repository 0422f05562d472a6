// The layers that a tree was cut into, on disk: all of them in one new directory, which appears by one rename.
// Called by `varve split`; one layer after the other is written by tree-output.ts.
// Follows: rename(2), which replaces an empty directory; link(2).

import { mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { BuildOptions } from '../../erofs/write-options.js';
import { E, SysError } from '../../linux/errno.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { nameOf, parentOf } from '../../tree/path.js';
import { removeTree } from '../../tree/remove-tree.js';
import { find, remove, show, type TreeNode } from '../../tree/tree.js';
import { attributesOf, setAttributes } from '../attributes.js';
import { Held } from '../held.js';
import type { Cut } from './split.js';
import { writeTree } from './tree-output.js';

export type CutFormat = 'directory' | 'erofs' | 'tar';

export interface CutOptions {
  readonly format: CutFormat;
  /** Of EROFS images. */
  readonly build?: BuildOptions;
  /** The directory that was cut, whose files are linked instead of being copied. */
  readonly link?: string;
  readonly onProgress?: (text: string) => void;
}

/** @throws MountError where the layers cannot be put to. */
export function placeForCuts(into: string): void {
  try {
    const stat = statSync(into, { throwIfNoEntry: false });
    if (stat === undefined) return void statSync(dirname(resolve(into)));
    if (stat.isDirectory() && readdirSync(into).length === 0) return;
  } catch (error) {
    throw new MountError('layer', `--into: ${into}: ${reasonOf(error)}: create its parent first`);
  }
  throw new MountError('option', `--into: ${into}: is there already: name a new directory`);
}

/** @returns what could not be done, for people. @throws MountError, SysError, TreeError, the error of node:fs. */
export async function writeCuts(
  cuts: readonly Cut[],
  into: string,
  options: CutOptions,
): Promise<string[]> {
  const path = resolve(into);
  const stage = join(dirname(path), `.${basename(path).slice(0, 200)}.${process.pid}`);
  mkdirSync(stage);
  try {
    const warnings: string[] = [];
    for (const cut of cuts) warnings.push(...(await writeCut(cut, stage, options)));
    renameSync(stage, path);
    return warnings;
  } catch (error) {
    const parent = Held.open(dirname(stage));
    removeTree(parent.fd, Buffer.from(basename(stage)).toString('latin1'));
    parent.close();
    throw error;
  }
}

async function writeCut(
  { name, root, files }: Cut,
  folder: string,
  { format, build, link, onProgress }: CutOptions,
): Promise<readonly string[]> {
  const path = join(folder, format === 'directory' ? name : `${name}.${format}`);
  const kind = format === 'erofs' ? 'image' : format;
  const progress = { build, onProgress: (text: string) => onProgress?.(text) };
  if (link === undefined) return (await writeTree(root, { kind, path }, progress)).warnings;
  const linked = [...files].filter(([, node]) => node.entries === undefined);
  for (const [inside] of linked) remove(find(root, parentOf(inside)) as TreeNode, nameOf(inside));
  const { warnings } = await writeTree(root, { kind, path }, progress);
  linkFiles(link, path, linked, root);
  return warnings;
}

/** Afterwards the directories get their times again. */
function linkFiles(
  source: string,
  path: string,
  files: readonly (readonly [string, TreeNode])[],
  root: TreeNode,
): void {
  const from = Held.open(source);
  const to = Held.open(path);
  try {
    const touched = new Set<string>();
    for (const [inside] of files) {
      linkOne(from, to, inside);
      touched.add(parentOf(inside));
    }
    for (const parent of touched) {
      setAttributes(to, parent, attributesOf(find(root, parent) as TreeNode));
    }
  } finally {
    from.close();
    to.close();
  }
}

function linkOne(from: Held, to: Held, path: string): void {
  try {
    if (from.link(path, to, path)) return;
  } catch (error) {
    if ((error as SysError).errno !== E.XDEV) throw error;
    throw new MountError(
      'option',
      `--link: ${from.label} is on another filesystem than the layers: leave it out`,
    );
  }
  throw new SysError('link', E.MLINK, show(path));
}
