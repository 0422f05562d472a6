// An upper is merged down into a directory, which then shows alone what the stack showed: all of it or nothing of it.
// Called by `varve apply`, by try and by rebase: conflicts, plan, stage, journal, steps, and the upper is emptied.
// Killed before the journal is published it is undone by removing a folder; afterwards it is finished, or taken back.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { E, SysError } from '../../linux/errno.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { findApplyFolder, INNER_APPLY_FOLDER } from '../../stack/pending-apply.js';
import { TreeError } from '../../tree/errors.js';
import { removeTree } from '../../tree/remove-tree.js';
import type { Change } from '../../union/change.js';
import { readChanges, type Stack } from '../../union/changes.js';
import { viewDirectory } from '../../union/directory-view.js';
import { type Attributes, readAttributes, setAttributes } from '../attributes.js';
import { Held } from '../held.js';
import { holdUpper } from '../hold-upper.js';
import { type Conflict, type Expected, findConflicts } from './conflicts.js';
import { emptyDirectory } from './empty-directory.js';
import { requireNoMounts, requireUnused } from './in-use.js';
import { type Journal, PARTS, publishJournal, readJournal } from './journal.js';
import { type ApplyPlan, type PlannedStep, planApply } from './plan.js';
import { fillStage, lockStage, makeStage, type Stage } from './stage.js';
import { type OnStep, Steps } from './steps.js';

export interface ApplyOptions {
  /** Only tell what would be done. */
  readonly dryRun?: boolean;
  /** Conflicts are overrun: what the upper says is done. */
  readonly force?: boolean;
  /** The upper's directory, to be emptied when all is done; undefined: it stays as it is. */
  readonly upper?: string;
  /** Its workdir, whose index of hard links is emptied as well. */
  readonly workdir?: string;
  /** Files of the upper become the target's own where that is possible, instead of being copied. Needs `upper`. */
  readonly move?: boolean;
  /** What the target had when the upper was made, where that is not what the stack's lowers have. */
  readonly expected?: Expected;
  /** Apply to a directory that live mounts use as a layer: what they show of it then is anybody's guess. */
  readonly allowUsed?: boolean;
  /** Some of the changes of the stack; default: all of them. */
  readonly changes?: readonly Change[];
  /** Told how many names have been staged. */
  readonly onProgress?: (names: number) => void;
  readonly onStep?: OnStep;
}

export interface ApplyReport {
  /** Absolute, without symlinks. */
  readonly target: string;
  /** Not empty: nothing was done, unless `force` was given. */
  readonly conflicts: readonly Conflict[];
  /** Whether the target is now what the stack was. */
  readonly applied: boolean;
  /** What is done, or would be. */
  readonly steps: readonly PlannedStep[];
  /** The folder of the work, where something in it cannot be removed. */
  readonly left?: string;
}

/**
 * Makes the directory `into` what `stack` shows, which may have one lower at most, or lowers that `into` is the same as.
 * @throws MountError: `busy` for a target or upper in use, `layer`, `permission`; SysError, TreeError. Nothing is changed then.
 */
export async function applyUpper(
  stack: Stack,
  into: string,
  options: ApplyOptions = {},
): Promise<ApplyReport> {
  const target = realDirectory(into);
  requireRecovered(target);
  requireApart(target, options);
  const changes = options.changes ?? readChanges(stack);
  requireOwnName(changes);
  const unused = async (): Promise<void> => {
    requireNoMounts(target, changes);
    if (options.allowUsed !== true) await requireUnused(target, changes, options.upper);
  };
  await unused();
  const held = Held.open(target);
  try {
    const conflicts = conflictsOf(stack, changes, target, options.expected);
    const plan = planApply(stack, changes, held);
    const report = { target, conflicts, applied: false, steps: plan.steps };
    if (options.dryRun || (conflicts.length > 0 && options.force !== true)) return report;
    const left = await execute(held, target, plan, options, unused);
    return { ...report, applied: true, ...(left === undefined ? {} : { left }) };
  } finally {
    held.close();
  }
}

function conflictsOf(
  stack: Stack,
  changes: readonly Change[],
  target: string,
  expected: Expected | undefined,
): Conflict[] {
  const view = viewDirectory(target, stack.upper.marks);
  try {
    const [lower, ...others] = stack.before.layers;
    const isLower = others.length === 0 && lower?.look('')?.id === view.look('')?.id;
    return findConflicts(stack, changes, view, isLower, expected);
  } finally {
    view.close();
  }
}

/** From here on the target is changed, or nothing is. @returns the folder, if it could not be removed. */
async function execute(
  target: Held,
  path: string,
  plan: ApplyPlan,
  options: ApplyOptions,
  unused: () => Promise<void>,
): Promise<string | undefined> {
  const claim =
    options.upper === undefined
      ? undefined
      : holdUpper(options.upper, options.workdir, 'it can be emptied');
  const upper = options.upper === undefined ? undefined : Held.open(options.upper);
  try {
    const stage = makeStage(path);
    try {
      const journal = await prepare(target, stage, plan, upper, { ...options, unused });
      return carryOut(target, stage, journal, options.onStep) ? undefined : stage.folder;
    } catch (error) {
      throw explained(error, `${path}: nothing was changed`);
    } finally {
      stage.held.close();
    }
  } finally {
    upper?.close();
    claim?.release();
  }
}

async function prepare(
  target: Held,
  stage: Stage,
  plan: ApplyPlan,
  upper: Held | undefined,
  { move, workdir, onProgress, unused }: ApplyOptions & { unused: () => Promise<void> },
): Promise<Journal> {
  try {
    const filled = fillStage(stage, plan, { upper: move === true ? upper : undefined, onProgress });
    const emptied = [];
    if (upper !== undefined) emptied.push(identified(upper.label));
    if (upper !== undefined && workdir !== undefined) emptied.push(identified(`${workdir}/index`));
    const journal: Journal = { ...filled, emptied: emptied.flatMap((one) => one ?? []) };
    // It may have taken long.
    await unused();
    publishJournal(stage.held, stage.folder, journal);
    return journal;
  } catch (error) {
    removeStage(stage, target);
    const root = plan.restores.find(({ path }) => path === '');
    if (root !== undefined && stage.isInside) setAttributes(target, '', root.attributes);
    throw error;
  }
}

function carryOut(target: Held, stage: Stage, journal: Journal, onStep?: OnStep): boolean {
  const steps = new Steps(target, stage.held, journal, onStep);
  try {
    steps.finish();
  } catch (error) {
    takeBack(target, stage, steps, error);
    throw error;
  }
  try {
    return cleanUp(target, stage, steps, journal);
  } catch (error) {
    const why = `${target.label}: shows what the stack showed, but not all is cleaned up: mend that, then run \`varve apply --recover ${target.label}\``;
    throw explained(error, why);
  }
}

/** A step has failed: then it shall be as if none had been done. */
function takeBack(target: Held, stage: Stage, steps: Steps, error: unknown): void {
  try {
    steps.undo();
  } catch (cause) {
    throw new MountError(
      'layer',
      `${target.label}: half done: ${(error as Error).message}; and it could not be taken back (${(cause as Error).message}): mend that, then run \`varve apply --recover ${target.label} --undo\``,
      { cause },
    );
  }
  removeStage(stage, target);
}

/** All is done: the upper gets empty, and the work is forgotten. @returns whether nothing is left of it. */
function cleanUp(target: Held, stage: Stage, steps: Steps, journal: Journal): boolean {
  steps.unmark();
  const { emptied } = journal;
  // The upper may be on another filesystem, which could be faster in forgetting than this one in learning.
  if (emptied.length > 0) target.sync();
  const { mtime, mtimeNsec } = readAttributes(target, '');
  for (const one of emptied) empty(one, { mtime, mtimeNsec });
  return removeStage(stage, target);
}

/**
 * Without its journal a folder says that nothing is half done: then it may be removed in any order.
 * @returns false when something in it stays: immutable files, mount points.
 */
function removeStage({ folder, held, isInside }: Stage, target: Held): boolean {
  const was = isInside ? readAttributes(target, '') : undefined;
  held.unlink(PARTS.journal);
  held.syncNames();
  const parent = Held.open(dirname(folder));
  try {
    removeTree(parent.fd, Buffer.from(basename(folder)).toString('latin1'));
  } finally {
    parent.close();
  }
  if (was !== undefined) setAttributes(target, '', was);
  return !existsSync(folder);
}

function stuck(folder: string): MountError {
  return new MountError(
    'layer',
    `${folder}: what an apply has left there cannot be removed: remove it (lsattr and findmnt tell what is in the way)`,
  );
}

/** A directory that is to be emptied; undefined: there is none. */
function identified(path: string): Journal['emptied'][number] | undefined {
  const held = openIfThere(path);
  if (held === undefined) return undefined;
  try {
    return { path, id: held.look('')?.id as string };
  } finally {
    held.close();
  }
}

/** The one that the journal means, if it is still there. @param time of the target, which has that of the union by now. */
function empty(
  { path, id }: Journal['emptied'][number],
  time: Pick<Attributes, 'mtime' | 'mtimeNsec'>,
): void {
  const held = openIfThere(path);
  try {
    if (held === undefined || held.look('')?.id !== id) return;
    // The stack goes on showing the upper's root; whoever was killed here may have changed its own time already.
    emptyDirectory(held);
    setAttributes(held, '', { ...readAttributes(held, ''), ...time });
  } finally {
    held?.close();
  }
}

function openIfThere(path: string): Held | undefined {
  try {
    return Held.open(path);
  } catch (error) {
    if ((error as SysError).errno === E.NOENT) return undefined;
    throw error;
  }
}

/** What had become of a killed apply. */
export type Recovery = 'finished' | 'undone' | 'none';

/**
 * Finishes what a killed apply to a directory had begun, or takes it back. Before anything had been done there is nothing
 * to finish: it is undone.
 * @throws MountError `busy` when it was not killed; SysError where a step cannot be done: it can be called again.
 */
export function recoverApply(
  directory: string,
  options: { readonly undo?: boolean; readonly onStep?: OnStep } = {},
): Recovery {
  const path = realDirectory(directory);
  const folder = findApplyFolder(path);
  if (folder === undefined) return 'none';
  const stage = lockStage(folder);
  const target = Held.open(path);
  try {
    const journal = readJournal(folder);
    if (journal === undefined) {
      if (!removeStage(stage, target)) throw stuck(folder);
      return 'undone';
    }
    const steps = new Steps(target, stage.held, journal, options.onStep);
    if (steps.isUndone || (options.undo === true && !steps.isDone)) {
      steps.undo();
      if (!removeStage(stage, target)) throw stuck(folder);
      return 'undone';
    }
    steps.finish();
    if (!cleanUp(target, stage, steps, journal)) throw stuck(folder);
    return 'finished';
  } catch (error) {
    throw explained(error, `${path}: half done still, recover it again`);
  } finally {
    target.close();
    stage.held.close();
  }
}

function realDirectory(path: string): string {
  let real: string;
  try {
    real = realpathSync.native(path);
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: name a directory`);
  }
  if (!statSync(real).isDirectory()) {
    throw new MountError('layer', `${path}: not a directory: name a directory`);
  }
  return real;
}

/** What a killed apply has made ready goes; what one has begun is for whoever decides which way. */
function requireRecovered(path: string): void {
  const folder = findApplyFolder(path);
  if (folder === undefined) return;
  // Somebody at work says so.
  const stage = lockStage(folder);
  try {
    if (readJournal(folder) !== undefined) {
      throw new MountError(
        'busy',
        `${path}: an apply to it was killed: run \`varve apply --recover ${path}\` first`,
      );
    }
    const target = Held.open(path);
    const isGone = removeStage(stage, target);
    target.close();
    if (!isGone) throw stuck(folder);
  } finally {
    stage.held.close();
  }
}

/** What is emptied must not be what is filled, nor what it lies in. */
function requireApart(target: string, { upper, allowUsed }: ApplyOptions): void {
  if (upper === undefined) return;
  const emptied = realDirectory(upper);
  const isIn = (inner: string, outer: string): boolean =>
    inner === outer || outer === '/' || inner.startsWith(`${outer}/`);
  // A trial of the running system has its upper somewhere in that.
  if (!isIn(target, emptied) && (allowUsed === true || !isIn(emptied, target))) return;
  throw new MountError(
    'option',
    `--into ${target}: and the upper ${emptied} must be two directories side by side: neither may hold the other`,
  );
}

function requireOwnName(changes: readonly Change[]): void {
  if (changes.some(({ path }) => path === INNER_APPLY_FOLDER)) {
    throw new MountError(
      'layer',
      `${INNER_APPLY_FOLDER}: an object of the upper has the name of the folder that apply works with: rename it`,
    );
  }
}

/** What failed, behind what it means for the target. */
function explained(error: unknown, meaning: string): unknown {
  if (!(error instanceof SysError) && !(error instanceof TreeError)) return error;
  const isForbidden =
    error instanceof SysError && (error.errno === E.PERM || error.errno === E.ACCES);
  return new MountError(isForbidden ? 'permission' : 'layer', `${meaning}: ${error.message}`, {
    cause: error,
  });
}
