// An origin read from its beginning to its end, for registries that send no parts: what is missing is cut out as it passes.
// Used by scheduler.ts when asking for ranges has proved to be the longer way.
// Held in memory: the run that is passing, and no more.

import type { Origin, Source } from '../layer-folder.js';
import type { Fetched, FetchFrom } from './fetch.js';
import type { Run } from './runs.js';

/** Reads whole origins. */
export interface ReadWhole {
  /** Whether that is the better way to this origin, after what was seen of its registry. */
  isBetter(origin: Origin): boolean;
  /** @throws RegistryError of oci/, at any piece. */
  read(source: Source, origin: Origin, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

/**
 * The bytes of each run, in the order in which they lie in the origin; the sources are tried one after the other until one
 * begins to send.
 * @param runs of one origin.
 */
export async function* readWhole(
  from: FetchFrom,
  runs: readonly Run[],
  whole: ReadWhole,
  first: number,
  signal: AbortSignal,
): AsyncGenerator<{ readonly run: Run; readonly fetched: Fetched }> {
  const sorted = [...runs].sort((a, b) => a.from - b.from || a.to - b.to);
  const origin = from.origins[sorted[0]?.origin ?? 0] as Origin;
  const source = first % from.sources.length;
  const pieces = await whole.read(from.sources[source] as Source, origin, signal);
  let next = 0;
  /** Bytes from `heldAt` on that a run needs. */
  let held: Uint8Array[] = [];
  let heldAt = 0;
  let end = 0;
  for await (const piece of pieces) {
    held.push(piece);
    end += piece.length;
    for (let run = sorted[next]; run !== undefined && run.to <= end; run = sorted[++next]) {
      const all = held.length === 1 ? (held[0] as Uint8Array) : Buffer.concat(held);
      held = [all];
      const bytes = all.subarray(run.from - heldAt, run.to - heldAt);
      yield { run, fetched: { bytes, source, at: run.from } };
    }
    // Runs may overlap; what lies before all that are left is done with.
    const wanted = sorted[next]?.from;
    if (wanted === undefined) return;
    for (let piece = held[0]; piece !== undefined && heldAt + piece.length <= wanted; ) {
      heldAt += piece.length;
      held.shift();
      piece = held[0];
    }
  }
  throw new Error(`${end} bytes came of ${origin.size}`);
}
