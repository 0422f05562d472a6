// The queue of slots between the main thread and the compression workers, in shared memory.
// Filled by compress-pool.ts, emptied by compress-worker.ts; workers take what is next without the main thread's help.
// One producer; each slot is in the queue at most once, so a ring with one place for each slot never overflows.

/** Words of the shared memory. */
const POSTED = 0; // slots posted so far; workers wait on it
const TAKEN = 1; // slots taken so far
const CLOSED = 2; // 1: no more slots will come
const SLOTS = 3; // size of the ring, set once
const FINISHED = 4; // slots finished so far; the main thread may wait on it
const RING = 5; // slot numbers; behind it one word for each slot, 1: done

export class Queue {
  readonly #words: Int32Array;
  readonly #slots: number;

  /** Memory of a queue for so many slots. */
  static memory(slots: number): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer((RING + slots * 2) * 4);
    new Int32Array(buffer)[SLOTS] = slots;
    return buffer;
  }

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#slots = this.#words[SLOTS] as number;
  }

  /** By the main thread: the slot is ready to be worked on. */
  post(slot: number): void {
    const words = this.#words;
    const posted = Atomics.load(words, POSTED);
    Atomics.store(words, RING + this.#slots + slot, 0);
    Atomics.store(words, RING + (posted % this.#slots), slot);
    Atomics.store(words, POSTED, posted + 1);
    Atomics.notify(words, POSTED, 1);
  }

  /** By the main thread: workers end when the queue is empty. */
  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
    // The wait is on POSTED: a change of it is what wakes those that are about to sleep.
    Atomics.add(this.#words, POSTED, 1);
    Atomics.notify(this.#words, POSTED);
  }

  /** By a worker: the next slot, waiting for it; -1 when the queue is closed. */
  take(): number {
    const words = this.#words;
    for (;;) {
      const posted = Atomics.load(words, POSTED);
      if (Atomics.load(words, CLOSED) === 1) return -1;
      const taken = Atomics.load(words, TAKEN);
      if (taken >= posted) {
        Atomics.wait(words, POSTED, posted);
        continue;
      }
      const slot = Atomics.load(words, RING + (taken % this.#slots));
      if (Atomics.compareExchange(words, TAKEN, taken, taken + 1) === taken) return slot;
    }
  }

  /** By the main thread: the next slot that no worker has taken yet, -1 when there is none. */
  tryTake(): number {
    const words = this.#words;
    for (;;) {
      const taken = Atomics.load(words, TAKEN);
      if (taken >= Atomics.load(words, POSTED)) return -1;
      const slot = Atomics.load(words, RING + (taken % this.#slots));
      if (Atomics.compareExchange(words, TAKEN, taken, taken + 1) === taken) return slot;
    }
  }

  /** By whoever took it: the slot has its results. */
  finish(slot: number): void {
    Atomics.store(this.#words, RING + this.#slots + slot, 1);
    Atomics.add(this.#words, FINISHED, 1);
    Atomics.notify(this.#words, FINISHED, 1);
  }

  /** How many slots were finished so far; awaitMore() waits for more than that, at most so long. */
  get finished(): number {
    return Atomics.load(this.#words, FINISHED);
  }

  /** By the main thread, which sleeps meanwhile. */
  awaitMore(finished: number, milliseconds: number): void {
    Atomics.wait(this.#words, FINISHED, finished, milliseconds);
  }

  isDone(slot: number): boolean {
    return Atomics.load(this.#words, RING + this.#slots + slot) === 1;
  }
}
