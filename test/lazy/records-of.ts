// The rows of a chunk table as they were before it was encoded, for tests that make another table of them.

import type { ChunkRecord, ChunkTable } from '../../src/lazy/chunk-table.js';

/** Copies: they stay what they are when the table's bytes change. */
export function recordsOf(table: ChunkTable): ChunkRecord[] {
  return Array.from({ length: table.count }, (_, i) => ({
    at: table.at(i),
    length: table.length(i),
    stored: table.stored(i),
    from: table.from(i),
    skip: table.skip(i),
    origin: table.origin(i),
    codec: table.codec(i),
    digest: Buffer.from(table.digest(i)),
  }));
}
