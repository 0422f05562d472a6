// The timed programs: each does one kind of work in the current directory and prints its time as JSON.
// Started by runner.ts with a mount as working directory; loading Node is over before a clock starts.
// Follows: the system calls of src/linux with offsets only, so that a call costs about 0.1 us more than in C.

import { Worker } from 'node:worker_threads';
import { AT, DT, O } from '../src/linux/constants.js';
import {
  close,
  getdents,
  openAt,
  pread,
  pwrite,
  read,
  statAt,
  unlinkAt,
  write,
} from '../src/linux/files.js';
import { cstrlen, mapMemory, putBytes, SCRATCH_END, u8, u16 } from '../src/linux/memory.js';
import { dirName, filePath } from './layers.js';

/** What a client can be asked to do; `count` is in files, sizes are in bytes. */
export type Job =
  | { readonly do: 'stat'; readonly count: number; readonly warmups: number }
  | { readonly do: 'walk'; readonly stat: boolean; readonly warmups: number }
  /** Reads every file to its end. */
  | { readonly do: 'read-all' }
  | { readonly do: 'open-read-close'; readonly count: number }
  | { readonly do: 'read'; readonly file: string }
  | { readonly do: 'write'; readonly file: string; readonly bytes: number }
  | {
      readonly do: 'small-writes';
      readonly file: string;
      readonly bytes: number;
      readonly shuffled: boolean;
    }
  | { readonly do: 'create'; readonly count: number }
  | { readonly do: 'unlink'; readonly count: number }
  | { readonly do: 'open-for-write'; readonly file: string }
  | { readonly do: 'stat-while-copying'; readonly file: string; readonly other: string };

/** Bytes a read or write call of the sequential jobs moves: what cp and cat use. */
const CHUNK = 128 * 1024;
const SMALL_WRITE = 4096;

// Arena: one path, one data buffer, directory buffers by depth, and the prepared paths behind them.
const PATH_AT = SCRATCH_END;
const DATA_AT = SCRATCH_END + 64 * 1024;
const DIRENTS_AT = DATA_AT + 1024 * 1024;
const DIRENTS_SIZE = 64 * 1024;
/** Depth of the deepest tree that is walked. */
const LEVELS = 64;
const PATHS_AT = DIRENTS_AT + LEVELS * DIRENTS_SIZE;

function must(result: number, what: string): number {
  if (result < 0) throw new Error(`${what}: errno ${-result}`);
  return result;
}

/** Lays `count` NUL-terminated paths into the arena; returns their offsets. */
function layPaths(count: number, path: (n: number) => string): Int32Array {
  const offsets = new Int32Array(count);
  let at = PATHS_AT;
  for (let n = 0; n < count; n++) {
    offsets[n] = at;
    at += putBytes(at, path(n)) + 1;
  }
  return offsets;
}

/** Milliseconds that `work` takes. */
function clock(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

function statAll(paths: Int32Array): void {
  for (let n = 0; n < paths.length; n++) must(statAt(AT.FDCWD, paths[n]), 'stat');
}

function openReadClose(paths: Int32Array): void {
  for (let n = 0; n < paths.length; n++) {
    const fd = must(openAt(AT.FDCWD, paths[n], O.RDONLY), 'open');
    must(pread(fd, DATA_AT, SMALL_WRITE, 0), 'read');
    close(fd);
  }
}

/** Lists a directory tree as find(1) does: every directory is opened by name, files are told apart by d_type. */
function walk(dirfd: number, name: number, depth: number, what: 'list' | 'stat' | 'read'): void {
  const fd = must(openAt(dirfd, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW), 'open');
  const at = DIRENTS_AT + depth * DIRENTS_SIZE;
  const below: number[] = [];
  for (;;) {
    const n = must(getdents(fd, at, DIRENTS_SIZE), 'getdents64');
    if (n === 0) break;
    for (let entry = at; entry < at + n; entry += u16[(entry + 16) >>> 1]) {
      const entryName = entry + 19;
      if (isDots(entryName)) continue;
      if (what === 'stat') must(statAt(fd, entryName), 'stat');
      if (u8[entry + 18] === DT.DIR) below.push(keepName(entryName));
      else if (what === 'read' && u8[entry + 18] === DT.REG) readAt(fd, entryName);
    }
  }
  for (const child of below) walk(fd, child, depth + 1, what);
  close(fd);
}

function isDots(name: number): boolean {
  return u8[name] === 0x2e && (u8[name + 1] === 0 || (u8[name + 1] === 0x2e && u8[name + 2] === 0));
}

/** Reads a file to its end. */
function readAt(dirfd: number, name: number): void {
  const fd = must(openAt(dirfd, name, O.RDONLY | O.NOFOLLOW), 'open');
  while (must(read(fd, DATA_AT, CHUNK), 'read') > 0);
  close(fd);
}

let keptEnd = PATHS_AT;

/** Copies a name out of the directory buffer, which the next getdents64 overwrites. */
function keepName(name: number): number {
  const at = keptEnd;
  const length = cstrlen(name) + 1;
  u8.copyWithin(at, name, name + length);
  keptEnd += length;
  return at;
}

function walkFromHere(what: 'list' | 'stat' | 'read'): void {
  keptEnd = PATHS_AT;
  putBytes(PATH_AT, '.');
  walk(AT.FDCWD, PATH_AT, 0, what);
}

function readFile(file: string): number {
  putBytes(PATH_AT, file);
  return clock(() => readAt(AT.FDCWD, PATH_AT));
}

function writeFile(file: string, bytes: number): number {
  putBytes(PATH_AT, file);
  u8.fill(0x62, DATA_AT, DATA_AT + CHUNK);
  return clock(() => {
    const fd = must(openAt(AT.FDCWD, PATH_AT, O.WRONLY | O.CREAT | O.TRUNC, 0o644), 'open');
    for (let done = 0; done < bytes; done += CHUNK) must(write(fd, DATA_AT, CHUNK), 'write');
    close(fd); // a writeback cache reaches the server here, so closing belongs to the time
  });
}

/** Block numbers in an order that a readahead or a merging cache cannot guess; the same order every time. */
function shuffledBlocks(count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  let seed = 12345;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    const j = seed % (i + 1);
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}

function smallWrites(file: string, bytes: number, shuffled: boolean): number {
  putBytes(PATH_AT, file);
  u8.fill(0x63, DATA_AT, DATA_AT + SMALL_WRITE);
  const count = Math.floor(bytes / SMALL_WRITE);
  const order = shuffled ? shuffledBlocks(count) : Int32Array.from({ length: count }, (_, i) => i);
  return clock(() => {
    const fd = must(openAt(AT.FDCWD, PATH_AT, O.WRONLY), 'open');
    for (let n = 0; n < count; n++) {
      must(pwrite(fd, DATA_AT, SMALL_WRITE, order[n] * SMALL_WRITE), 'pwrite');
    }
    close(fd);
  });
}

/** New names in the merged directories, a hundred each: `d007/new0042`. */
function newNames(count: number): Int32Array {
  return layPaths(count, (n) => `${dirName(Math.floor(n / 100))}/new${n % 100}`);
}

function createAll(paths: Int32Array): void {
  for (let n = 0; n < paths.length; n++) {
    const fd = openAt(AT.FDCWD, paths[n], O.WRONLY | O.CREAT | O.EXCL, 0o644);
    must(write(must(fd, 'create'), DATA_AT, 1024), 'write');
    close(fd);
  }
}

function unlinkAll(paths: Int32Array): void {
  for (let n = 0; n < paths.length; n++) must(unlinkAt(AT.FDCWD, paths[n]), 'unlink');
}

function openForWrite(file: string): number {
  putBytes(PATH_AT, file);
  return clock(() => close(must(openAt(AT.FDCWD, PATH_AT, O.RDWR), 'open')));
}

// In a second thread: the open that copies up. The flag tells the stat loop when it is over.
const COPYING_THREAD = `
  const { openSync, closeSync } = require('node:fs');
  const { workerData } = require('node:worker_threads');
  const flag = new Int32Array(workerData.flag);
  Atomics.wait(flag, 0, 0);
  try { closeSync(openSync(workerData.file, 'r+')); Atomics.store(flag, 1, 1); }
  catch { Atomics.store(flag, 1, 2); }
`;

/** The 99th percentile, in ms, of a stat of `other` about every 0.5 ms while `file` is copied up. */
async function statWhileCopying(file: string, other: string): Promise<number> {
  const shared = new SharedArrayBuffer(12);
  const flag = new Int32Array(shared);
  const worker = new Worker(COPYING_THREAD, { eval: true, workerData: { flag: shared, file } });
  await new Promise((resolve) => worker.once('online', resolve));
  await new Promise((resolve) => setTimeout(resolve, 50)); // until it waits
  putBytes(PATH_AT, other);
  for (let n = 0; n < 1000; n++) must(statAt(AT.FDCWD, PATH_AT), 'stat');
  const times: number[] = [];
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
  while (Atomics.load(flag, 1) === 0) {
    const start = performance.now();
    must(statAt(AT.FDCWD, PATH_AT), 'stat');
    times.push(performance.now() - start);
    Atomics.wait(flag, 2, 0, 0.5);
  }
  if (Atomics.load(flag, 1) === 2) throw new Error('the copy-up failed');
  times.sort((a, b) => a - b);
  return times[Math.min(times.length - 1, Math.floor(times.length * 0.99))];
}

/** Does the job in the current directory. @returns milliseconds */
async function run(job: Job): Promise<number> {
  switch (job.do) {
    case 'stat': {
      const paths = layPaths(job.count, (n) => filePath(n));
      for (let n = 0; n < job.warmups; n++) statAll(paths);
      return clock(() => statAll(paths));
    }
    case 'walk':
      for (let n = 0; n < job.warmups; n++) walkFromHere(job.stat ? 'stat' : 'list');
      return clock(() => walkFromHere(job.stat ? 'stat' : 'list'));
    case 'read-all':
      return clock(() => walkFromHere('read'));
    case 'open-read-close': {
      const paths = layPaths(job.count, (n) => filePath(n));
      return clock(() => openReadClose(paths));
    }
    case 'read':
      return readFile(job.file);
    case 'write':
      return writeFile(job.file, job.bytes);
    case 'small-writes':
      return smallWrites(job.file, job.bytes, job.shuffled);
    case 'create': {
      const paths = newNames(job.count);
      return clock(() => createAll(paths));
    }
    case 'unlink': {
      const paths = newNames(job.count);
      createAll(paths);
      return clock(() => unlinkAll(paths));
    }
    case 'open-for-write':
      return openForWrite(job.file);
    case 'stat-while-copying':
      return statWhileCopying(job.file, job.other);
  }
}

mapMemory();
u8.fill(1, DATA_AT, DATA_AT + 1024 * 1024); // page faults belong to nobody's time
const ms = await run(JSON.parse(process.argv[2]) as Job);
process.stdout.write(`${JSON.stringify({ ms })}\n`);
