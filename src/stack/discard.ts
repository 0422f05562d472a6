// Takes the content of an upper away: all of it by one rename, or single paths; what lies below shows again.
// Called while nobody serves the stack: by a server that takes a mount over (change-layers.ts), or for one that is not mounted.
// What goes is collected in the workdir, where whoever asked removes it. Objects of the index go with all their names.

import { O } from '../linux/constants.js';
import { check, E } from '../linux/errno.js';
import { close } from '../linux/files.js';
import {
  listNames,
  look,
  openPath,
  readWhole,
  renameName,
  setTimes,
  unlinkName,
  writeWhole,
} from '../linux/named.js';
import { abandonNodes } from '../overlay/abandon.js';
import { knownUpperDirectories } from '../overlay/open-files.js';
import { STALE, type StaleNames } from '../overlay/stale.js';
import { nameOf, parentOf } from '../tree/path.js';
import type { FreezePlace } from './freeze.js';
import { namesOfIndexed } from './freeze-plan.js';

/** Makes what the kernel knows of the nodes fit: they have no place any more. @param root where the objects lie by their old paths. */
export function forgetDiscarded(
  place: FreezePlace,
  root: number,
  isGone: (path: string) => boolean,
  gone: readonly string[],
): void {
  const stale = staleNames(root, isGone, gone);
  const lost = abandonNodes(root, place.work, isGone);
  // Of a change before this one, or of one that was not finished.
  const known = readWhole(place.work, STALE);
  const before: StaleNames =
    known === undefined ? { names: [], lost: [] } : JSON.parse(Buffer.from(known).toString());
  unlinkName(place.work, STALE);
  const list = {
    names: [...before.names, ...stale],
    lost: [...before.lost, ...lost],
  } satisfies StaleNames;
  writeWhole(place.work, STALE, Buffer.from(JSON.stringify(list)));
}

/** Every name that the upper said something about, in directories that the kernel knows. */
function staleNames(
  root: number,
  isGone: (path: string) => boolean,
  gone: readonly string[],
): StaleNames['names'] {
  const found: { dir: readonly [number, number]; names: string[] }[] = [];
  for (const { nodeid, path } of knownUpperDirectories()) {
    const names = isGone(path)
      ? namesIn(root, path)
      : gone.filter((one) => parentOf(one) === path).map(nameOf);
    if (names.length > 0) found.push({ dir: nodeid, names });
  }
  return found;
}

function namesIn(root: number, path: string): string[] {
  const dir = openPath(root, path, O.PATH | O.DIRECTORY);
  if (dir === undefined) return [];
  try {
    return listNames(dir).map(({ name }) => name);
  } finally {
    close(dir);
  }
}

/** What discarding paths takes away beside them. */
export interface DiscardPlan {
  /** Paths in the upper, latin1: those that were named, and other names of the same indexed objects. */
  readonly paths: readonly string[];
  /** Entries of the index. */
  readonly indexed: readonly string[];
}

/** @param paths latin1, without a leading slash. */
export function planDiscard(place: FreezePlace, paths: readonly string[]): DiscardPlan {
  const isNamed = isBelow(paths);
  const { names, entries } = namesOfIndexed(place.upper, place.index, isNamed);
  const more = names.filter((path) => !isNamed(path));
  return { paths: [...paths, ...more], indexed: entries };
}

/** Whether a path is one of these, or lies below one. */
export function isBelow(paths: readonly string[]): (path: string) => boolean {
  const set = new Set(paths);
  return (path) => {
    if (set.has(path)) return true;
    for (let i = path.indexOf('/'); i >= 0; i = path.indexOf('/', i + 1)) {
      if (set.has(path.slice(0, i))) return true;
    }
    return false;
  };
}

/** Moves what the plan names out of the upper. Again after an interruption: what is gone is passed over. */
export function takeAway(place: FreezePlace, plan: DiscardPlan, trash: number): void {
  plan.paths.forEach((path, i) => {
    const dir = openPath(place.upper, parentOf(path), O.PATH | O.DIRECTORY);
    if (dir === undefined) return;
    try {
      const facts = look(dir, '');
      const r = renameName(dir, nameOf(path), trash, String(i));
      if (r === -E.NOENT) return;
      check(r, 'rename', path);
      if (facts !== undefined) setTimes(dir, facts);
    } finally {
      close(dir);
    }
  });
  for (const name of plan.indexed) unlinkName(place.index, name);
}
