// The C library through koffi: one place that loads it and declares its functions.
// Every other file of src/linux declares what it needs here; nothing outside src/linux knows about FFI.
// Follows: koffi's C-like prototypes. Pointers are declared `uint64_t` and passed as Numbers (see memory.ts).

import { existsSync } from 'node:fs';
import koffi from 'koffi';

const CANDIDATES = ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1', 'libc.so'];

function load(): ReturnType<typeof koffi.load> {
  for (const name of CANDIDATES) {
    try {
      return koffi.load(name);
    } catch {
      // The next name; a system has exactly one of them.
    }
  }
  const proc = existsSync('/proc/self/maps') ? '' : ' (and /proc is not mounted)';
  throw new Error(`varve: no C library found, tried ${CANDIDATES.join(', ')}${proc}`);
}

const libc = load();

/** A C function that takes integers only. 64-bit arguments above 2^53 may be given as bigint. */
export type CCall = (...args: (number | bigint)[]) => number;

/** Declares a libc function, for example `func('int close(int fd)')`. */
export function func(prototype: string): CCall {
  return libc.func(prototype) as unknown as CCall;
}

/** Declares a function with string arguments; for cold paths only (about 1 us an argument). */
export function stringFunc(
  prototype: string,
): (...args: (number | bigint | string | null)[]) => number {
  return libc.func(prototype) as unknown as (
    ...args: (number | bigint | string | null)[]
  ) => number;
}

/** errno of this thread's last failed call, negated. */
export function negErrno(): number {
  return -koffi.errno();
}

/** Folds the C convention (-1 and errno) into one number: the result, or -errno. */
export function ret(value: number): number {
  return value < 0 ? -koffi.errno() : value;
}

/** syscall(2) for calls without a libc wrapper in the oldest glibc we support (2.31). */
export const syscall = func(
  'int64_t syscall(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)',
);

/** The bytes at an address, without copying. The caller keeps the memory mapped. */
export function viewAddress(address: number, length: number): ArrayBuffer {
  return koffi.view(address, length) as ArrayBuffer;
}
