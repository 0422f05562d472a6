// Asynchronous work over a list, some of it at a time.
// Used by pull/ for layers and for requests of one layer.

/**
 * As Promise.all() over `work`, of which no more than `most` are under way at a time, begun in order; none is after one has failed.
 * Whoever is under way is waited for, whatever becomes of it.
 * @throws what the first that failed has thrown.
 */
export async function mapSome<T, R>(
  list: readonly T[],
  most: number,
  work: (one: T, k: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const entries = list.entries();
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (const [k, one] of entries) {
      if (failure !== undefined) return;
      try {
        results[k] = await work(one, k);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, list.length) }, worker));
  // A worker has set it, which the compiler does not see.
  const failed = failure as { readonly error: unknown } | undefined;
  if (failed !== undefined) throw failed.error;
  return results;
}
