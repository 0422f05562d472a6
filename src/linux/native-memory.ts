// Memory outside of the JavaScript heap, at addresses that C and every thread of this process can use.
// Used for the buffers of compressors.ts, for the slots that the compression workers of erofs/ share, and for addresses of typed arrays.
// Follows: mmap(2), memcpy(3). Addresses are Numbers below 2^47.

import koffi from 'koffi';
import { func, negErrno, viewAddress } from './libc.js';

const mmap = func(
  'int64_t mmap(uint64_t addr, size_t len, int prot, int flags, int fd, int64_t off)',
);
const munmap = func('int munmap(uint64_t addr, size_t len)');
const copy = func('uint64_t memcpy(uint64_t to, uint64_t from, size_t n)');

const PROT_READ_WRITE = 3;
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
