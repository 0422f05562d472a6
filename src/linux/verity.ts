// fs-verity as the kernel has it: enabling it on a file, and asking for the digest that the kernel enforces.
// Called by store/ where the filesystem may support it; everywhere else digests are computed (store/verity.ts).
// Follows: include/uapi/linux/fsverity.h of Linux 6.18; FS_IOC_ENABLE_VERITY, FS_IOC_MEASURE_VERITY.

import { ioctlAt } from './files.js';
import { scratch, u8, u16, u32 } from './memory.js';
import { SHA_SIZE, type ShaAlgorithm } from './sha.js';

/** FS_VERITY_HASH_ALG_*. */
export const VERITY_HASH = { sha256: 1, sha512: 2 } as const;

const FS_IOC_ENABLE_VERITY = 0x40806685;
const FS_IOC_MEASURE_VERITY = 0xc0046686;

/** struct fsverity_enable_arg: version 0, hash_algorithm 4, block_size 8, salt_size 12, the rest zero; 128 bytes. */
const ENABLE_SIZE = 128;
/** Scratch for the argument, between the fixed places of src/linux and those of its callers. */
const ARGUMENT_AT = 0xc00;

/**
 * Makes the file read-only for ever, its blocks checked by the kernel: 4 KiB blocks, no salt.
 * @param fd opened for reading, while nobody has it open for writing.
 * @returns 0, or -errno: -EEXIST when it has verity, -EOPNOTSUPP or -ENOTTY when the filesystem or kernel has none.
 */
export function enableVerity(fd: number, algorithm: ShaAlgorithm): number {
  const at = scratch + ARGUMENT_AT;
  u8.fill(0, at, at + ENABLE_SIZE);
  const k = at >>> 2;
  u32[k] = 1;
  u32[k + 1] = VERITY_HASH[algorithm];
  u32[k + 2] = 4096;
  return ioctlAt(fd, FS_IOC_ENABLE_VERITY, at);
}

/**
 * The digest that the kernel enforces, as lower-case hex.
 * @returns -errno when there is none: -ENODATA for a file without verity, -EOPNOTSUPP or -ENOTTY as above.
 */
export function measureVerity(fd: number): string | number {
  const at = scratch + ARGUMENT_AT;
  u16[(at >>> 1) + 1] = SHA_SIZE.sha512;
  const r = ioctlAt(fd, FS_IOC_MEASURE_VERITY, at);
  if (r < 0) return r;
  const size = u16[(at >>> 1) + 1] as number;
  return Buffer.from(u8.slice(at + 4, at + 4 + size)).toString('hex');
}
