// Recursion over directories without the call stack: however deep a tree is, a walk over it takes memory only.
// Used by changes.ts, and by ops/ for walks over an upper: a generator yields another one and is given its result.

/** A piece of work that may need the results of others. */
export type Work<T> = Generator<Work<unknown>, T, unknown>;

/** @throws what any piece of the work throws. */
export function finish<T>(work: Work<T>): T {
  const pending: Work<unknown>[] = [work];
  let result: unknown;
  for (let top = pending.at(-1); top !== undefined; top = pending.at(-1)) {
    const step = top.next(result);
    if (step.done) pending.pop();
    else pending.push(step.value);
    result = step.done ? step.value : undefined;
  }
  return result as T;
}
