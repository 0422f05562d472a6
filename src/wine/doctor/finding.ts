// One thing that doctor found, as data: what it is, where, and what to do about it.
// Made by the checks beside this file; examine.ts collects them, `varve wine doctor` prints them.
// Names of findings are part of the JSON that programs read: they do not change.

/**
 * - `fault`: something does not work, or will not.
 * - `leak`: Wine or its programs reach out of the prefix.
 * - `note`: worth knowing.
 */
export type Verdict = 'fault' | 'leak' | 'note';

export interface Finding {
  readonly name: string;
  readonly verdict: Verdict;
  /** What it is, in a few words. */
  readonly what: string;
  /** Paths that it concerns; where there are many, all of them. */
  readonly paths: readonly string[];
  /** What to do. */
  readonly remedy: string;
  /** `--fix` does that. */
  readonly fixable: boolean;
}
