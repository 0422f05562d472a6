// The compression threads of a build, and the slots that they work on.
// Driven by write-data.ts: fill a slot, post it, wait for it. Without workers a slot is done when it is posted.
// Follows: node:worker_threads. Slots are given out and awaited in order, so results do not depend on timing.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import {
  allocateSlot,
  releaseSlot,
  Slot,
  type SlotShape,
  shapeOf,
  type WorkerSettings,
} from './compress-job.js';
import { PieceCompressor } from './compress-piece.js';
import { Queue } from './compress-queue.js';
import type { Coder } from './write-options.js';

/** Slots beyond one for each worker: the main thread fills and writes these meanwhile. */
const SPARE_SLOTS = 3;
/** Bytes of all slots together, about: what bounds the memory of builds on many cores. */
const MAX_MEMORY = 160 * 1024 * 1024;
/** Bytes of input in a slot, at least; a file is cut at multiples of it. Larger pclusters get larger ones. */
const MIN_SEGMENT = 2 * 1024 * 1024;
const PCLUSTERS_A_SEGMENT = 8;

export interface PoolOptions {
  readonly coders: readonly Coder[];
  readonly maxPcluster: number;
  /** Threads; undefined: one for each core. 0: none. */
  readonly workers: number | undefined;
  readonly sums: boolean;
}

export class CompressPool {
  /** Bytes of input that a slot takes. */
  readonly segment: number;
  readonly #shape: SlotShape;
  readonly #addresses: number[] = [];
  readonly #queue: Queue;
  /** Resolve when their threads have ended. */
  readonly #workers: Promise<void>[] = [];
  readonly #inline: PieceCompressor | undefined;
  /** Not posted, ready to be filled. */
  readonly #free: Slot[] = [];
  /** Called when a worker has said something. */
  #wake: (() => void) | undefined;
  #failure: Error | undefined;
  #closing = false;

  constructor(options: PoolOptions) {
    this.segment = Math.max(MIN_SEGMENT, options.maxPcluster * PCLUSTERS_A_SEGMENT);
    this.#shape = shapeOf(this.segment);
    const most = Math.max(1, Math.floor(MAX_MEMORY / (this.segment * 2)) - SPARE_SLOTS);
    const workers = Math.min(options.workers ?? availableParallelism(), most);
    const count = workers === 0 ? 1 : workers + SPARE_SLOTS;
    for (let i = 0; i < count; i++) {
      const address = allocateSlot(this.#shape);
      this.#addresses.push(address);
      this.#free.push(new Slot(i, address, this.#shape));
    }
    const memory = Queue.memory(count);
    this.#queue = new Queue(memory);
    const settings: WorkerSettings = {
      coders: options.coders,
      maxPcluster: options.maxPcluster,
      slot: this.#shape,
      slots: this.#addresses,
      sums: options.sums,
    };
    this.#inline = workers === 0 ? new PieceCompressor(settings) : undefined;
    for (let i = 0; i < workers; i++) this.#start({ settings, queue: memory });
  }

  #start(workerData: { settings: WorkerSettings; queue: SharedArrayBuffer }): void {
    const worker = new Worker(new URL('./compress-worker.js', import.meta.url), { workerData });
    const fail = (error: Error): void => {
      this.#failure ??= error;
      this.#wake?.();
    };
    worker.on('message', () => this.#wake?.());
    worker.on('error', fail);
    const ended = new Promise<void>((resolve) => {
      worker.on('exit', () => {
        if (!this.#closing) fail(new Error('a compression thread ended'));
        resolve();
      });
    });
    this.#workers.push(ended);
  }

  /** A slot to fill, or undefined when all are posted. */
  take(): Slot | undefined {
    return this.#free.shift();
  }

  post(slot: Slot): void {
    if (this.#inline !== undefined) {
      this.#inline.run(slot);
      this.#queue.finish(slot.number);
    } else {
      this.#queue.post(slot.number);
    }
  }

  /** Waits until a posted slot has its results. @throws what a worker failed with. */
  async done(slot: Slot): Promise<void> {
    while (!this.#queue.isDone(slot.number)) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The slot may be filled again. */
  give(slot: Slot): void {
    slot.count = 0;
    this.#free.push(slot);
  }

  /** Ends the workers and gives back the memory. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#queue.close();
    // Each ends by itself: one that is stopped while it loads its modules takes the process with it (napi_throw).
    await Promise.all(this.#workers);
    for (const address of this.#addresses) releaseSlot(address, this.#shape);
    this.#addresses.length = 0;
  }
}
