// Loop devices: a file as a block device, for kernels that mount images from block devices only.
// Used by stack/kernel-images.ts; a device given out here ends with its last user.
// Follows: include/uapi/linux/loop.h: LOOP_CTL_GET_FREE, LOOP_CONFIGURE (Linux 5.8), struct loop_config.

import { closeSync, openSync } from 'node:fs';
import { check, E, SysError } from './errno.js';
import { ioctlAt } from './files.js';
import { mapMemory, scratch, u8, u32 } from './memory.js';

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
/** struct loop_config: u32 fd, u32 block_size, struct loop_info64 (232 bytes), u64 reserved[8]. */
const CONFIG_SIZE = 8 + 232 + 64;
/** lo_flags in struct loop_info64: after three u64 ids, offset, sizelimit, and four u32. */
const FLAGS_AT = 8 + 52;
const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const CONFIG_AT = 0x2d100;

/** Tries when somebody else takes the free device first. */
const TRIES = 16;

export interface LoopDevice {
  /** `/dev/loopN`. */
  readonly path: string;
  /** Without a mount on it, the device is free again. */
  close(): void;
}

/** A read-only loop device of `file`. @throws SysError. */
export function attachLoop(file: string): LoopDevice {
  mapMemory();
  const backing = openSync(file, 'r');
  try {
    for (let tries = 1; ; tries++) {
      const control = openSync('/dev/loop-control', 'r+');
      const number = ioctlAt(control, LOOP_CTL_GET_FREE, 0);
      closeSync(control);
      check(number, 'LOOP_CTL_GET_FREE');
      const path = `/dev/loop${number}`;
      const fd = openSync(path, 'r');
      const at = scratch + CONFIG_AT;
      u8.fill(0, at, at + CONFIG_SIZE);
      u32[at >>> 2] = backing;
      u32[(at + FLAGS_AT) >>> 2] = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
      const r = ioctlAt(fd, LOOP_CONFIGURE, at);
      if (r >= 0) return { path, close: () => closeSync(fd) };
      closeSync(fd);
      if (r !== -E.BUSY || tries === TRIES) throw new SysError('LOOP_CONFIGURE', r, path);
    }
  } finally {
    closeSync(backing);
  }
}
