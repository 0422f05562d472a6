// Threads that work on objects: the main thread hands out work, and does some itself while it waits.
// Used by ingest.ts (make, name) and check.ts (verify); which thread does what never shows in the result.
// Follows: node:worker_threads. With one thread there is no worker; few objects start none.

import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Queue } from '../erofs/compress-queue.js';
import { SHA_SIZE } from '../linux/sha.js';
import { DigestSet } from './digest-set.js';
import { ObjectJob, type ObjectWorkerData, RECORD_SIZE, writerOf } from './object-job.js';
import { MAX_THREADS, type ObjectWriter } from './object-writer.js';
import type { VerityAlgorithm } from './verity.js';

/** Records for each thread: enough that no thread waits while the main thread works on an object itself. */
const RECORDS_A_THREAD = 32;
/** Objects for which starting a thread (70 ms) is worth it. */
const LEAST_FOR_WORKERS = 400;
/** Records that are done when all are looked through, which costs microseconds. */
const HARVEST = 16;
/** Milliseconds between two looks at the event loop, where the end of a worker is told. */
const TURN_EVERY = 100;

export interface PoolOptions {
  /** The main thread is one of them. */
  readonly threads: number;
  /** Objects to come, about. */
  readonly count: number;
  /** Descriptor of the folder of objects; the caller's. */
  readonly dir: number;
  readonly algorithm: VerityAlgorithm;
  /** Objects are made, not only verified. */
  readonly makes: boolean;
  readonly verity: boolean;
  readonly named?: boolean;
}

/** Which of the 256 folders are there: objects in others need not be looked for. */
function foldersOf(dir: number): Uint8Array {
  const folders = new Uint8Array(256);
  for (const name of readdirSync(`/proc/self/fd/${dir}`)) {
    if (/^[0-9a-f]{2}$/.test(name)) folders[Number.parseInt(name, 16)] = 1;
  }
  return folders;
}

/** Fills in the next record. @returns false when there is nothing to do; undefined: this was done in some other way. */
type Next<T> = (job: ObjectJob) => T | false | undefined;

export class ObjectPool {
  /** The writer of the main thread. */
  readonly writer: ObjectWriter;
  readonly #queue: Queue;
  readonly #jobs: ObjectJob[];
  readonly #workers: Promise<void>[] = [];
  #failure: Error | undefined;
  #closing = false;
  #turned = 0;

  constructor(options: PoolOptions) {
    const threads = Math.max(1, Math.min(options.threads, MAX_THREADS));
    const slots = threads * RECORDS_A_THREAD;
    const seen = DigestSet.memory(options.makes ? options.count : 0, SHA_SIZE[options.algorithm]);
    const { algorithm, verity, named } = options;
    const data: ObjectWorkerData = {
      queue: Queue.memory(slots),
      records: new SharedArrayBuffer(slots * RECORD_SIZE),
      seen,
      slots,
      dir: options.dir,
      options: {
        algorithm,
        verity,
        named,
        folders: options.dir < 0 ? undefined : foldersOf(options.dir),
        thread: 0,
        token: randomBytes(6).toString('hex'),
      },
    };
    this.#queue = new Queue(data.queue);
    this.#jobs = Array.from({ length: slots }, (_, i) => new ObjectJob(data.records, i));
    this.writer = writerOf(data, new DigestSet(seen));
    const workers = options.count < LEAST_FOR_WORKERS ? 0 : threads - 1;
    for (let thread = 1; thread <= workers; thread++) {
      this.#start({ ...data, options: { ...data.options, thread } });
    }
  }

  #start(workerData: ObjectWorkerData): void {
    const worker = new Worker(new URL('./object-worker.js', import.meta.url), { workerData });
    const fail = (error: Error): void => {
      this.#failure ??= error;
    };
    worker.on('error', fail);
    const ended = new Promise<void>((resolve) => {
      worker.on('exit', () => {
        if (!this.#closing) fail(new Error('an object thread ended'));
        resolve();
      });
    });
    this.#workers.push(ended);
  }

  /**
   * Works until `next` has nothing more and all is done. After an error of `next` or `done` nothing more is begun, what is
   * under way is still told to `done`, and the first error is thrown.
   * @param next fills in a record and gives what is to be remembered about it.
   * @param done told each record with its result, in any order.
   */
  async run<T>(next: Next<T>, done: (job: ObjectJob, about: T) => void): Promise<void> {
    const queue = this.#queue;
    const free = this.#jobs.map((_, i) => i);
    const about = new Map<number, T>();
    let more = true;
    let harvested = queue.finished;
    let failed = false;
    let error: unknown;
    const guarded = (step: () => void): void => {
      try {
        step();
      } catch (cause) {
        if (!failed) error = cause;
        failed = true;
        more = false;
      }
    };
    while (more || about.size > 0) {
      while (more && free.length > 0) {
        guarded(() => {
          const slot = free[free.length - 1] as number;
          const given = next(this.#jobs[slot] as ObjectJob);
          if (given === false) more = false;
          else if (given !== undefined) {
            free.pop();
            about.set(slot, given);
            queue.post(slot);
          }
        });
      }
      const own = queue.tryTake();
      if (own >= 0) {
        (this.#jobs[own] as ObjectJob).run(this.writer);
        queue.finish(own);
        if (queue.finished - harvested < HARVEST) continue;
      } else if (about.size > 0 && queue.finished === harvested) {
        queue.awaitMore(harvested, TURN_EVERY);
      }
      harvested = queue.finished;
      for (const [slot, remembered] of about) {
        if (!queue.isDone(slot)) continue;
        about.delete(slot);
        free.push(slot);
        guarded(() => done(this.#jobs[slot] as ObjectJob, remembered));
      }
      await this.#turn();
    }
    if (failed) throw error;
  }

  /** Lets the event loop run now and then: timers, and the end of a worker. */
  async #turn(): Promise<void> {
    const now = performance.now();
    if (now - this.#turned < TURN_EVERY) return;
    this.#turned = now;
    await nextTurn();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#queue.close();
    await Promise.all(this.#workers);
  }
}
