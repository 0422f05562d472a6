// Which request goes out next, over all layers: few at a time, what somebody waits for first, and what to do when one fails.
// Owned by loader.ts; takes runs from queue.ts, fetches (fetch.ts), has content verified and stored (layer.ts).
// Wrong content is fetched once more, elsewhere if possible; every other failure is waited out, longer each time.

import { E } from '../../linux/errno.js';
import type { ChunkTable } from '../chunk-table.js';
import {
  contents,
  type Failure,
  type Fetched,
  type FetchFrom,
  failureOf,
  fetchRun,
  type ReadRange,
} from './fetch.js';
import type { LayerQueue, Urgency } from './queue.js';
import { Rate } from './rate.js';
import type { Run } from './runs.js';
import { type ReadWhole, readWhole } from './whole.js';

export interface SchedulerOptions {
  readonly read: ReadRange;
  /** Where the content of a layer comes from. */
  readonly from: (queue: LayerQueue) => FetchFrom;
  /** How a registry is read that sends nothing but whole blobs. */
  readonly whole?: ReadWhole;
  /** Content that lies on this machine already: as large as chunk `i`, and not verified. */
  readonly local?: (queue: LayerQueue, i: number) => Promise<Uint8Array | undefined>;
  readonly log: (line: string) => void;
  /** Something has arrived that is not on disk yet, or the last chunk has. */
  readonly stored: (queue: LayerQueue) => void;
  /** Milliseconds. */
  readonly clock: () => number;
  /** Requests at a time. */
  readonly connections?: number;
  /** First pause after a failure, and the longest, milliseconds. */
  readonly pause?: readonly [first: number, longest: number];
  /** Milliseconds without demand until everything else is fetched at full speed. */
  readonly quiet?: number;
}

const CONNECTIONS = 8;
const PAUSE = [200, 3000] as const;
const QUIET = 300;
/** Longest pause that a registry may ask for, milliseconds. */
const MAX_RETRY_AFTER = 60_000;
/**
 * Bytes of a request ahead of demand: what comes in so many milliseconds over one of BACKGROUND connections. With a round trip
 * of 20 ms the long ones leave a tenth of the bandwidth unused, and somebody who begins to read then waits 10 ms more.
 */
const MIN_SPAN = 256 << 10;
const MAX_SPAN = 2 << 20;
const SPAN_TIME = 100;
const QUIET_SPAN_TIME = 300;
const BACKGROUND = 3;
/** Runs on their way that are likely to be wanted; while somebody waits: these, or so many bytes, which come in the time of a round trip. */
const PREFETCHES = 4;
const PREFETCHES_BESIDE = 2;
const BYTES_BESIDE = 192 << 10;

export class Scheduler {
  readonly rate: Rate;
  readonly #options: SchedulerOptions;
  readonly #queues = new Set<LayerQueue>();
  readonly #connections: number;
  /** Origins that cannot be read whole. */
  readonly #notWhole = new Set<string>();
  #active = 0;
  /** Runs on their way that nobody waits for, and their bytes. */
  #ahead = 0;
  #aheadBytes = 0;
  #lastDemand = Number.NEGATIVE_INFINITY;
  #planned = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #ended = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#connections = Math.max(1, options.connections ?? CONNECTIONS);
    this.rate = new Rate(options.clock);
  }

  add(queue: LayerQueue): void {
    this.#queues.add(queue);
    this.wake();
  }

  /** No run of it is begun any more, and those on their way are given up: nobody wants them. @returns when there is none. */
  async remove(queue: LayerQueue): Promise<void> {
    this.#queues.delete(queue);
    queue.abort.abort();
    while (queue.active > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** Something may be to do. What is wanted in the same moment is looked at together. */
  wake(): void {
    if (this.#planned || this.#ended) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      this.#fillSlots();
    });
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const queue of this.#queues) queue.abort.abort();
  }

  #fillSlots(): void {
    const now = this.#options.clock();
    while (!this.#ended && this.#active < this.#connections) {
      if (!this.#startDemand(now) && !this.#startAhead(now)) break;
    }
  }

  /** @returns whether one was begun. */
  #startDemand(now: number): boolean {
    const waiting = [...this.#queues]
      .map((queue) => ({ queue, since: queue.oldestDemand }))
      .filter(({ since }) => since !== undefined)
      .sort((a, b) => (a.since as number) - (b.since as number));
    if (waiting.length > 0) this.#lastDemand = now;
    for (const { queue } of waiting) {
      if (this.#isPaused(queue, now)) continue;
      const run = queue.take('demand', 0);
      if (run === undefined) continue;
      this.#start(queue, run, 'demand');
      return true;
    }
    return false;
  }

  #startAhead(now: number): boolean {
    const quietAt = this.#lastDemand + (this.#options.quiet ?? QUIET);
    const queues = [...this.#queues].filter((queue) => !this.#isPaused(queue, now));
    const waited = queues.some((queue) => queue.hasWaiting);
    // The last connections are for demand.
    const limit = Math.max(1, Math.min(PREFETCHES, this.#connections - 2));
    const most = {
      prefetch:
        waited && this.#aheadBytes > BYTES_BESIDE ? Math.min(PREFETCHES_BESIDE, limit) : limit,
      // Where somebody reads all the time, filling goes on between two waits, with one request.
      fill: waited ? 0 : now < quietAt ? 1 : Math.min(BACKGROUND, limit),
    };
    for (const urgency of ['prefetch', 'fill'] as const) {
      if (this.#ahead >= most[urgency]) continue;
      for (const queue of queues) {
        if (queue.layer.absent === 0) continue;
        const run = queue.take(urgency, this.#spanFor(now >= quietAt));
        if (run === undefined) continue;
        this.#start(queue, run, urgency);
        return true;
      }
    }
    if (now < quietAt) this.#wakeAt(quietAt);
    return false;
  }

  #spanFor(isQuiet: boolean): number {
    const time = isQuiet ? QUIET_SPAN_TIME : SPAN_TIME;
    const fitting = ((this.rate.value / 1000) * time) / BACKGROUND;
    return Math.max(MIN_SPAN, Math.min(MAX_SPAN, fitting));
  }

  /** After a failure one run alone finds out whether things are better. */
  #isPaused(queue: LayerQueue, now: number): boolean {
    if (queue.failures > 0 && queue.active > 0) return true;
    if (now >= queue.retryAt) return false;
    this.#wakeAt(queue.retryAt);
    return true;
  }

  #wakeAt(moment: number): void {
    if (this.#ended || moment >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = moment;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.wake();
      },
      Math.max(1, moment - this.#options.clock()),
    );
  }

  #start(queue: LayerQueue, run: Run, urgency: Urgency): void {
    const ahead = urgency === 'demand' ? 0 : 1;
    const bytes = ahead * (run.to - run.from);
    this.#active++;
    this.#ahead += ahead;
    this.#aheadBytes += bytes;
    void this.#perform(queue, run)
      .catch((error: unknown) => this.#failed(queue, run, error))
      .finally(() => {
        this.#active--;
        this.#ahead -= ahead;
        this.#aheadBytes -= bytes;
        queue.settle(run);
        this.#options.stored(queue);
        this.wake();
      });
  }

  /** Wherever the layer has known its chunks to lie is asked, the place that had them last first. */
  async #perform(queue: LayerQueue, run: Run): Promise<void> {
    const { places, map } = queue.layer;
    let failure: unknown;
    let left: readonly number[] = run.chunks;
    for (let k = 0; k < places.length && left.length > 0; k++) {
      const at = (queue.place + k) % places.length;
      const table = places[at] as ChunkTable;
      try {
        left = await (k === 0 && at === 0
          ? this.#performFirst(queue, run)
          : this.#fetchAll(queue, queue.join(left, run.to - run.from, table), table));
        queue.place = at;
      } catch (error) {
        if (queue.abort.signal.aborted) throw error;
        // What an older place has no more is nothing to wait for.
        if (k === 0 || failureOf(error).kind !== 'absent') failure ??= error;
        left = left.filter((i) => !map.isHere(i));
      }
    }
    if (left.length === 0) return;
    if (failure !== undefined) throw failure;
    this.#refuse(queue, left);
  }

  /** From where the layer has its chunks now. @returns those whose content was wrong. */
  async #performFirst(queue: LayerQueue, run: Run): Promise<readonly number[]> {
    const wholeWrong = await this.#performWhole(queue, run);
    if (wholeWrong !== undefined) return wholeWrong;
    return this.#fetchAll(queue, await this.#storeLocal(queue, run), queue.layer.table);
  }

  /** @returns chunks whose content was wrong, of each source, and twice where there is only one. */
  async #fetchAll(
    queue: LayerQueue,
    runs: readonly Run[],
    table: ChunkTable,
  ): Promise<readonly number[]> {
    const sources = this.#options.from(queue).sources.length;
    const first = queue.source;
    let next = runs;
    let wrong: number[] = [];
    for (let k = 0; k < Math.max(2, sources) && next.length > 0; k++) {
      wrong = [];
      for (const part of next) wrong.push(...(await this.#fetch(queue, part, first + k, table)));
      next = queue.join(wrong, 0, table);
    }
    return wrong;
  }

  /**
   * Where the registry sends nothing but whole blobs: reads this one from its beginning, once, and takes in all that is missing.
   * @returns chunks whose content was wrong; undefined where there is a better way.
   */
  async #performWhole(queue: LayerQueue, run: Run): Promise<number[] | undefined> {
    const { whole } = this.#options;
    const from = this.#options.from(queue);
    const origin = from.origins[run.origin];
    if (whole === undefined || origin === undefined) return undefined;
    if (this.#notWhole.has(origin.digest) || !whole.isBetter(origin)) return undefined;
    const rest = queue.takeOrigin(run.origin);
    const wrong: number[] = [];
    try {
      const runs = queue.join([...run.chunks, ...(rest?.chunks ?? [])], MAX_SPAN);
      const { signal } = queue.abort;
      for await (const part of readWhole(from, runs, whole, queue.source, signal)) {
        this.#came(queue, part.fetched);
        wrong.push(...(await this.#store(queue, part.run, part.fetched, from)));
      }
    } catch (error) {
      // Another source begins next time. Where the whole has another digest, its end is never sent: parts are left.
      queue.source = (queue.source + 1) % from.sources.length;
      if (failureOf(error).kind === 'wrong') this.#notWhole.add(origin.digest);
      throw error;
    } finally {
      if (rest !== undefined) queue.settle(rest);
    }
    return wrong;
  }

  /** Takes what this machine has. @returns runs of the rest. */
  async #storeLocal(queue: LayerQueue, run: Run): Promise<readonly Run[]> {
    const { local } = this.#options;
    if (local === undefined) return [run];
    const missing: number[] = [];
    for (const i of run.chunks) {
      const content = await local(queue, i);
      if (content === undefined || !(await queue.layer.put(i, content))) missing.push(i);
      else queue.arrived([i]);
    }
    if (missing.length === run.chunks.length) return [run];
    return queue.join(missing, run.to - run.from);
  }

  /** @returns chunks whose content was wrong. */
  async #fetch(queue: LayerQueue, run: Run, first: number, table: ChunkTable): Promise<number[]> {
    const from = { ...this.#options.from(queue), table };
    const fetched = await fetchRun(from, run, this.#options.read, first, queue.abort.signal);
    this.#came(queue, fetched);
    return this.#store(queue, run, fetched, from);
  }

  /** Something came: things are well. */
  #came(queue: LayerQueue, { bytes, source }: Fetched): void {
    this.rate.add(bytes.length);
    queue.rate.add(bytes.length);
    queue.source = source;
    queue.failures = 0;
    queue.retryAt = 0;
    queue.trouble = undefined;
  }

  /** @returns chunks whose content was wrong. */
  async #store(queue: LayerQueue, run: Run, fetched: Fetched, from: FetchFrom): Promise<number[]> {
    const wrong: number[] = [];
    for (const unit of contents(from, run, fetched)) {
      const arrived: number[] = [];
      for (const [i, content] of unit) {
        if (content !== undefined && (await queue.layer.put(i, content))) {
          arrived.push(i);
        } else {
          wrong.push(i);
          this.#logWrong(queue, run, i, content, fetched, from);
        }
      }
      queue.arrived(arrived);
    }
    return wrong;
  }

  #logWrong(
    queue: LayerQueue,
    run: Run,
    i: number,
    content: Uint8Array | undefined,
    { source }: Fetched,
    from: FetchFrom,
  ): void {
    const { folder } = queue.layer;
    const { table } = from;
    const where = from.sources[source];
    const expected = Buffer.from(table.digest(i)).toString('hex');
    const found = content === undefined ? 'nothing' : queue.layer.digestOf(content);
    this.#options.log(
      `${folder.path}: chunk ${i} from ${where?.registry}/${where?.repository} ${from.origins[run.origin]?.digest} byte ${table.from(i)} is wrong: expected ${expected}, found ${found}`,
    );
  }

  /** Wrong wherever it came from: nobody can wait for that to pass. */
  #refuse(queue: LayerQueue, wrong: readonly number[]): void {
    for (const i of wrong) queue.markWrong(i);
    queue.trouble = `the registry has wrong content for ${wrong.length} chunk${wrong.length === 1 ? '' : 's'} (chunk ${wrong[0]})`;
    queue.refused(wrong, E.IO);
  }

  #failed(queue: LayerQueue, run: Run, error: unknown): void {
    if (queue.abort.signal.aborted) return;
    const failure = failureOf(error);
    const now = this.#options.clock();
    queue.trouble = failure.message;
    queue.failures++;
    queue.retryAt = now + this.#pause(queue.failures, failure);
    if (queue.failures === 1) this.#options.log(`${queue.layer.folder.path}: ${failure.message}`);
    const waiting = [...run.chunks, ...queue.waiting.keys()];
    queue.refused(new Set(waiting), E.IO, ({ policy }) => policy.stall === 'eio');
    this.#wakeAt(queue.retryAt);
  }

  #pause(failures: number, { retryAfter }: Failure): number {
    const [first, longest] = this.#options.pause ?? PAUSE;
    const own = Math.min(longest, first * 2 ** Math.min(failures - 1, 16));
    const asked = retryAfter === undefined ? 0 : Math.min(MAX_RETRY_AFTER, retryAfter * 1000);
    return Math.max(own, asked);
  }
}
