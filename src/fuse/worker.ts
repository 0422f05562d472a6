// A worker thread: takes jobs that may wait or are unbounded, and answers their requests itself.
// Started by jobs.ts; ends when the jobs pipe is closed. Shares the arena and nothing else with the server.
// The server's thread never returns to its event loop, so nothing here may need it: no postMessage, no console.

import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { copyFile, copyRange } from '../linux/copy.js';
import { E } from '../linux/errno.js';
import { fallocate, fdatasync, fsync, syncfs, write } from '../linux/files.js';
import { i32, mapMemory, u8, u32 } from '../linux/memory.js';
import { readWord, writeWord } from '../linux/poll.js';
import { JOB } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import {
  Job,
  JobState,
  jobAt,
  NOTIFY_JOB,
  payloadAt,
  Ring,
  type WorkerStart,
} from './job-record.js';
import { OP } from './opcodes.js';

const start = workerData as WorkerStart;
mapMemory(start.memoryFd, start.thread);
const f64 = new Float64Array(u8.buffer);

function log(line: string): void {
  try {
    writeSync(2, `varve: worker ${start.thread}: ${line}\n`);
  } catch {
    // Standard error is gone; there is nobody to tell.
  }
}

function perform(slot: number): number {
  const at = jobAt(slot);
  const k = (at + Job.args) >>> 3;
  const a = f64[k] as number;
  const b = f64[k + 1] as number;
  const c = f64[k + 2] as number;
  const d = f64[k + 3] as number;
  const e = f64[k + 4] as number;
  switch (u32[(at + Job.kind) >>> 2]) {
    case JOB.FSYNC:
      return b === 1 ? fdatasync(a) : fsync(a);
    case JOB.SYNCFS:
      return syncfs(a);
    case JOB.FALLOCATE:
      return fallocate(a, b, c, d);
    case JOB.COPY_RANGE:
      return copyRange(a, b, c, d, e);
    case JOB.COPY_FILE:
      return copyFile(a, b, c, d === 1);
    case NOTIFY_JOB: {
      const r = write(start.fuseFd, payloadAt(slot), a);
      // ENOENT: the kernel knows no such node or name, so there is nothing to drop.
      return r < 0 && r !== -E.NOENT ? r : 0;
    }
    default:
      return -E.INVAL;
  }
}

function answer(slot: number, result: number): void {
  const at = jobAt(slot);
  const opcode = u32[(at + Job.opcode) >>> 2] as number;
  const reply = replyBuffer(start.thread);
  const k = reply >>> 2;
  const failed = result < 0;
  let length = 16;
  if (!failed && (opcode === OP.COPY_FILE_RANGE || opcode === OP.COPY_FILE_RANGE_64)) {
    u32[k + 4] = result >>> 0;
    u32[k + 5] = opcode === OP.COPY_FILE_RANGE ? 0 : Math.floor(result / 0x1_0000_0000);
    length = 24;
  }
  u32[k] = length;
  i32[k + 1] = failed ? result : 0;
  u32[k + 2] = u32[(at + Job.uniqueLo) >>> 2] as number;
  u32[k + 3] = u32[(at + Job.uniqueHi) >>> 2] as number;
  const r = write(start.fuseFd, reply, length);
  if (r < 0 && r !== -E.NOENT && r !== -E.NODEV) log(`reply to opcode ${opcode}: errno ${-r}`);
}

for (;;) {
  const slot = readWord(start.jobsFd);
  if (slot === -E.INTR) continue;
  if (slot < 0) break;
  let result: number;
  try {
    result = perform(slot);
  } catch (error) {
    log(error instanceof Error ? (error.stack ?? error.message) : String(error));
    result = -E.IO;
  }
  const at = jobAt(slot);
  if (u32[(at + Job.opcode) >>> 2] !== 0) {
    answer(slot, result);
    Atomics.store(i32, (at + Job.state) >>> 2, JobState.FREE);
    Atomics.add(i32, Ring.finished, 1);
  } else {
    f64[(at + Job.result) >>> 3] = result;
    Atomics.add(i32, Ring.finished, 1);
    Atomics.add(i32, Ring.done, 1);
    writeWord(start.doneFd, slot);
  }
}
