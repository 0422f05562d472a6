// Conflicts that a changed layer has made in the registry of a prefix, put into its list.
// Called by prefix/materialise.ts, so that they become valid together with the registry that keeps the prefix's side.
// A move to another base has its own way, move.ts.

import { join } from 'node:path';
import { writeFileWhole } from '../prefix/write-file.js';
import type { RegistryDelta } from '../registry/delta.js';
import type { RegistryConflict } from '../registry/three-way.js';
import {
  COPIES,
  freeCopies,
  isOverInDelta,
  LIST_FILE,
  listText,
  mergeConflicts,
  readConflicts,
} from './conflicts.js';
import { keepTheirs } from './kept-sides.js';

/**
 * Puts conflicts of the registry into a folder of publishTogether(): those that a changed layer has made.
 * @param delta what the prefix itself changes from now on.
 */
export function stageKeyConflicts(
  stage: string,
  folder: string,
  keys: readonly RegistryConflict[],
  delta: RegistryDelta,
): void {
  const known = readConflicts(folder);
  if (keys.length === 0 && known.length === 0) return;
  const copies = freeCopies(folder);
  const merged = mergeConflicts(known, { files: [], keys }, copies, (conflict) =>
    isOverInDelta(conflict, delta),
  );
  writeFileWhole(join(stage, LIST_FILE), listText(merged.conflicts));
  keepTheirs(join(stage, `${COPIES}.${copies}`), merged.added);
}
