// A job as it lies in the arena, between the server's thread that fills it and the worker that does it.
// Used by jobs.ts and worker.ts. A slot belongs to the server while FREE or DONE, to a worker while QUEUED.
// State and counters change by Atomics; everything else is published by the pipe that carries the slot's number.

import { i32, u32 } from '../linux/memory.js';
import { JOB_COUNT, JOB_SIZE, JOBS, requestBuffer } from '../vfs/layout.js';
import { FuseCopyFileRangeOut, FuseOutHeader } from './abi.js';
import { OP } from './opcodes.js';

/** Byte offsets in a record. */
export const Job = {
  state: 0, // i32, see JobState
  kind: 4, // u32, a JOB of vfs/filesystem.ts or NOTIFY_JOB
  uniqueLo: 8, // the request that the worker answers
  uniqueHi: 12,
  opcode: 16, // u32, of that request; 0: nobody is answered, the server is told
  reserved: 20,
  result: 24, // f64, >= 0 or -errno, when the server is told
  args: 32, // f64 each: a, b, c, d, e
} as const;

export const JobState = { FREE: 0, QUEUED: 1 } as const;

/** A notification to be written by a worker: a is its length, the message lies in the slot's payload. */
export const NOTIFY_JOB = 100;

/** Slot 0 holds counters instead of a job. */
export const FIRST_SLOT = 1;
export const SLOT_COUNT = JOB_COUNT;

/** i32 indices of the counters in slot 0. */
export const Ring = {
  /** Jobs whose result waits for the server. */
  done: JOBS >>> 2,
  /** Jobs that are over, told or answered. */
  finished: (JOBS + 4) >>> 2,
  /** Workers that have come up. */
  alive: (JOBS + 8) >>> 2,
  /** Workers that have come to their end. */
  ended: (JOBS + 12) >>> 2,
} as const;

export const jobAt = (slot: number): number => JOBS + slot * JOB_SIZE;

/** Bytes of a slot's payload: a notification with a name of 255 bytes fits. */
export const PAYLOAD_SIZE = 1024;

/** The last thread's request buffer serves as payloads; threads are the server (0) and up to MAX_WORKERS. */
const PAYLOADS = requestBuffer(7);
export const payloadAt = (slot: number): number => PAYLOADS + slot * PAYLOAD_SIZE;

export const MAX_WORKERS = 4;

/** Puts the reply to the request of a job at the arena offset `at`. @returns its length in bytes. */
export function formReply(slot: number, result: number, at: number): number {
  const job = jobAt(slot);
  const opcode = u32[(job + Job.opcode) >>> 2] as number;
  const k = at >>> 2;
  const copied = result >= 0 && (opcode === OP.COPY_FILE_RANGE || opcode === OP.COPY_FILE_RANGE_64);
  if (copied) {
    u32[k + 4] = result >>> 0;
    u32[k + 5] = opcode === OP.COPY_FILE_RANGE ? 0 : Math.floor(result / 0x1_0000_0000);
  }
  const length = copied ? FuseOutHeader.size + FuseCopyFileRangeOut.size : FuseOutHeader.size;
  u32[k] = length;
  i32[k + 1] = Math.min(result, 0);
  u32[k + 2] = u32[(job + Job.uniqueLo) >>> 2] as number;
  u32[k + 3] = u32[(job + Job.uniqueHi) >>> 2] as number;
  return length;
}

/** What a worker thread is started with. */
export interface WorkerStart {
  readonly memoryFd: number;
  readonly thread: number;
  readonly fuseFd: number;
  /** Read end of the pipe that carries slot numbers to workers; its end is the order to finish. */
  readonly jobsFd: number;
  /** Write end of the pipe that carries slot numbers back. */
  readonly doneFd: number;
}
