// Work for other threads: the server's half. Hands jobs to up to four workers, started when first needed.
// Called by filesystems through Host.jobs; server.ts polls `doneFd` and calls collect().
// A Worker started from a thread that never returns to its event loop does start: its files are read by itself.

import { Worker } from 'node:worker_threads';
import { E, SysError } from '../linux/errno.js';
import { close, setNonblocking } from '../linux/files.js';
import { i32, memoryFd, u8, u32 } from '../linux/memory.js';
import { pipe, readWord, writeWord } from '../linux/poll.js';
import { Counter, set } from '../vfs/counters.js';
import { type JobRunner, PARKED, type Request } from '../vfs/filesystem.js';
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

type Done = (result: number) => void;

/** The job queue of one server. */
export class Jobs implements JobRunner {
  /** Read end of the pipe that says which jobs are done; -1 before the first job. Non-blocking. */
  doneFd = -1;
  readonly #request: Request;
  readonly #fuseFd: number;
  readonly #f64 = new Float64Array(u8.buffer);
  readonly #waiting = new Map<number, Done>();
  #jobsFd = -1;
  #jobsReadFd = -1;
  #doneWriteFd = -1;
  #workers = 0;
  #posted = 0;
  #next = FIRST_SLOT;
  #seen = 0;
  readonly #onExit = (): void => this.stop();

  /** @param request the record that always holds the current request. */
  constructor(request: Request, fuseFd: number) {
    this.#request = request;
    this.#fuseFd = fuseFd;
  }

  parkReply(kind: number, a: number, b: number, c: number, d: number, e: number): number {
    const slot = this.#take();
    if (slot < 0) return -E.AGAIN;
    const r = this.#request;
    this.#post(slot, kind, r.opcode, a, b, c, d, e);
    return PARKED;
  }

  run(
    kind: number,
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    done: (result: number) => void,
  ): void {
    const slot = this.#take();
    if (slot < 0) {
      done(-E.AGAIN);
      return;
    }
    this.#waiting.set(slot, done);
    this.#post(slot, kind, 0, a, b, c, d, e);
  }

  /** Has a worker write a notification of `length` bytes that `fill` puts at the arena offset it is given. */
  notify(length: number, fill: (at: number) => void): void {
    if (length > PAYLOAD_SIZE) throw new RangeError(`notification of ${length} bytes`);
    const slot = this.#take();
    if (slot < 0) return;
    fill(payloadAt(slot));
    this.#waiting.set(slot, () => {});
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
      const done = this.#waiting.get(slot);
      this.#waiting.delete(slot);
      Atomics.store(i32, (at + Job.state) >>> 2, JobState.FREE);
      done?.(result);
    }
  }

  /** Jobs that are queued or being done. */
  get pending(): number {
    return (this.#posted - Atomics.load(i32, Ring.finished)) | 0;
  }

  /**
   * Lets the workers finish what they have and end. process.exit() waits for threads, and one that blocks in read(2)
   * would never end: closing the pipe ends that read. Also runs on the process's `exit` event.
   */
  stop(): void {
    if (this.#jobsFd < 0) return;
    process.off('exit', this.#onExit);
    close(this.#jobsFd);
    this.#jobsFd = -1;
  }

  #take(): number {
    if (this.#jobsFd < 0) this.#open();
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
    const pending = this.pending;
    set(Counter.parked, pending);
    if (pending > this.#workers && this.#workers < MAX_WORKERS) this.#startWorker();
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
    this.#posted = Atomics.load(i32, Ring.finished);
    this.#seen = Atomics.load(i32, Ring.done);
    process.on('exit', this.#onExit);
  }

  #startWorker(): void {
    const thread = this.#workers + 1;
    const data: WorkerStart = {
      memoryFd,
      thread,
      fuseFd: this.#fuseFd,
      jobsFd: this.#jobsReadFd,
      doneFd: this.#doneWriteFd,
    };
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: data,
      execArgv: [],
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
    });
    worker.unref();
    this.#workers++;
  }
}
