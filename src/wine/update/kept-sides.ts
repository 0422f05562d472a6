// What the base says in conflicts of the registry, as a file for regedit beside the files of the other conflicts.
// Written by move.ts and by materialise.ts's conflicts; taken by hand: `varve wine run PREFIX regedit .../theirs.reg`.
// Form: Windows Registry Editor 5.00, registry/regedit.ts.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathsOf } from '../prefix/places.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { compose } from '../registry/compose.js';
import { EMPTY_DELTA, type KeyDelta, NOTHING, type RegistryDelta } from '../registry/delta.js';
import { fold } from '../registry/hive.js';
import { writeRegedit } from '../registry/regedit.js';
import { COPIES, type Conflict, type KeyConflict } from './conflicts.js';

/** Writes `theirs.reg` where some of the conflicts are about the registry. @param folder made where it is missing. */
export function keepTheirs(folder: string, conflicts: readonly Conflict[]): void {
  const keys = conflicts.filter((one) => one.kind === 'registry') as KeyConflict[];
  if (keys.length === 0) return;
  const delta = keys.map(theirsOf).reduce(compose, EMPTY_DELTA);
  mkdirSync(folder, { recursive: true });
  const comment = 'What the layers below say where the prefix says something else.';
  writeFileWhole(join(folder, 'theirs.reg'), writeRegedit(delta, { comment }));
}

function theirsOf({ hive, path, value, what, theirs }: KeyConflict): RegistryDelta {
  const entry: KeyDelta = { path, set: NOTHING, removed: NOTHING };
  const named = (fields: Partial<KeyDelta>): RegistryDelta => ({
    ...EMPTY_DELTA,
    [hive]: new Map([[fold(path), { ...entry, ...fields }]]),
  });
  if (what === 'key-deleted-below') return named({ deleted: true });
  if (value === undefined) return named({ present: true });
  const name = fold(value);
  return theirs === undefined
    ? named({ removed: new Map([[name, value]]) })
    : named({ set: new Map([[name, { name: value, data: theirs }]]) });
}

/** Removes the sides of conflicts that nobody has to decide any more. */
export function dropSides(folder: string, open: readonly Conflict[]): void {
  const copies = join(pathsOf(folder).state, COPIES);
  const used = new Set(open.map(({ copies: name }) => name));
  let names: string[];
  try {
    names = readdirSync(copies);
  } catch {
    return;
  }
  for (const name of names) {
    if (!used.has(name)) rmSync(join(copies, name), { recursive: true, force: true });
  }
}
