// A prefix goes over to another base: files, registry, record and list of conflicts become valid together, by one rename.
// Called by follow.ts when a prefix starts, by `varve wine update` at once; the caller has the prefix's lock, and it is down.
// Three versions decide: the old base with the layers, the new base with them, and what the prefix itself has changed.

import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Decision } from '../../ops/rebase/plan-state.js';
import { MountError } from '../../stack/errors.js';
import { type Below, resolveBelow } from '../prefix/below.js';
import { type PlannedRegistry, planRegistry } from '../prefix/materialise.js';
import { pathsOf } from '../prefix/places.js';
import { publishTogether, UPPER } from '../prefix/publishing.js';
import { type PrefixRecord, recordText } from '../prefix/record.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { compose } from '../registry/compose.js';
import { EMPTY_DELTA, isEmpty, type RegistryDelta } from '../registry/delta.js';
import { fold, HIVES } from '../registry/hive.js';
import { AGREED_FILE, type Agreed, agreedText, leftOut, readAgreed } from './agreed.js';
import {
  COPIES,
  type Conflict,
  type Found,
  freeCopies,
  isOpen,
  isOverInDelta,
  LIST_FILE,
  listText,
  mergeConflicts,
  readConflicts,
} from './conflicts.js';
import { contradictionsOf } from './contradictions.js';
import { dropSides, keepTheirs } from './kept-sides.js';
import { type RebasedFiles, rebaseFiles } from './rebase-files.js';
import { returningFiles } from './returning-files.js';

export interface MoveRequest {
  /** Of the prefix. */
  readonly folder: string;
  readonly record: PrefixRecord;
  /** `NAME@N`. */
  readonly to: string;
  /** Whether it moves on by itself from now on. */
  readonly follows: boolean;
  readonly env: NodeJS.ProcessEnv;
  readonly dryRun?: boolean;
}

export interface MoveReport {
  /** Absolute, of the prefix. */
  readonly folder: string;
  readonly from: string;
  readonly to: string;
  readonly follows: boolean;
  /** Whether anything was written. */
  readonly done: boolean;
  /** What became of each change of the files. */
  readonly files: readonly Decision[];
  /** Keys of the registry with changes of the prefix's own, before and afterwards. */
  readonly keys: { readonly before: number; readonly after: number };
  /** That were not there before. */
  readonly conflicts: readonly Conflict[];
  /** All that nobody has decided. */
  readonly open: number;
}

/** @throws MountError; SysError, TreeError and ErofsError for what cannot be read: then the prefix is what it was. */
export async function movePrefix(request: MoveRequest): Promise<MoveReport> {
  const { folder, record, to, follows, env } = request;
  const { base: from } = record;
  if (from === undefined) {
    throw new MountError('option', `prefix ${folder}: stands on no base: there is nothing to move`);
  }
  const next: PrefixRecord = { ...record, base: to, follows };
  const below = await resolveBelow(record, env);
  const fresh = await resolveBelow(next, env);
  const { driveC } = pathsOf(folder);
  if (!existsSync(driveC)) mkdirSync(driveC);
  const files = rebaseFiles({ upper: driveC, from: below, to: fresh });
  try {
    return await moveWith(request, next, { from, below, fresh, files });
  } finally {
    files.close();
  }
}

interface Sides {
  readonly from: string;
  readonly below: readonly Below[];
  readonly fresh: readonly Below[];
  readonly files: RebasedFiles;
}

async function moveWith(
  { folder, to, follows, env, dryRun }: MoveRequest,
  next: PrefixRecord,
  { from, below, fresh, files }: Sides,
): Promise<MoveReport> {
  const earlier = readAgreed(folder);
  const back = earlier.filter((one) => one.from === to);
  const registry = planRegistry(folder, fresh, (own, rebased) => restored(back, own, rebased));
  const found = foundIn({ from, to, files, registry, below, fresh });
  const copies = freeCopies(folder);
  const merged = mergeConflicts(readConflicts(folder), found, copies, (conflict) =>
    isOver(conflict, files, registry?.delta),
  );
  const agreed = [
    ...earlier.filter((one) => one.from !== to),
    ...agreedNow(from, to, files, registry),
  ];
  const { driveC } = pathsOf(folder);
  const report: MoveReport = {
    folder,
    from,
    to,
    follows,
    done: dryRun !== true,
    files: files.decisions,
    keys: { before: keysIn(registry?.before), after: keysIn(registry?.delta) },
    conflicts: merged.added,
    open: merged.conflicts.filter(isOpen).length,
  };
  if (dryRun === true) return report;
  const returning = await returningFiles(back, driveC, fresh, env);
  try {
    publishTogether(folder, (stage) => {
      if (files.changes || returning.count > 0) {
        const upper = join(stage, 'upper');
        files.write(upper);
        returning.write(upper);
        renameSync(upper, join(stage, `${UPPER}${statSync(upper).ino}`));
      }
      registry?.stage(stage);
      writeFileWhole(join(stage, LIST_FILE), listText(merged.conflicts));
      writeFileWhole(join(stage, AGREED_FILE), agreedText(agreed));
      const sides = join(stage, `${COPIES}.${copies}`);
      if (merged.added.length > 0) files.keep(sides);
      keepTheirs(sides, merged.added);
      writeFileWhole(join(stage, 'prefix.json'), recordText(next));
    });
  } finally {
    returning.close();
  }
  dropSides(folder, merged.conflicts.filter(isOpen));
  return report;
}

const keysIn = (delta: RegistryDelta | undefined): number =>
  HIVES.reduce((sum, hive) => sum + (delta?.[hive].size ?? 0), 0);

/** On the way back: what the other base had as well is the prefix's own again, unless the prefix has changed it since. */
function restored(
  back: readonly Agreed[],
  own: RegistryDelta,
  rebased: RegistryDelta,
): RegistryDelta {
  return back.reduce((sum, { registry }) => compose(leftOut(registry, own), sum), rebased);
}

function foundIn(
  sides: Sides & { readonly to: string; readonly registry: PlannedRegistry | undefined },
): Found {
  const { from, to, files, registry, below, fresh } = sides;
  const layers = contradictionsOf(below, fresh);
  // What the prefix has changed itself hides what a layer says.
  const own = (hive: (typeof HIVES)[number], path: string): boolean =>
    registry?.delta[hive].has(fold(path)) === true;
  return {
    from,
    to,
    files: [...files.clashes, ...layers.files],
    keys: [
      ...(registry?.conflicts ?? []),
      ...layers.keys.filter(({ hive, path }) => !own(hive, path)),
    ],
  };
}

/** Whether an older conflict has ended: the prefix's own side is gone. */
function isOver(
  conflict: Conflict,
  files: RebasedFiles,
  delta: RegistryDelta | undefined,
): boolean {
  if (conflict.kind === 'registry') return delta !== undefined && isOverInDelta(conflict, delta);
  if (conflict.layer !== undefined) return false;
  return files.decisions.some((one) => one.path === conflict.path && one.outcome === 'dropped');
}

function agreedNow(
  from: string,
  to: string,
  files: RebasedFiles,
  registry: PlannedRegistry | undefined,
): Agreed[] {
  const keys = registry === undefined ? EMPTY_DELTA : leftOut(registry.before, registry.delta);
  const paths = files.agreed;
  if (isEmpty(keys) && paths.length === 0) return [];
  return [{ from, to, registry: keys, files: paths }];
}
