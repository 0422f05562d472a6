// A trial becomes real: each of its uppers is applied to the directory that it lies over.
// Called by cli/try.ts once the sandbox is gone. Each directory gets all of it or nothing (ops/apply/apply.ts).
// Where anything has been changed on the real system meanwhile nothing is done, unless it is forced.

import { MountError } from '../../stack/errors.js';
import { type ApplyOptions, applyUpper } from '../apply/apply.js';
import { changedSince, type TryConflict } from './conflicts.js';
import { text } from './paths.js';
import type { Part, TryResult } from './result.js';
import { placeId, type TrySession } from './session.js';

export interface CommitReport {
  /** Not empty: nothing was done, unless it was forced. */
  readonly conflicts: readonly TryConflict[];
  readonly committed: boolean;
}

/** @throws MountError, SysError, TreeError; its message says which directories had been done already. */
export async function commitTry(
  session: TrySession,
  result: TryResult,
  force: boolean,
): Promise<CommitReport> {
  const parts = result.parts.filter(({ changes }) => changes.some(({ status }) => status !== '='));
  const conflicts: TryConflict[] = [];
  for (const part of parts) {
    const since = changedSince(part, session.since);
    const there = placeId(part.upper.path) !== undefined;
    const dry = there ? await apply(part, { dryRun: true }) : { conflicts: [] };
    const known = new Set(since.map(({ path }) => path));
    const root = part.upper.path === '/' ? '' : part.upper.path;
    const others = dry.conflicts.map(({ path, message }) => ({ path: `${root}/${path}`, message }));
    conflicts.push(...since, ...others.filter(({ path }) => !known.has(path)));
  }
  if (conflicts.length > 0 && !force) return { conflicts, committed: false };
  const done: string[] = [];
  for (const part of parts) {
    try {
      await apply(part, { force: true, upper: session.upperOf(part.upper), move: true });
      done.push(text(part.upper.path));
    } catch (error) {
      if (done.length === 0 || !(error instanceof Error)) throw error;
      const message = `${error.message} (already committed: ${done.join(', ')})`;
      throw new MountError('layer', message, { cause: error });
    }
  }
  return { conflicts, committed: true };
}

function apply(
  { upper, stack, changes }: Part,
  options: ApplyOptions,
): ReturnType<typeof applyUpper> {
  // The system itself is in use; that is the point.
  return applyUpper(stack, text(upper.path), { ...options, changes, allowUsed: true });
}
