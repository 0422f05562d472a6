// Work for other threads: the server's half. Hands jobs to up to four workers, started when first needed.
// Called by filesystems through Host.jobs; server.ts polls `doneFd` and calls collect().
// A Worker started from a thread that never returns to its event loop does start: its files are read by itself.

import { Worker } from 'node:worker_threads';
import { errnoName, SysError } from '../linux/errno.js';
import { close, setNonblocking } from '../linux/files.js';
import { i32, memoryFd, u8, u32 } from '../linux/memory.js';
import { pipe, pollIn, readWord, writeWord } from '../linux/poll.js';
import { exitNow } from '../linux/process.js';
import { Counter, set } from '../vfs/counters.js';
import { type JobRunner, PARKED, type Perform, type Request } from '../vfs/filesystem.js';
import {
  FIRST_SLOT,
  Job,
  JobState,
  jobAt,
  MAX_WORKERS,
  NOTIFY_JOB,
  PAYLOAD_SIZE,
  payloadAt,
  Ring,
  SLOT_COUNT,
  type WorkerStart,
} from './job-record.js';
import { perform as performUsual } from './job-work.js';

type Done = (result: number) => void;

/** Milliseconds after which a worker that has not come up is given up. */
const PATIENCE = 3000;

export interface JobsOptions {
  /** Receives a line for what nobody else hears of. */
  readonly log: (line: string) => void;
  /** The worker's script; another one for tests, and for filesystems with jobs of their own. */
  readonly script?: URL;
  /** What that script does, for when there is no worker. */
  readonly perform?: Perform;
  /** Milliseconds; PATIENCE. */
  readonly patience?: number;
}

/** The job queue of one server. */
export class Jobs implements JobRunner {
  /** Read end of the pipe that says which jobs are done; -1 before the first job. Non-blocking. */
  doneFd = -1;
  readonly #request: Request;
  readonly #fuseFd: number;
  readonly #options: JobsOptions;
  readonly #patience: number;
  readonly #perform: Perform;
  readonly #f64 = new Float64Array(u8.buffer);
  readonly #waiting = new Map<number, Done>();
  #jobsFd = -1;
  #jobsReadFd = -1;
  #doneWriteFd = -1;
  #workers = 0;
  /** When the first worker was started; 0: none was. */
  #since = 0;
  /** No worker can be had: jobs are done here. */
  #alone = false;
  #posted = 0;
  #next = FIRST_SLOT;
  #seen = 0;
  readonly #onExit = (code: number): void => {
    this.stop();
    if (!this.#ended) exitNow(code);
  };

  /** @param request the record that always holds the current request. */
  constructor(request: Request, fuseFd: number, options: JobsOptions) {
    this.#request = request;
    this.#fuseFd = fuseFd;
    this.#options = options;
    this.#patience = options.patience ?? PATIENCE;
    this.#perform = options.perform ?? performUsual;
  }

  parkReply(kind: number, a: number, b: number, c: number, d: number, e: number): number {
    const slot = this.#take();
    if (slot < 0) return this.#perform(kind, a, b, c, d, e);
    this.#post(slot, kind, this.#request.opcode, a, b, c, d, e);
    return PARKED;
  }

  run(kind: number, a: number, b: number, c: number, d: number, e: number, done: Done): void {
    const slot = this.#take();
    if (slot < 0) {
      done(this.#perform(kind, a, b, c, d, e));
      return;
    }
    this.#waiting.set(slot, done);
    this.#post(slot, kind, 0, a, b, c, d, e);
  }

  /**
   * Has a worker write a notification of `length` bytes that `fill` puts at the arena offset it is given. It is dropped
   * where there are no workers: the kernel then keeps what it has for the timeout.
   */
  notify(length: number, fill: (at: number) => void): void {
    if (length > PAYLOAD_SIZE) throw new RangeError(`notification of ${length} bytes`);
    const slot = this.#take();
    if (slot < 0) return;
    fill(payloadAt(slot));
    this.#waiting.set(slot, (result) => {
      if (result < 0) this.#options.log(`notification: ${errnoName(result)}`);
    });
    this.#post(slot, NOTIFY_JOB, 0, length, 0, 0, 0, 0);
  }

  /** Whether a finished job waits for collect(); one load, asked after each request. */
  get ready(): boolean {
    return Atomics.load(i32, Ring.done) !== this.#seen;
  }

  /** Calls `done` of the jobs that have finished. */
  collect(): void {
    for (;;) {
      const slot = readWord(this.doneFd);
      if (slot < 0) return;
      this.#seen = (this.#seen + 1) | 0;
      const at = jobAt(slot);
      const result = this.#f64[(at + Job.result) >>> 3] as number;
      this.#over(slot, result);
    }
  }

  #over(slot: number, result: number): void {
    const done = this.#waiting.get(slot);
    this.#waiting.delete(slot);
    Atomics.store(i32, (jobAt(slot) + Job.state) >>> 2, JobState.FREE);
    try {
      done?.(result);
    } catch (error) {
      this.#options.log(`after a job: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }

  /** Jobs that are queued or being done. */
  get pending(): number {
    return (this.#posted - Atomics.load(i32, Ring.finished)) | 0;
  }

  /** Milliseconds after which rescue() should be called, -1: not at all. */
  get concern(): number {
    return this.#since !== 0 && this.pending > 0 && Atomics.load(i32, Ring.alive) === 0 ? 200 : -1;
  }

  /**
   * Does the queued jobs here when no worker has come up in time: its script is gone or changed (the package was
   * replaced under a running server), or there is no memory for a thread. Their requests would wait for ever.
   */
  rescue(reply: (slot: number, result: number) => void): void {
    if (this.concern < 0) return;
    if (performance.now() - this.#since < this.#patience) return;
    if (!this.#alone) this.#options.log('no worker thread came up: what may wait is done in line');
    this.#alone = true;
    while (pollIn([this.#jobsReadFd], 0) > 0) {
      const slot = readWord(this.#jobsReadFd);
      if (slot < 0) return;
      const at = jobAt(slot);
      const k = (at + Job.args) >>> 3;
      const f64 = this.#f64;
      const kind = u32[(at + Job.kind) >>> 2] as number;
      const result =
        kind === NOTIFY_JOB
          ? 0
          : this.#perform(
              kind,
              f64[k] as number,
              f64[k + 1] as number,
              f64[k + 2] as number,
              f64[k + 3] as number,
              f64[k + 4] as number,
            );
      Atomics.add(i32, Ring.finished, 1);
      if (u32[(at + Job.opcode) >>> 2] !== 0) reply(slot, result);
      this.#over(slot, result);
    }
  }

  /** Waits until no job is queued or being done, and calls what waits for them: then descriptors may be closed. */
  finish(): void {
    while (this.pending > 0 || this.#waiting.size > 0) {
      pollIn([this.doneFd], 5);
      this.collect();
      this.rescue(() => {});
    }
    this.publish();
  }

  /** Brings the counter of parked requests up to date. */
  publish(): void {
    if (this.#jobsFd >= 0) set(Counter.parked, this.pending);
  }

  /**
   * Lets the workers finish what they have, and waits for their end. process.exit() would wait for ever for a thread
   * that blocks in read(2): closing the pipe ends that read. And it would abort the process (FATAL ERROR in napi_throw)
   * by stopping a thread that is just loading its modules: one that does not end in time is left, and the process's
   * `exit` event then ends the process without it. That event calls this too.
   */
  stop(): void {
    if (this.#jobsFd < 0) return;
    close(this.#jobsFd);
    this.#jobsFd = -1;
    this.#alone = true;
    const until = performance.now() + this.#patience;
    while (!this.#ended && performance.now() < until) pollIn([], 1);
    if (!this.#ended) return;
    process.off('exit', this.#onExit);
    for (const fd of [this.#jobsReadFd, this.doneFd, this.#doneWriteFd]) close(fd);
    this.doneFd = -1;
  }

  get #ended(): boolean {
    return Atomics.load(i32, Ring.ended) >= this.#workers;
  }

  /** A free slot, or -1 when all are taken or there are no workers. */
  #take(): number {
    if (this.#alone) return -1;
    if (this.#jobsFd < 0) this.#open();
    if (this.#workers === 0) this.#startWorker();
    if (this.#alone) return -1;
    for (let tries = FIRST_SLOT; tries < SLOT_COUNT; tries++) {
      const slot = this.#next;
      this.#next = slot + 1 < SLOT_COUNT ? slot + 1 : FIRST_SLOT;
      const state = (jobAt(slot) + Job.state) >>> 2;
      if (Atomics.load(i32, state) === JobState.FREE) {
        Atomics.store(i32, state, JobState.QUEUED);
        return slot;
      }
    }
    return -1;
  }

  #post(
    slot: number,
    kind: number,
    opcode: number,
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
  ): void {
    const at = jobAt(slot);
    const k = at >>> 2;
    u32[k + Job.kind / 4] = kind;
    u32[k + Job.uniqueLo / 4] = this.#request.uniqueLo;
    u32[k + Job.uniqueHi / 4] = this.#request.uniqueHi;
    u32[k + Job.opcode / 4] = opcode;
    const args = (at + Job.args) >>> 3;
    const f64 = this.#f64;
    f64[args] = a;
    f64[args + 1] = b;
    f64[args + 2] = c;
    f64[args + 3] = d;
    f64[args + 4] = e;
    this.#posted = (this.#posted + 1) | 0;
    this.publish();
    if (this.pending > this.#workers && this.#workers < MAX_WORKERS) this.#startWorker();
    writeWord(this.#jobsFd, slot);
  }

  #open(): void {
    const jobs = pipe();
    const done = pipe();
    if (typeof jobs === 'number') throw new SysError('pipe', jobs);
    if (typeof done === 'number') throw new SysError('pipe', done);
    [this.#jobsReadFd, this.#jobsFd] = jobs;
    [this.doneFd, this.#doneWriteFd] = done;
    setNonblocking(this.doneFd, true);
    // A successor takes the arena over, but not the threads: nothing is queued for them.
    for (let slot = FIRST_SLOT; slot < SLOT_COUNT; slot++) {
      Atomics.store(i32, (jobAt(slot) + Job.state) >>> 2, JobState.FREE);
    }
    Atomics.store(i32, Ring.alive, 0);
    Atomics.store(i32, Ring.ended, 0);
    this.#posted = Atomics.load(i32, Ring.finished);
    this.#seen = Atomics.load(i32, Ring.done);
    process.on('exit', this.#onExit);
  }

  #startWorker(): void {
    const data: WorkerStart = {
      memoryFd,
      thread: this.#workers + 1,
      fuseFd: this.#fuseFd,
      jobsFd: this.#jobsReadFd,
      doneFd: this.#doneWriteFd,
    };
    try {
      const worker = new Worker(this.#options.script ?? new URL('./worker.js', import.meta.url), {
        workerData: data,
        execArgv: [],
        env: {},
        resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
      });
      worker.unref();
      // Heard only by a program that goes on after serve(); meanwhile rescue() notices.
      worker.on('error', () => {});
      if (this.#workers++ === 0) this.#since = performance.now();
    } catch (error) {
      this.#options.log(`no worker thread: ${error instanceof Error ? error.message : error}`);
      if (this.#workers === 0) this.#alone = true;
    }
  }
}
