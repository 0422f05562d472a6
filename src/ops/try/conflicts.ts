// What has been changed on the real system since a trial began, of what the trial has changed too.
// Called before a commit: nothing is overwritten that the command has not seen. Origin marks are checked by apply itself.
// By the time of the last change of an inode (ctime), which no program sets; see inode(7).

import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { isDirectory } from '../../tree/tree.js';
import type { Change } from '../../union/change.js';
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
    // What has been removed meanwhile comes back as the command left it: nothing of anybody's is lost by that.
    if (now === undefined) continue;
    // Another one changed in the same directory: that is no conflict, unless the directory goes.
    if (now.isDirectory() && !takesAway(change)) continue;
    if (now.isDirectory()) changedBelow(path, since, say);
    else if (now.ctimeNs >= since) say(path, 'it has been changed since');
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

/** In a directory that goes: what is new or another one there, and else directories that have lost something. */
function changedBelow(
  directory: string,
  since: bigint,
  say: (path: string, message: string) => void,
): void {
  const pending = [directory];
  const touched: string[] = [];
  const found: string[] = [];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const now = lookAt(at);
    if (now === undefined) continue;
    const isNew = now.ctimeNs >= since;
    if (!now.isDirectory()) {
      if (isNew) found.push(at);
      continue;
    }
    if (isNew) touched.push(at);
    for (const name of readdirSync(bytes(at), { encoding: 'latin1' }))
      pending.push(`${at}/${name}`);
  }
  for (const path of found) say(path, 'it has been changed since, and would go');
  for (const path of touched) {
    const explained = [...found, ...touched].some((other) => other.startsWith(`${path}/`));
    if (!explained) say(path, 'something in it has been changed since, and it would go');
  }
}

function lookAt(path: string): BigIntStats | undefined {
  try {
    return lstatSync(bytes(path), { bigint: true });
  } catch {
    return undefined;
  }
}
