// What two sides `varve diff` has compared, and the paths that its command line asks for.
// Filled by diff-operands.ts (a stack) and diff-trees.ts (two trees), shown by diff.ts and diff-files.ts.
// Operands before -- say what is compared, those behind it limit what is told.

import { posix } from 'node:path';
import type { StackNames } from '../report/document.js';
import type { Change } from '../union/change.js';
import type { Stack } from '../union/changes.js';
import type { Arguments } from './args.js';

export interface Compared {
  /** Those at or below the paths that were asked for, `=` included. */
  readonly changes: readonly Change[];
  readonly names: StackNames;
  /** undefined: whole trees are compared. */
  readonly stack?: Stack;
  close(): void;
}

export function splitOperands({ operands, before }: Arguments): [stack: string[], paths: string[]] {
  const at = before ?? operands.length;
  return [operands.slice(0, at), operands.slice(at)];
}

/** A path as a person writes it (UTF-8, perhaps below the mount point) as one of the union (latin1). */
export function insidePath(path: string, mountpoint?: string): string {
  const isBelow = mountpoint !== undefined && `${path}/`.startsWith(`${mountpoint}/`);
  const inside = isBelow ? path.slice(mountpoint.length) : path;
  const normal = posix.normalize(`/${inside}`).replace(/^\/+|\/+$/g, '');
  return Buffer.from(normal).toString('latin1');
}

export function withinPaths(
  changes: readonly Change[],
  paths: readonly string[],
): readonly Change[] {
  if (paths.length === 0) return changes;
  return changes.filter(
    ({ path, from }) => isWithin(path, paths) || (from !== undefined && isWithin(from, paths)),
  );
}

/** Whether a path is one of those asked for, or below one; none: all are. */
export function isWithin(path: string, paths: readonly string[]): boolean {
  if (paths.length === 0) return true;
  return paths.some((p) => p === '' || path === p || path.startsWith(`${p}/`));
}
