// One feature of a machine, and how a probe's result becomes one.
// Used by doctor.ts and the probes beside it.
// Holds no probe.

/** yes: there. no: absent, and `without` says what is done instead. missing: varve cannot work without it. */
export type Verdict = 'yes' | 'no' | 'missing';

export interface Feature {
  readonly name: string;
  readonly verdict: Verdict;
  /** What was found: a version, a reason. */
  readonly detail?: string;
  /** What varve does without it. */
  readonly without?: string;
}

export function feature(name: string, there: boolean, without: string, detail?: string): Feature {
  return {
    name,
    verdict: there ? 'yes' : 'no',
    ...(detail === undefined ? {} : { detail }),
    ...(there ? {} : { without }),
  };
}
