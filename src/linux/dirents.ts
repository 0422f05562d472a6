// Reading a directory's entries from the kernel.
// Used by layer/ (listings) and by what cleans a workdir.
// Follows: getdents64(2), struct linux_dirent64: d_ino 0, d_off 8, d_reclen 16, d_type 18, d_name 19.

import { getdents } from './files.js';
import { u8, u16, u32 } from './memory.js';

/** Told about one entry; `name` is an arena offset that is valid only during the call. */
export type EntryCallback = (
  name: number,
  nameLen: number,
  inoLo: number,
  inoHi: number,
  type: number,
) => void;

/**
 * Calls `entry` for each name in the directory `fd` but "." and "..".
 * @param buffer arena offset, 8-byte aligned, of `size` bytes; `entry` must not use it. @returns 0 or -errno.
 */
export function readEntries(
  fd: number,
  buffer: number,
  size: number,
  entry: EntryCallback,
): number {
  for (;;) {
    const n = getdents(fd, buffer, size);
    if (n <= 0) return n;
    const end = buffer + n;
    for (let at = buffer; at < end; ) {
      const k = at >>> 2;
      const name = at + 19;
      let stop = name;
      while (u8[stop] !== 0) stop++;
      const length = stop - name;
      const dots = u8[name] === 0x2e && (length === 1 || (length === 2 && u8[name + 1] === 0x2e));
      if (!dots) {
        entry(name, length, u32[k] as number, u32[k + 1] as number, u8[at + 18] as number);
      }
      at += u16[(at + 16) >>> 1] as number;
    }
  }
}
