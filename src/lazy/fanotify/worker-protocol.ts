// What kernel-way.ts and the thread that reads events say to each other.
// Structured clones over the worker's port; the thread is woken by a byte in a pipe.
// Descriptors are of the process, so both have them by number.

/** To the thread. */
export type ToReader =
  | {
      readonly op: 'add';
      readonly id: string;
      readonly group: number;
      readonly events: number;
      readonly table: string;
      readonly map: string;
      /** Numbers of events that a predecessor had in hand and that nobody keeps: another event of such a number is not the thread's to answer. */
      readonly twins: readonly number[];
    }
  /** Answered by `removed`: the thread uses nothing of the layer any more. */
  | { readonly op: 'remove'; readonly id: string }
  /** Slots have become free in a record that was full, or nothing but a reason to look. */
  | { readonly op: 'look' }
  /** The thread ends. */
  | { readonly op: 'end' };

/** From the thread. */
export type FromReader =
  /** Events that wait for something: slots of the layer's record. */
  | { readonly op: 'events'; readonly id: string; readonly slots: readonly number[] }
  | { readonly op: 'removed'; readonly id: string };

/** What the thread is started with. */
export interface ReaderData {
  /** Reading end of the pipe that wakes it. */
  readonly wake: number;
}
