// An upper that was made over OLD is made to fit NEW: opens both, decides, and puts the result in the upper's place.
// Run by cli/rebase.ts; versions.ts and plan.ts decide, publish.ts writes.
// Manual: docs/rebase.md.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkLayers } from '../../stack/check.js';
import { MountError } from '../../stack/errors.js';
import { knownMounts } from '../../stack/mounts-known.js';
import type { MountOptions } from '../../stack/option-table.js';
import { splitLayers } from '../../stack/option-text.js';
import { parseOptions } from '../../stack/options.js';
import { privilege } from '../../stack/privilege.js';
import type { MountSpec } from '../../stack/spec.js';
import { holdUpper } from '../hold-upper.js';
import type { LayerPaths } from './folder.js';
import { openPlan } from './open-plan.js';
import type { Decision } from './plan-state.js';
import { publish, recover, type Undone, undo, type Writable } from './publish.js';

export interface RebaseRequest {
  /** Values of -o: the upper, the work directory, and how they are mounted. */
  readonly options: readonly string[];
  /** As the value of lowerdir; undefined: `options` name it. */
  readonly from: string | undefined;
  readonly to: string;
  /** fail: nothing is written when there is a conflict. */
  readonly conflict: 'both' | 'ours' | 'theirs' | 'fail';
  /** Merge the lines of texts that both sides have changed. */
  readonly lines: boolean;
  /** Remove the old upper. */
  readonly discard: boolean;
  readonly dryRun: boolean;
  readonly onProgress: (names: number) => void;
}

export interface RebaseReport {
  readonly upperdir: string;
  readonly from: LayerPaths;
  readonly to: LayerPaths;
  /** false: asked not to, or there was a conflict that was to prevent it. */
  readonly done: boolean;
  /** Where the old upper is now. */
  readonly kept?: string;
  readonly decisions: readonly Decision[];
  /** What could not be written as it should be. */
  readonly warnings: readonly string[];
}

/** @throws MountError; SysError, TreeError and ErofsError for what cannot be read or written. */
export async function rebase(request: RebaseRequest): Promise<RebaseReport> {
  const old = specOf(request.options, request.from, '--from');
  const fresh = specOf(request.options, request.to, '--to');
  const at = await writableOf(old);
  const { release } = holdUpper(at.upper, at.work, 'rebase it');
  try {
    recover(at);
    return rebaseLocked(request, old, fresh, at);
  } finally {
    release();
  }
}

function rebaseLocked(
  request: RebaseRequest,
  old: MountSpec,
  fresh: MountSpec,
  at: Writable,
): RebaseReport {
  const { conflict, lines, discard, dryRun, onProgress } = request;
  const opened = openPlan(old, fresh, {
    conflict: conflict === 'fail' ? 'ours' : conflict,
    lines,
    redirects: !old.userxattr && old.redirectDir !== 'nofollow',
  });
  const { plan, marker } = opened;
  try {
    const report = {
      upperdir: at.upper,
      from: { lowerdirs: old.lowerdirs, datadirs: old.datadirs },
      to: { lowerdirs: fresh.lowerdirs, datadirs: fresh.datadirs },
      decisions: plan.decisions,
      warnings: [],
    };
    const isRefused =
      conflict === 'fail' && plan.decisions.some(({ outcome }) => outcome === 'conflict');
    if (dryRun || isRefused) return { ...report, done: false };
    const made = {
      root: plan.root,
      indexed: marker.indexed,
      prefix: marker.prefix,
      from: report.from,
      to: report.to,
    };
    const { kept, warnings } = publish(at, made, discard, onProgress);
    const lines_ = warnings.map(({ problem, path, count }) => `${path}: ${problem} (${count})`);
    return { ...report, done: true, kept, warnings: lines_ };
  } finally {
    opened.close();
  }
}

/** Puts back what the last rebase has replaced. */
export async function undoRebase(
  options: readonly string[],
  discard: boolean,
): Promise<Undone & { readonly upperdir: string }> {
  const spec = specOf(options, NO_LAYER, '--undo');
  const at = await writableOf(spec);
  const { release } = holdUpper(at.upper, at.work, 'rebase it');
  try {
    recover(at);
    const prefix = spec.userxattr ? 'user.overlay.' : 'trusted.overlay.';
    return { upperdir: at.upper, ...undo(at, prefix, discard) };
  } finally {
    release();
  }
}

/** Finishes or clears away what a killed rebase has left. @returns what was done, one line each. */
export async function resumeRebase(options: readonly string[]): Promise<readonly string[]> {
  const at = await writableOf(specOf(options, NO_LAYER, '--resume'));
  const { release } = holdUpper(at.upper, at.work, 'rebase it');
  try {
    return recover(at);
  } finally {
    release();
  }
}

/** A directory that holds no upper, where no layers are asked for. */
const NO_LAYER = '/proc';

/**
 * The stack of the options over some layers.
 * @param lowers as the value of lowerdir; undefined: the options name it. @param flag that says so. @throws MountError.
 */
function specOf(options: readonly string[], lowers: string | undefined, flag: string): MountSpec {
  const names = lowers === undefined ? [] : ['lowerdir=/'];
  const parsed: MountOptions = parseOptions([...options, ...names], { defaults: '' });
  if (parsed.upperdir === undefined) {
    throw new MountError(
      'option',
      'upperdir: missing: name what is to be rebased, -o upperdir=,workdir=',
    );
  }
  if (lowers === undefined) return checkLayers(parsed, '/proc', !privilege().full);
  const list = splitLayers(lowers);
  if (typeof list === 'string') throw new MountError('option', `${flag} ${lowers}: ${list}`);
  const { lowers: lowerdirs, data: datadirs } = list;
  return checkLayers({ ...parsed, lowerdirs, datadirs }, '/proc', !privilege().full);
}

/** @throws MountError `busy` when it is mounted, `layer` when it may be damaged. */
async function writableOf(spec: MountSpec): Promise<Writable> {
  const upper = spec.upperdir as string;
  const work = spec.workdir as string;
  const mount = (await knownMounts()).find(({ layers }) => layers?.upperdir === upper);
  if (mount !== undefined) {
    throw new MountError(
      'busy',
      `upperdir: ${upper}: mounted at ${mount.mountpoint}: unmount it first, \`varve umount ${mount.mountpoint}\``,
    );
  }
  if (existsSync(join(work, 'work/incompat/volatile'))) {
    throw new MountError(
      'layer',
      `upperdir: ${upper}: was mounted volatile before and may be incomplete since a crash: discard it, or, if there was none, remove ${work}/work/incompat`,
    );
  }
  return { upper, work };
}
