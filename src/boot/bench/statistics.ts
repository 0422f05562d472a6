// Figures of turns that take place one after the other, on a machine that does other things too.
// Used by run.ts and bench/boot.ts: what counts is the turn that was disturbed least.
// Follows docs/benchmarks.md, "How it is measured".

/** The smallest of each figure, over all turns. @throws RangeError without a turn. */
export function minimums<Name extends string>(
  turns: readonly Readonly<Record<Name, number>>[],
): Record<Name, number> {
  const [first, ...others] = turns;
  if (first === undefined) throw new RangeError('no turn to take a minimum of');
  const least: Record<Name, number> = { ...first };
  for (const turn of others) {
    for (const name of Object.keys(least) as Name[])
      least[name] = Math.min(least[name], turn[name]);
  }
  return least;
}

/** How much larger the largest is than the smallest; 1: they are all the same. */
export function spread(values: readonly number[]): number {
  return Math.max(...values) / Math.min(...values);
}

/**
 * The smallest number of `step` steps for which `works` says yes, when it says yes for `most` and from some number on.
 * @returns undefined: not even `most` works.
 */
export async function leastThat(
  range: { readonly least: number; readonly most: number; readonly step: number },
  works: (value: number) => Promise<boolean>,
): Promise<number | undefined> {
  if (!(await works(range.most))) return undefined;
  // In steps: what is known not to work, and what is known to work.
  let fails = Math.ceil(range.least / range.step) - 1;
  let good = Math.ceil(range.most / range.step);
  while (good - fails > 1) {
    const middle = Math.floor((good + fails) / 2);
    if (await works(middle * range.step)) good = middle;
    else fails = middle;
  }
  return Math.min(good * range.step, range.most);
}
