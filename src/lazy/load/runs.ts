// Which bytes of an origin to ask for in one request: wanted chunks that lie near each other there.
// Used by queue.ts; knows a chunk table and nothing else.
// A request costs a round trip, bytes in between cost bandwidth: few are taken along.

import { type ChunkTable, Codec } from '../chunk-table.js';
import type { StreamSpan } from '../tar/checkpoint-reader.js';

/** Chunks that come with one request. */
export interface Run {
  readonly origin: number;
  /** Bytes of the origin. */
  readonly from: number;
  readonly to: number;
  /** In the order in which they lie in the origin. */
  readonly chunks: readonly number[];
  /** Of CHECKPOINT chunks: how they come out of these bytes. */
  readonly span?: StreamSpan;
}

/** A layer's way into a compressed stream: CheckpointReader of tar/. */
export interface Streams {
  /** What to fetch for these chunks, which ascend; other chunks come with them. */
  plan(table: ChunkTable, wanted: readonly number[], most?: number): StreamSpan[];
  /** Gives the content of chunks of a span, borrowed until `take` returns. @throws when the bytes are not what they should be. */
  decode(
    table: ChunkTable,
    span: StreamSpan,
    bytes: Uint8Array,
    chunks: readonly number[],
    take: (chunk: number, content: Uint8Array) => void,
  ): void;
}

/** What a layer has beside its table, and what of a stream is worth keeping when it comes with something else. */
export interface StreamJoin {
  readonly streams: Streams | undefined;
  isFree(i: number): boolean;
}

/** Most bytes between two wanted units of one request, and most of them all, as a share of what is wanted. */
const MAX_GAP = 32 << 10;
const MAX_WASTE = 0.2;

/** First byte of the chunk's unit in its origin; of CHECKPOINT chunks: in the uncompressed stream. */
export function unitFrom(table: ChunkTable, i: number): number {
  return table.from(i);
}

/** First byte behind the chunk's unit. */
export function unitTo(table: ChunkTable, i: number): number {
  const size = table.codec(i) === Codec.CHECKPOINT ? table.length(i) : table.stored(i);
  return table.from(i) + size;
}

const sameUnit = (table: ChunkTable, a: number, b: number): boolean =>
  table.codec(a) !== Codec.CHECKPOINT &&
  table.from(a) === table.from(b) &&
  table.origin(a) === table.origin(b);

/** Chunk `i` and those that come with it because they are in the same unit, in ascending order. */
export function unitMates(table: ChunkTable, i: number): readonly number[] {
  let units = scattered.get(table);
  if (units === undefined) scattered.set(table, (units = scatteredUnits(table)));
  const mates = units.get(unitKey(table, i));
  if (mates !== undefined) return mates;
  let first = i;
  while (first > 0 && sameUnit(table, first - 1, i)) first--;
  let last = i;
  while (last + 1 < table.count && sameUnit(table, last + 1, i)) last++;
  return Array.from({ length: last - first + 1 }, (_, k) => first + k);
}

/** Units whose chunks do not lie side by side in the blob: packed in the order of first use, or kept from an older image. */
type ScatteredUnits = ReadonlyMap<string, readonly number[]>;

const scattered = new WeakMap<ChunkTable, ScatteredUnits>();

const unitKey = (table: ChunkTable, i: number): string => `${table.origin(i)}:${table.from(i)}`;

function scatteredUnits(table: ChunkTable): ScatteredUnits {
  const units = new Map<string, number[]>();
  for (let i = 0; i < table.count; i++) {
    const isUnit = table.codec(i) !== Codec.CHECKPOINT && table.skip(i) > 0;
    if (isUnit && (i === 0 || !sameUnit(table, i - 1, i))) units.set(unitKey(table, i), []);
  }
  if (units.size === 0) return units;
  for (let i = 0; i < table.count; i++) {
    if (table.codec(i) !== Codec.CHECKPOINT) units.get(unitKey(table, i))?.push(i);
  }
  return units;
}

/**
 * Puts chunks together to requests.
 * @param chunks each once, in any order. @param span bytes of a request that is not one unit alone.
 */
export function joinRuns(
  table: ChunkTable,
  chunks: readonly number[],
  span: number,
  join: StreamJoin = { streams: undefined, isFree: () => false },
): Run[] {
  const inStreams = chunks.filter((i) => table.codec(i) === Codec.CHECKPOINT);
  if (inStreams.length === 0) return joinUnits(table, chunks, span);
  const others = chunks.filter((i) => table.codec(i) !== Codec.CHECKPOINT);
  return [...joinUnits(table, others, span), ...joinSpans(table, inStreams, span, join)];
}

function joinSpans(
  table: ChunkTable,
  chunks: readonly number[],
  most: number,
  { streams, isFree }: StreamJoin,
): Run[] {
  if (streams === undefined) throw new Error('the layer has no checkpoints');
  const wanted = new Set(chunks);
  return streams
    .plan(
      table,
      [...chunks].sort((a, b) => a - b),
      most,
    )
    .map((span) => ({
      origin: span.origin,
      from: span.at,
      to: span.at + span.length,
      chunks: span.chunks.filter((i) => wanted.has(i) || isFree(i)),
      span,
    }));
}

function joinUnits(table: ChunkTable, chunks: readonly number[], span: number): Run[] {
  const sorted = [...chunks].sort(
    (a, b) => table.origin(a) - table.origin(b) || table.from(a) - table.from(b) || a - b,
  );
  const runs: Run[] = [];
  let current: { origin: number; from: number; to: number; chunks: number[] } | undefined;
  let waste = 0;
  for (const i of sorted) {
    const from = unitFrom(table, i);
    const to = unitTo(table, i);
    if (current !== undefined && current.origin === table.origin(i)) {
      const gap = Math.max(0, from - current.to);
      const size = Math.max(to, current.to) - current.from;
      const inside = to <= current.to;
      if (inside || (gap <= MAX_GAP && waste + gap <= MAX_WASTE * (size - gap) && size <= span)) {
        waste += gap;
        current.to = Math.max(current.to, to);
        current.chunks.push(i);
        continue;
      }
    }
    waste = 0;
    current = { origin: table.origin(i), from, to, chunks: [i] };
    runs.push(current);
  }
  return runs;
}
