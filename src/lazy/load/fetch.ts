// From a run of chunks to their content: ranges of an origin are asked for at the layer's sources, and decompressed.
// Used by scheduler.ts, which has the content verified and stored; also by whoever fetches a layer without a loader.
// Nothing that comes from here is to be trusted before its digest was compared.

import { zstdPrefix } from '../../linux/codecs.js';
import { gunzipPrefix } from '../../linux/zran.js';
import { type ChunkTable, Codec } from '../chunk-table.js';
import type { Origin, Source } from '../layer-folder.js';
import type { StreamSpan } from '../tar/checkpoint-reader.js';
import { type Run, type Streams, unitTo } from './runs.js';

/**
 * Reads bytes of an origin at one source.
 * @returns exactly `length` bytes. @throws RegistryError of oci/, or whatever went wrong.
 */
export type ReadRange = (
  source: Source,
  origin: Origin,
  at: number,
  length: number,
  signal: AbortSignal,
) => Promise<Uint8Array>;

/** What a chunk's content is made from. */
export interface FetchFrom {
  readonly table: ChunkTable;
  readonly origins: readonly Origin[];
  readonly sources: readonly Source[];
  /** Of a layer whose chunks lie in a compressed stream. */
  readonly checkpoints?: Streams;
}

/** Compressed bytes of a run, and where they came from. */
export interface Fetched {
  readonly bytes: Uint8Array;
  /** Number of the source. */
  readonly source: number;
  /** First of the bytes in the origin. */
  readonly at: number;
}

/**
 * Asks the sources, beginning with number `first`, until one has the bytes.
 * @throws the error of the last; at once when `signal` says so.
 */
export async function fetchRun(
  from: FetchFrom,
  run: Run,
  read: ReadRange,
  first: number,
  signal: AbortSignal,
): Promise<Fetched> {
  const at = run.from;
  const length = run.to - run.from;
  const origin = from.origins[run.origin] as Origin;
  let failure: unknown = new Error('the layer has no source');
  for (let k = 0; k < from.sources.length; k++) {
    const source = (first + k) % from.sources.length;
    try {
      const asked = read(from.sources[source] as Source, origin, at, length, signal);
      const bytes = await unlessAborted(asked, signal);
      if (bytes.length !== length) throw new Error(`${bytes.length} bytes came for ${length}`);
      return { bytes, source, at };
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}

/** What `asked` comes to, or the signal's reason at once: a request may hang where no signal reaches it, in somebody else's token. */
async function unlessAborted<T>(asked: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop);
  });
  try {
    return await Promise.race([asked, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/**
 * The content of the run's chunks, a unit at a time.
 * A chunk whose unit cannot be decompressed has none.
 */
export function* contents(
  from: FetchFrom,
  run: Run,
  { bytes, at }: Fetched,
): Generator<readonly [chunk: number, content: Uint8Array | undefined][]> {
  const { table } = from;
  if (run.span !== undefined) {
    yield decodeSpan(from, run, run.span, bytes);
    return;
  }
  for (let k = 0; k < run.chunks.length; ) {
    const begin = k;
    const i = run.chunks[k] as number;
    const start = table.from(i);
    const end = unitTo(table, i);
    const codec = table.codec(i);
    let size = 0;
    const isSame = (j: number): boolean =>
      table.from(j) === start && unitTo(table, j) === end && table.codec(j) === codec;
    for (; k < run.chunks.length && isSame(run.chunks[k] as number); k++) {
      const j = run.chunks[k] as number;
      size = Math.max(size, table.skip(j) + table.length(j));
    }
    const unit = decode(codec, bytes.subarray(start - at, end - at), size);
    yield run.chunks
      .slice(begin, k)
      .map((j) => [j, unit?.subarray(table.skip(j), table.skip(j) + table.length(j))] as const);
  }
}

/** All chunks of a span: what comes before damage is as good as ever. */
function decodeSpan(
  { table, checkpoints }: FetchFrom,
  run: Run,
  span: StreamSpan,
  bytes: Uint8Array,
): [chunk: number, content: Uint8Array | undefined][] {
  const found = new Map<number, Uint8Array>();
  attempt(() =>
    checkpoints?.decode(table, span, bytes, run.chunks, (i, content) => {
      found.set(i, content.slice());
    }),
  );
  return run.chunks.map((i) => [i, found.get(i)]);
}

/** The first `size` bytes of a unit, or undefined when it has not so many. */
function decode(codec: number, unit: Uint8Array, size: number): Uint8Array | undefined {
  switch (codec) {
    case Codec.RAW:
      return unit;
    case Codec.ZSTD: {
      const out = new Uint8Array(size);
      return zstdPrefix(unit, out) ? out : undefined;
    }
    case Codec.GZIP:
      return attempt(() => gunzipPrefix(unit, size));
    default:
      return undefined;
  }
}

function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}

/** What a failure means, as far as it is known: the words of RegistryError (oci/). */
export interface Failure {
  readonly kind: string;
  readonly message: string;
  /** Seconds that the registry asks to wait. */
  readonly retryAfter?: number;
}

export function failureOf(error: unknown): Failure {
  const { kind, retryAfter } = error as { kind?: unknown; retryAfter?: unknown };
  return {
    kind: typeof kind === 'string' ? kind : 'network',
    message: error instanceof Error ? error.message : String(error),
    ...(typeof retryAfter === 'number' ? { retryAfter } : {}),
  };
}
