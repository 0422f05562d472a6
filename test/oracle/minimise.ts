// Makes a failing case small: operations, then steps of layers, are dropped while it still fails.
// Called by explore.ts with a way to run a case again; the result is what a person replays.
// Follows: the delta debugging algorithm (Zeller and Hildebrandt, 2002), with a limit of time.

import type { Case } from './campaign.js';

/**
 * @param fails runs a case and says whether it fails in the same way
 * @param patience milliseconds after which the best so far is good enough
 */
export function minimise(failing: Case, fails: (one: Case) => boolean, patience: number): Case {
  const deadline = Date.now() + patience;
  let best = failing;
  // Whole kinds first: most have nothing to do with it.
  const kinds = [...new Set(best.ops.map(({ kind }) => kind))];
  const only = (some: string[]) => best.ops.filter(({ kind }) => some.includes(kind));
  const needed = shrink(kinds, (some) => fails({ ...best, ops: only(some) }), deadline);
  const ops = shrink(only(needed), (some) => fails({ ...best, ops: some }), deadline);
  best = { ...best, ops };
  for (let i = best.layers.length - 1; i >= 0; i--) {
    const withLayer = (steps: Case['layers'][number]) =>
      best.layers.map((old, at) => (at === i ? steps : old));
    const steps = shrink(
      best.layers[i] ?? [],
      (some) => fails({ ...best, layers: withLayer(some) }),
      deadline,
    );
    best = { ...best, layers: withLayer(steps) };
  }
  return best;
}

/** The smallest list found that still fails; removing any one chunk of the last size did not. */
function shrink<T>(items: T[], fails: (some: T[]) => boolean, deadline: number): T[] {
  let current = items;
  let chunk = Math.ceil(current.length / 2);
  while (chunk >= 1 && current.length > 0) {
    let removed = false;
    // From the end: what comes last leans on what came before.
    for (let end = current.length; end > 0 && Date.now() < deadline; end -= chunk) {
      const start = Math.max(0, end - chunk);
      const some = [...current.slice(0, start), ...current.slice(end)];
      if (fails(some)) {
        current = some;
        removed = true;
        end = Math.min(end, current.length + chunk);
      }
    }
    if (Date.now() >= deadline) return current;
    if (chunk === 1 && !removed) return current;
    if (!removed || chunk > 1) chunk = Math.floor(chunk / 2);
  }
  return current;
}
