// Which chunks of a table an event asks for.
// Used by the reading thread and by kernel-way.ts.
// Bytes between chunks are zeros that the blob has anyway (chunk-table.ts).

import type { ChunkTable } from '../chunk-table.js';

/** Chunks `from` to `to`, not included. */
export interface ChunkRun {
  readonly from: number;
  readonly to: number;
}

/** The chunks that have bytes in `at` .. `at + length`. */
export function chunksOf(table: ChunkTable, at: number, length: number): ChunkRun {
  const from = table.find(at);
  const end = at + length;
  if (from < table.count && table.at(from) >= end) return { from, to: from };
  let low = from;
  let high = table.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (table.at(middle) < end) low = middle + 1;
    else high = middle;
  }
  return { from, to: low };
}
