// Memory outside of the JavaScript heap, at addresses that C and every thread of this process can use.
// Used for the buffers of compressors.ts, for the slots that the compression workers of erofs/ share, and for addresses of typed arrays.
// Follows: mmap(2), memcpy(3). Addresses are Numbers below 2^47.

import koffi from 'koffi';
import { func, negErrno, ret, stringFunc, viewAddress } from './libc.js';

const mmap = func(
  'int64_t mmap(uint64_t addr, size_t len, int prot, int flags, int fd, int64_t off)',
);
const msync = func('int msync(uint64_t addr, size_t len, int flags)');
const memfdCreate = stringFunc('int memfd_create(const char *name, uint32_t flags)');
const ftruncate = func('int ftruncate(int fd, int64_t length)');
const mlock = func('int mlock(uint64_t addr, size_t len)');
const munmap = func('int munmap(uint64_t addr, size_t len)');
const copy = func('uint64_t memcpy(uint64_t to, uint64_t from, size_t n)');

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MS_SYNC = 4;
const MFD_CLOEXEC = 1;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022;

/**
 * Zeroed memory; pages count only once touched. It stays until release().
 * @param size bytes. @returns its address. @throws Error when there is none.
 */
export function allocate(size: number): number {
  const address = mmap(0, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0);
  if (address === -1) throw new Error(`mmap of ${size} bytes: errno ${-negErrno()}`);
  return address;
}

/**
 * Maps the first bytes of a file, shared with everybody who maps it. It stays until release().
 * @param size bytes, at most the file's. @returns its address. @throws Error when it cannot be mapped.
 */
export function mapFile(fd: number, size: number): number {
  const address = mmap(0, size, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (address === -1) throw new Error(`mmap of a file of ${size} bytes: errno ${-negErrno()}`);
  return address;
}

/**
 * Zeroed memory as a file without a name: whoever gets a duplicate of the descriptor has the same memory.
 * @param name shown in /proc. @returns a descriptor, close-on-exec. @throws Error when there is none.
 */
export function memoryFile(name: string, size: number): number {
  const fd = ret(memfdCreate(name, MFD_CLOEXEC));
  const r = fd < 0 ? fd : ret(ftruncate(fd, size));
  if (r < 0) throw new Error(`memfd_create of ${size} bytes: errno ${-r}`);
  return fd;
}

/** Keeps memory present, so that the kernel never waits for a page of it. @returns 0 or -errno. */
export function pinMemory(address: number, size: number): number {
  return ret(mlock(address, size));
}

/** Has what was written to a mapped range of mapFile() on disk. @returns 0 or -errno. */
export function syncMapped(address: number, size: number): number {
  return ret(msync(address, size, MS_SYNC));
}

/** Gives back what allocate() gave. No thread may use it, or a view of it, afterwards. */
export function release(address: number, size: number): void {
  munmap(address, size);
}

/** The bytes at an address of allocate(), not copied. Making a view costs about a microsecond. */
export function nativeBytes(address: number, length: number): Uint8Array {
  return new Uint8Array(viewAddress(address, length));
}

/** memcpy(3): the ranges do not overlap. */
export function copyNative(to: number, from: number, length: number): void {
  copy(to, from, length);
}

// The two buffers asked for last: a copy of their addresses saves 180 ns a call. Holding the buffer
// keeps the address good.
let bufferA: ArrayBufferLike | undefined;
let addressA = 0;
let bufferB: ArrayBufferLike | undefined;
let addressB = 0;

/** Address of the first byte. Valid as long as the caller keeps `bytes`, and does not transfer its buffer. */
export function addressOf(bytes: Uint8Array): number {
  // Asking for the buffer moves a small array out of the heap for good.
  const { buffer } = bytes;
  if (buffer !== bufferA) {
    const hit = buffer === bufferB;
    // Of the view, because koffi does not take a SharedArrayBuffer itself.
    const address = hit ? addressB : Number(koffi.address(bytes)) - bytes.byteOffset;
    bufferB = bufferA;
    addressB = addressA;
    bufferA = buffer;
    addressA = address;
  }
  return addressA + bytes.byteOffset;
}
