// fs-verity as the kernel has it: asking for the digest that the kernel enforces.
// Called by store/ where the filesystem may support it; everywhere else digests are computed (store/verity.ts).
// Follows: include/uapi/linux/fsverity.h of Linux 6.18; FS_IOC_MEASURE_VERITY.

import { ioctlAt } from './files.js';
import { scratch, u8, u16 } from './memory.js';
import { SHA_SIZE } from './sha.js';

/** FS_VERITY_HASH_ALG_*. */
export const VERITY_HASH = { sha256: 1, sha512: 2 } as const;

const FS_IOC_MEASURE_VERITY = 0xc0046686;

/** Scratch for the argument, between the fixed places of src/linux and those of its callers. */
const ARGUMENT_AT = 0xc00;

/**
 * The digest that the kernel enforces, as lower-case hex.
 * @returns -errno when there is none: -ENODATA for a file without verity, -EOPNOTSUPP or -ENOTTY when the filesystem or kernel has none.
 */
export function measureVerity(fd: number): string | number {
  const at = scratch + ARGUMENT_AT;
  u16[(at >>> 1) + 1] = SHA_SIZE.sha512;
  const r = ioctlAt(fd, FS_IOC_MEASURE_VERITY, at);
  if (r < 0) return r;
  const size = u16[(at >>> 1) + 1] as number;
  return Buffer.from(u8.slice(at + 4, at + 4 + size)).toString('hex');
}
