// What a worker thread does: takes jobs that may wait or are unbounded, and answers their requests itself.
// Called by worker.ts and by programs like it; ends when the jobs pipe is closed. Shares the arena and nothing else with the server.
// The server's thread never returns to its event loop, so nothing here may need it: no postMessage, no console.

import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { E } from '../linux/errno.js';
import { write } from '../linux/files.js';
import { i32, mapMemory, u8, u32 } from '../linux/memory.js';
import { readWord, writeWord } from '../linux/poll.js';
import type { Perform } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import {
  formReply,
  Job,
  JobState,
  jobAt,
  NOTIFY_JOB,
  payloadAt,
  Ring,
  type WorkerStart,
} from './job-record.js';

/** Does jobs by `perform` until the server stops. To be called once, by a thread that jobs.ts has started. */
export function workUntilStopped(perform: Perform): void {
  const start = workerData as WorkerStart;
  mapMemory(start.memoryFd, start.thread);
  const f64 = new Float64Array(u8.buffer);
  Atomics.add(i32, Ring.alive, 1);

  for (;;) {
    const slot = readWord(start.jobsFd);
    if (slot === -E.INTR) continue;
    if (slot < 0) break;
    let result: number;
    try {
      result = work(start, f64, slot, perform);
    } catch (error) {
      log(start, error instanceof Error ? (error.stack ?? error.message) : String(error));
      result = -E.IO;
    }
    const at = jobAt(slot);
    if (u32[(at + Job.opcode) >>> 2] !== 0) {
      answer(start, slot, result);
      Atomics.store(i32, (at + Job.state) >>> 2, JobState.FREE);
      Atomics.add(i32, Ring.finished, 1);
    } else {
      f64[(at + Job.result) >>> 3] = result;
      Atomics.add(i32, Ring.finished, 1);
      Atomics.add(i32, Ring.done, 1);
      writeWord(start.doneFd, slot);
    }
  }
  Atomics.add(i32, Ring.ended, 1);
}

function log(start: WorkerStart, line: string): void {
  try {
    writeSync(2, `varve: worker ${start.thread}: ${line}\n`);
  } catch {
    // Standard error is gone; there is nobody to tell.
  }
}

function work(start: WorkerStart, f64: Float64Array, slot: number, perform: Perform): number {
  const at = jobAt(slot);
  const kind = u32[(at + Job.kind) >>> 2] as number;
  const k = (at + Job.args) >>> 3;
  const a = f64[k] as number;
  if (kind === NOTIFY_JOB) {
    const r = write(start.fuseFd, payloadAt(slot), a);
    // ENOENT: the kernel knows no such node or name, so there is nothing to drop.
    return r < 0 && r !== -E.NOENT ? r : 0;
  }
  return perform(
    kind,
    a,
    f64[k + 1] as number,
    f64[k + 2] as number,
    f64[k + 3] as number,
    f64[k + 4] as number,
  );
}

function answer(start: WorkerStart, slot: number, result: number): void {
  const reply = replyBuffer(start.thread);
  const r = write(start.fuseFd, reply, formReply(slot, result, reply));
  if (r < 0 && r !== -E.NOENT && r !== -E.NODEV) log(start, `reply: errno ${-r}`);
}
