// What has been changed on the real system since a trial began, of what the trial has changed too.
// Called before a commit: nothing is overwritten that the command has not seen. Origin marks are checked by apply itself.
// By the time of the last change of an inode (ctime), which no program sets; see inode(7).

import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { isDirectory } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
import { marksOf } from '../../union/marks.js';
import { bytes } from './paths.js';
import type { Part } from './result.js';
import { placeId } from './session.js';

export interface TryConflict {
  /** Absolute; latin1. */
  readonly path: string;
  /** What is wrong, for people. */
  readonly message: string;
}

/** @param since nanoseconds. */
export function changedSince(part: Part, since: bigint): TryConflict[] {
  const found: TryConflict[] = [];
  const root = part.upper.path === '/' ? '' : part.upper.path;
  const say = (path: string, message: string): void => void found.push({ path, message });
  if (placeId(part.upper.path) !== part.upper.over) {
    say(part.upper.path, 'it is another directory now, or something else is mounted there');
  }
  for (const change of part.changes) {
    if (change.path === '' || change.status === '=') continue;
    const path = `${root}/${change.from ?? change.path}`;
    const now = lookAt(path);
    if (now === undefined) {
      if (hadOrigin(part, change)) say(path, 'it has been removed since');
      continue;
    }
    // Another one changed in the same directory: that is no conflict, unless the directory goes.
    if (now.isDirectory() && !takesAway(change)) continue;
    if (now.ctimeNs >= since) say(path, 'it has been changed since');
    else if (now.isDirectory()) changedBelow(path, since, say);
  }
  return found;
}

/** Deleted, renamed, or something else is there now. */
function takesAway({ status, after, opaque }: Change): boolean {
  return (
    status === 'D' ||
    status === 'R' ||
    opaque === true ||
    (after !== undefined && !isDirectory(after))
  );
}

/** It is a copy of something, which is not there any more. */
function hadOrigin({ stack: { upper } }: Part, { path, status }: Change): boolean {
  if (status !== 'A') return false;
  const seen = upper.look(path);
  return seen !== undefined && marksOf(seen.node, upper.marks).origin !== undefined;
}

function changedBelow(
  directory: string,
  since: bigint,
  say: (path: string, message: string) => void,
): void {
  const pending = [directory];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    for (const name of readdirSync(bytes(at), { encoding: 'latin1' })) {
      const path = `${at}/${name}`;
      const now = lookAt(path);
      if (now === undefined) continue;
      if (now.ctimeNs >= since) say(path, 'it has been changed since, and would go');
      else if (now.isDirectory()) pending.push(path);
    }
  }
}

function lookAt(path: string): BigIntStats | undefined {
  try {
    return lstatSync(bytes(path), { bigint: true });
  } catch {
    return undefined;
  }
}
