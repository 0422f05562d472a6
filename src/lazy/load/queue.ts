// What is wanted of one layer: who waits for which chunks, what is on its way, and what to ask for next.
// Kept by loader.ts; scheduler.ts takes runs from it and settles them.
// Order: what somebody waits for, then the recorded order, then everything in the order of the blob.

import { existsSync, readFileSync } from 'node:fs';
import { NOWHERE } from '../chunk-table.js';
import type { LoadPolicy } from '../protocol.js';
import type { LoadedLayer } from './layer.js';
import { Rate } from './rate.js';
import { joinRuns, type Run, type Streams, unitFrom, unitMates, unitTo } from './runs.js';

/** What becomes of the wishes of one user of a layer. Called between two events of the loop, never within want(). */
export interface Waiter {
  here(first: number, count: number): void;
  /** @param errno positive. */
  failed(first: number, count: number, errno: number): void;
  /** The layer is complete and on disk. */
  complete(): void;
}

/** One user of a layer: a server's connection, or a mount of the kernel. */
export interface LayerUse {
  readonly mountpoint: string;
  readonly policy: LoadPolicy;
  readonly waiter: Waiter;
  /** Chunks that are waited for, and since when (milliseconds). */
  readonly wants: Map<number, number>;
}

/** How badly a run is wanted. */
export type Urgency = 'demand' | 'prefetch' | 'fill';

/** Bytes of a request that somebody waits for. */
const DEMAND_SPAN = 512 << 10;
/** Chunks that are fetched behind those that were read one after the other: one for each so many. */
const SEQUENCE = 4;
const MAX_AHEAD = 8;
/** Files begin at multiples of that. */
const BLOCK = 4096;
/** Entries of the recorded order, and chunks of the blob, that are looked at for one request. */
const WINDOW = 64;
/** Milliseconds until content that was wrong is asked for again without somebody waiting for it. */
const WRONG_PAUSE = 60_000;

export class LayerQueue {
  readonly layer: LoadedLayer;
  readonly uses = new Set<LayerUse>();
  readonly rate: Rate;
  /** Why nothing comes; cleared by whatever comes. */
  trouble: string | undefined;
  /** Not before this moment. */
  retryAt = 0;
  /** Failures since something came. */
  failures = 0;
  /** Source that answered last. */
  source = 0;
  /** Number of the table in the layer's `places` by which something came last. */
  place = 0;
  /** Runs on their way. */
  active = 0;
  /** Of their requests. */
  readonly abort = new AbortController();
  /** Everything is to be fetched whatever the policies say. */
  fillAll = false;
  /** Nothing is fetched ahead: the layer has just been emptied. */
  noFill = false;
  readonly #clock: () => number;
  readonly #inFlight: Uint8Array;
  /** Somebody has wanted it since the loader began. */
  readonly #asked: Uint8Array;
  /** Wanted and not on its way. */
  readonly #demand = new Set<number>();
  readonly #waiting = new Map<number, Set<LayerUse>>();
  readonly #wrong = new Map<number, number>();
  #order: Uint32Array;
  #orderAt = 0;
  /** What was guessed, before what was recorded. */
  #guesses: number[] = [];
  /** Told of every chunk that comes. */
  heard: (chunks: readonly number[]) => void = () => {};
  #fillAt = 0;

  /** Of a layer whose chunks lie in a compressed stream. */
  readonly checkpoints: Streams | undefined;

  constructor(layer: LoadedLayer, clock: () => number, checkpoints?: Streams) {
    this.layer = layer;
    this.checkpoints = checkpoints;
    this.#clock = clock;
    this.rate = new Rate(clock);
    this.#inFlight = new Uint8Array(layer.table.count);
    this.#asked = new Uint8Array(layer.table.count);
    this.#order = readOrder(layer.folder.order, layer.table.count);
  }

  get waiting(): ReadonlyMap<number, ReadonlySet<LayerUse>> {
    return this.#waiting;
  }

  isInFlight(i: number): boolean {
    return this.#inFlight[i] === 1;
  }

  isWanted(i: number): boolean {
    return this.#waiting.has(i);
  }

  /** `use` waits for these chunks, none of which is here. */
  want(use: LayerUse, chunks: Iterable<number>): void {
    const now = this.#clock();
    for (const i of chunks) {
      if (use.wants.has(i)) continue;
      use.wants.set(i, now);
      const waiting = this.#waiting.get(i);
      if (waiting === undefined) this.#waiting.set(i, new Set([use]));
      else waiting.add(use);
      if (this.#inFlight[i] === 0) this.#demand.add(i);
      this.#asked[i] = 1;
    }
  }

  /** `use` waits for them no more. */
  drop(use: LayerUse, chunks: Iterable<number>): void {
    for (const i of chunks) {
      if (!use.wants.delete(i)) continue;
      const waiting = this.#waiting.get(i);
      waiting?.delete(use);
      if (waiting?.size !== 0) continue;
      this.#waiting.delete(i);
      this.#demand.delete(i);
    }
  }

  /** Tells whoever waits that these are here. */
  arrived(chunks: readonly number[]): void {
    this.heard(chunks);
    this.#tell(chunks, (use, first, count) => use.waiter.here(first, count));
  }

  /** Tells whoever waits, or those of them that `only` names, that these do not come. */
  refused(
    chunks: Iterable<number>,
    errno: number,
    only: (use: LayerUse) => boolean = () => true,
  ): void {
    this.#tell([...chunks], (use, first, count) => use.waiter.failed(first, count, errno), only);
  }

  #tell(
    chunks: readonly number[],
    tell: (use: LayerUse, first: number, count: number) => void,
    only: (use: LayerUse) => boolean = () => true,
  ): void {
    const told = new Map<LayerUse, number[]>();
    for (const i of chunks) {
      for (const use of this.#waiting.get(i) ?? []) {
        if (!only(use)) continue;
        const list = told.get(use);
        if (list === undefined) told.set(use, [i]);
        else list.push(i);
      }
    }
    for (const [use, list] of told) {
      this.drop(use, list);
      list.sort((a, b) => a - b);
      for (let k = 0; k < list.length; ) {
        const first = list[k] as number;
        let count = 1;
        while (list[k + count] === first + count) count++;
        tell(use, first, count);
        k += count;
      }
    }
  }

  /** When the first chunk that is not on its way was first waited for; undefined: nobody waits for one. */
  get oldestDemand(): number | undefined {
    for (const i of this.#demand) {
      let oldest = Number.POSITIVE_INFINITY;
      for (const use of this.#waiting.get(i) ?? []) {
        oldest = Math.min(oldest, use.wants.get(i) ?? oldest);
      }
      return oldest;
    }
    return undefined;
  }

  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** The next run of this urgency, which is on its way from now on. @param span bytes of a run ahead of demand. */
  take(urgency: Urgency, span: number): Run | undefined {
    const run =
      urgency === 'demand'
        ? this.#takeDemand()
        : urgency === 'prefetch'
          ? this.#takePrefetch(span)
          : this.#takeFill(span);
    if (run === undefined) return undefined;
    for (const i of run.chunks) {
      this.#inFlight[i] = 1;
      this.#demand.delete(i);
    }
    this.active++;
    return run;
  }

  /** All of an origin that is not here and not on its way is on its way from now on. @returns undefined where nothing is. */
  takeOrigin(origin: number): Run | undefined {
    const { table } = this.layer;
    const chunks: number[] = [];
    for (let i = 0; i < table.count; i++) {
      if (table.origin(i) !== origin || !this.#isFree(i)) continue;
      this.#inFlight[i] = 1;
      this.#demand.delete(i);
      chunks.push(i);
    }
    if (chunks.length === 0) return undefined;
    this.active++;
    return { origin, from: 0, to: this.layer.record.origins[origin]?.size ?? 0, chunks };
  }

  /** The run is over: whoever still waits for one of its chunks waits for another attempt. */
  settle(run: Run): void {
    this.active--;
    for (const i of run.chunks) {
      this.#inFlight[i] = 0;
      if (this.#waiting.has(i)) this.#demand.add(i);
    }
  }

  /** Content of this chunk was wrong wherever it came from. */
  markWrong(i: number): void {
    this.#wrong.set(i, this.#clock() + WRONG_PAUSE);
  }

  /** Whether it may be asked for without somebody waiting. */
  #isFree(i: number): boolean {
    if (this.#inFlight[i] === 1 || this.layer.map.isHere(i)) return false;
    if (this.layer.table.origin(i) === NOWHERE) return false;
    const until = this.#wrong.get(i);
    if (until === undefined) return true;
    if (until > this.#clock()) return false;
    this.#wrong.delete(i);
    return true;
  }

  /** Those of `chunks`, and of their units, that are not here and not on their way. */
  #withMates(chunks: Iterable<number>): number[] {
    const all = new Set<number>();
    for (const i of chunks) {
      if (all.has(i)) continue;
      all.add(i);
      for (const mate of unitMates(this.layer.table, i)) if (this.#isFree(mate)) all.add(mate);
    }
    return [...all];
  }

  #takeDemand(): Run | undefined {
    const { table, map } = this.layer;
    const [first] = this.#demand;
    if (first === undefined) return undefined;
    const chunks = new Set<number>();
    for (const i of this.#demand) {
      // It may have come with another one's unit.
      if (map.isHere(i)) continue;
      if (table.origin(i) !== table.origin(first)) continue;
      chunks.add(i);
    }
    for (const i of [...chunks]) {
      for (const next of this.#ahead(i)) {
        chunks.add(next);
        // Whoever reads on wants what is behind it as if nothing had been there.
        this.#asked[next] = 1;
      }
    }
    const runs = this.join(this.#withMates(chunks), DEMAND_SPAN);
    return runs.find((run) => run.chunks.includes(first)) ?? runs[0];
  }

  /** What is likely to be read behind chunk `i`, where those before it were read one after the other. */
  #ahead(i: number): number[] {
    const { table } = this.layer;
    const follows = (a: number, b: number): boolean =>
      table.at(a) + table.length(a) === table.at(b);
    let before = 0;
    while (
      before < SEQUENCE * MAX_AHEAD &&
      i - before - 1 >= 0 &&
      this.#asked[i - before - 1] === 1 &&
      follows(i - before - 1, i - before)
    ) {
      before++;
    }
    const list: number[] = [];
    const size = table.length(i - before);
    for (let k = 1; k <= Math.floor(before / SEQUENCE); k++) {
      if (i + k >= table.count) break;
      // Another length ends a file, unless its chunks are of any length: then the next one begins within a block.
      if (table.length(i + k - 1) !== size && table.at(i + k) % BLOCK === 0) break;
      if (!follows(i + k - 1, i + k)) break;
      if (this.#isFree(i + k)) list.push(i + k);
    }
    return list;
  }

  /** Chunks that somebody will want soon, as far as can be told; what is here or on its way is passed over. */
  guess(chunks: readonly number[]): void {
    for (const i of chunks) if (this.#isFree(i)) this.#guesses.push(i);
  }

  get prefetches(): boolean {
    for (const use of this.uses) if (use.policy.prefetch) return true;
    return false;
  }

  #takePrefetch(span: number): Run | undefined {
    if (!this.prefetches) return undefined;
    this.#guesses = this.#guesses.filter((i) => this.#isFree(i));
    if (this.#guesses.length > 0) return this.#runWith(this.#guesses.slice(0, WINDOW), span);
    const order = this.#order;
    while (this.#orderAt < order.length && !this.#isFree(order[this.#orderAt] as number)) {
      this.#orderAt++;
    }
    if (this.#orderAt >= order.length) return undefined;
    const window: number[] = [];
    const end = Math.min(order.length, this.#orderAt + WINDOW);
    for (let k = this.#orderAt; k < end; k++) {
      const i = order[k] as number;
      if (this.#isFree(i)) window.push(i);
    }
    return this.#runWith(window, span);
  }

  #takeFill(span: number): Run | undefined {
    if (!this.fills) return undefined;
    const { map, table } = this.layer;
    this.#fillAt = map.nextAbsent(this.#fillAt);
    const window: number[] = [];
    for (let i = this.#fillAt; i < table.count && window.length < 4 * WINDOW; i++) {
      i = map.nextAbsent(i);
      if (i < table.count && this.#isFree(i)) window.push(i);
    }
    if (window.length > 0) return this.#runWith(window, span);
    return undefined;
  }

  /** Puts chunks together to requests. @param table says where they lie; in another than the layer's there are no streams. */
  join(chunks: readonly number[], span: number, table = this.layer.table): Run[] {
    const isFree = (i: number): boolean => this.#isFree(i);
    const streams = table === this.layer.table ? this.checkpoints : undefined;
    return joinRuns(table, chunks, span, { streams, isFree });
  }

  /** The run that has the first of `chunks`. */
  #runWith(chunks: readonly number[], span: number): Run | undefined {
    const { table } = this.layer;
    const first = chunks[0] as number;
    const origin = table.origin(first);
    const near = chunks.filter(
      (i) =>
        table.origin(i) === origin &&
        Math.abs(unitFrom(table, i) - unitTo(table, first)) <= 2 * span,
    );
    return this.join(this.#withMates(near), span).find((run) => run.chunks.includes(first));
  }

  get fills(): boolean {
    if (this.fillAll) return true;
    if (this.noFill) return false;
    for (const use of this.uses) if (use.policy.fill) return true;
    return false;
  }

  /** Chunks were taken back: a fill begins again from the start, the recorded order is done with. */
  stopPrefetch(): void {
    this.#fillAt = 0;
    this.#guesses = [];
    this.#order = new Uint32Array(0);
  }
}

/** The recorded order, as far as it fits the table; empty where there is none. */
export function readOrder(path: string, count: number): Uint32Array {
  if (!existsSync(path)) return new Uint32Array(0);
  const bytes = readFileSync(path);
  const list = new Uint32Array(bytes.length >>> 2);
  let n = 0;
  for (let k = 0; k + 4 <= bytes.length; k += 4) {
    const i = bytes.readUInt32LE(k);
    if (i < count) list[n++] = i;
  }
  return list.subarray(0, n);
}
