// On the way back to an older base: files that a prefix had as its own and that the base it leaves has just so, put into the new upper.
// Called by move.ts; agreed.ts knows which they are.
// Taken from the base that has them; where that is gone, or the prefix has changed them since, nothing is done.

import { S } from '../../linux/constants.js';
import { openLayers } from '../../ops/open-stack.js';
import { MountError } from '../../stack/errors.js';
import { extractTree } from '../../tree/extract.js';
import { isDirectory, makeNode, type TreeNode } from '../../tree/tree.js';
import { fill } from '../../union/flat.js';
import { Union } from '../../union/union.js';
import { type Below, basePlace, belowAt } from '../prefix/below.js';
import type { Agreed } from './agreed.js';
import { putAt } from './directory-at.js';
import { specOver } from './rebase-files.js';

export interface ReturningFiles {
  readonly count: number;
  /** Adds them to a new upper. @throws SysError, TreeError. */
  write(upper: string): void;
  close(): void;
}

const NONE: ReturningFiles = { count: 0, write: () => {}, close: () => {} };

/** A file, and the union that has it; undefined: its deletion. */
interface Returning {
  readonly path: string;
  readonly from: Union | undefined;
}

/**
 * @param driveC the prefix's own files as they are. @param fresh what will be below. @throws MountError, SysError.
 */
export async function returningFiles(
  back: readonly Agreed[],
  driveC: string,
  fresh: readonly Below[],
  env: NodeJS.ProcessEnv,
): Promise<ReturningFiles> {
  const wanted = back.filter(({ files }) => files.length > 0);
  if (wanted.length === 0) return NONE;
  const closers: (() => void)[] = [];
  const close = (): void => {
    for (const one of closers) one();
  };
  try {
    const own = openLayers({ layers: specOver(driveC, fresh) });
    closers.push(own.close);
    const returning: Returning[] = [];
    for (const { to, files } of wanted) {
      const left = await baseUnion(to, env);
      if (left === undefined) continue;
      closers.push(left.close);
      for (const { path, gone } of files) {
        const isChanged = own.layers[0]?.look(path) !== undefined;
        if (!isChanged) returning.push({ path, from: gone ? undefined : left.union });
      }
    }
    return {
      count: returning.length,
      write: (upper) => writeInto(upper, fresh, returning),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** @returns undefined where the base has been removed. */
async function baseUnion(
  reference: string,
  env: NodeJS.ProcessEnv,
): Promise<{ union: Union; close: () => void } | undefined> {
  let base: Below;
  try {
    base = await belowAt(reference, basePlace(reference, env));
  } catch (error) {
    if (error instanceof MountError) return undefined;
    throw error;
  }
  const { upperdir: _, ...lowers } = specOver('', [base]);
  const opened = openLayers({ layers: lowers });
  return { union: new Union(opened.layers, [], opened), close: opened.close };
}

function writeInto(upper: string, fresh: readonly Below[], returning: readonly Returning[]): void {
  const opened = openLayers({ layers: specOver(upper, fresh) });
  try {
    const union = new Union(opened.layers, [], opened);
    const root = union.node(union.root());
    for (const { path, from } of returning) {
      const node = from === undefined ? makeNode(S.IFCHR) : nodeAt(from, path);
      if (node !== undefined) putAt(root, path, node, union);
    }
    extractTree(root, upper, { merge: true });
  } finally {
    opened.close();
  }
}

function nodeAt(union: Union, path: string): TreeNode | undefined {
  const place = union.at(path);
  if (place === undefined) return undefined;
  return isDirectory(place.seen.node) ? fill(union, place, new Map()) : union.node(place);
}
