// One arena of memory, shared with worker threads and with the server that succeeds this one.
// Everything that crosses into C is an offset into it; base + offset is the pointer (a Number below 2^47).
// Follows: memfd_create(2), mmap(2). The layout above the scratch pages belongs to vfs/layout.ts.

import { func, negErrno, ret, stringFunc, viewAddress } from './libc.js';

const memfdCreate = stringFunc('int memfd_create(const char *name, uint32_t flags)');
const ftruncate = func('int ftruncate(int fd, int64_t length)');
const fallocate = func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const mmap = func(
  'int64_t mmap(uint64_t addr, size_t len, int prot, int flags, int fd, int64_t off)',
);

const MFD_CLOEXEC = 1;
/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
const PUNCH_HOLE = 3;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_NORESERVE = 0x4000;

/** Bytes of address space; pages count only once touched. Below 2^31 so that offsets stay small integers. */
export const ARENA_SIZE = 0x7f000000;

/** Threads that may use the arena at once: the server loop and its workers. */
export const MAX_THREADS = 8;

/** Scratch bytes of one thread: stat buffers, paths for xattr calls, argument structs. */
export const SCRATCH_SIZE = 192 * 1024;

/** First byte that vfs/layout.ts may hand out. */
export const SCRATCH_END = MAX_THREADS * SCRATCH_SIZE;

// Set once a thread by mapMemory(), before any other call of src/linux; never changed afterwards.
export let base = 0;
export let memoryFd = -1;
export let u8: Uint8Array = new Uint8Array(0);
export let u16: Uint16Array = new Uint16Array(0);
export let u32: Uint32Array = new Uint32Array(0);
export let i32: Int32Array = new Int32Array(0);
/** For stores of two u32 at once: numbers are nothing to it but 64 bits, as long as they form no NaN. */
export let f64: Float64Array = new Float64Array(0);
/** The same memory with Node's string conversions. */
let bytes: Buffer = Buffer.alloc(0);
/** This thread's scratch: offset of its first byte. */
export let scratch = 0;

/**
 * Makes the memfd of an arena without mapping it: the supervisor holds one for each of its servers.
 * @returns an fd, close-on-exec. @throws Error when memory cannot be had.
 */
export function createArena(): number {
  const fd = ret(memfdCreate('varve', MFD_CLOEXEC));
  if (fd < 0) throw new Error(`memfd_create: errno ${-fd}`);
  const r = ret(ftruncate(fd, ARENA_SIZE));
  if (r < 0) throw new Error(`ftruncate of the arena: errno ${-r}`);
  return fd;
}

/**
 * Maps the arena into this thread. Without `fd` a new memfd is made (close-on-exec).
 * @param thread index below MAX_THREADS; selects the scratch pages.
 * @throws Error when memory cannot be had.
 */
export function mapMemory(fd = -1, thread = 0): void {
  if (base !== 0) return;
  const owned = fd < 0 ? createArena() : fd;
  const address = mmap(0, ARENA_SIZE, PROT_READ_WRITE, MAP_SHARED | MAP_NORESERVE, owned, 0);
  if (address === -1) throw new Error(`mmap of the arena: errno ${-negErrno()}`);
  const buffer = viewAddress(address, ARENA_SIZE);
  memoryFd = owned;
  u8 = new Uint8Array(buffer);
  u16 = new Uint16Array(buffer);
  u32 = new Uint32Array(buffer);
  i32 = new Int32Array(buffer);
  f64 = new Float64Array(buffer);
  bytes = Buffer.from(buffer);
  scratch = thread * SCRATCH_SIZE;
  base = address;
}

/** Zeroes `size` bytes at `at`, whole pages, and gives their memory back. */
export function clearMemory(at: number, size: number): void {
  if (fallocate(memoryFd, PUNCH_HOLE, at, size) < 0) u8.fill(0, at, at + size);
}

/** Length of the NUL-terminated string at `at`, without the NUL. */
export function cstrlen(at: number): number {
  let end = at;
  while (u8[end] !== 0) end++;
  return end - at;
}

/** Copies a Latin-1 (bytes as code units) or ASCII string and a NUL to `at`; returns the bytes written without NUL. */
export function putBytes(at: number, text: string): number {
  for (let i = 0; i < text.length; i++) u8[at + i] = text.charCodeAt(i);
  u8[at + text.length] = 0;
  return text.length;
}

/** Bytes as a Latin-1 string: lossless for file names, for logs and keys. */
export function getBytes(at: number, length: number): string {
  return bytes.toString('latin1', at, at + length);
}

/** Reads a little-endian u32 at any offset. */
export function getWord(at: number): number {
  const low = (u8[at] as number) | ((u8[at + 1] as number) << 8) | ((u8[at + 2] as number) << 16);
  return (low | ((u8[at + 3] as number) << 24)) >>> 0;
}

/** Writes a little-endian u32 at any offset. */
export function putWord(at: number, value: number): void {
  for (let i = 0; i < 4; i++) u8[at + i] = value >>> (8 * i);
}

/** Reads a u64 as Number; above 2^53 it is clamped to 2^53 - 1. */
export function getU64(at: number): number {
  const lo = u32[at >>> 2] as number;
  const hi = u32[(at >>> 2) + 1] as number;
  return hi >= 0x200000 ? Number.MAX_SAFE_INTEGER : hi * 0x1_0000_0000 + lo;
}

/** Writes a Number below 2^53 as u64. */
export function putU64(at: number, value: number): void {
  u32[at >>> 2] = value >>> 0;
  u32[(at >>> 2) + 1] = Math.floor(value / 0x1_0000_0000);
}
