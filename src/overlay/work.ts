// The overlay's working space in the arena, cut into named pieces; one server thread uses it, never two at once.
// Read by the other files of this folder, which must not keep anything here across calls into each other.
// Sizes follow the kernel's limits: names 255 bytes, xattr lists and values 64 KiB.

import { XATTR_SIZE_MAX } from '../linux/constants.js';
import { putBytes } from '../linux/memory.js';
import { WORK, WORK_SIZE } from '../vfs/layout.js';

let next = WORK;
function piece(size: number): number {
  const at = next;
  next += (size + 63) & ~63;
  if (next > WORK + WORK_SIZE) throw new Error('overlay working space too small');
  return at;
}

/** Names of xattrs and other constants, written once by constant(). */
let constants = piece(4096);
const constantsEnd = constants + 4096;

/** Temporary names in the workdir: `#` and a number. */
export const TEMP_NAME = piece(64);
/** A second one, for operations that stage two objects. */
export const TEMP_NAME_2 = piece(64);
/** The name in the workdir of an object that has lost its own (kept.ts). */
export const HIDDEN_NAME = piece(64);
/** An origin or index handle: struct file_handle, then struct ovl_fb, then its name in hex. */
export const HANDLE = piece(256);
export const ORIGIN = piece(256);
export const INDEX_NAME = piece(512);
/** An own number; see own-number.ts. */
export const OWN_NUMBER = piece(64);
/** `.wh.` + name; escaped xattr names. */
export const LONG_NAME = piece(1024);
/** The directory entry being listed. */
export const LISTED_NAME = piece(320);
/** The name that fill.ts looks at. */
export const FILL_NAME = piece(320);
/** Lists of xattr names: what listxattr answers, and what marks are read from. */
export const XATTR_LIST = piece(XATTR_SIZE_MAX + 256);
/** One xattr value. */
export const XATTR_VALUE = piece(XATTR_SIZE_MAX + 256);
/** A redirect or a symlink target. */
export const PATH = piece(8192);
export const PATH_2 = piece(8192);
/** struct statfs, ATTR records of lookups that answer nobody. */
export const RECORD = piece(512);
/** A copy of a struct statx, while statBuffer() is used again. */
export const SAVED_STAT = piece(256);

const written = new Map<string, number>();

/** Writes an ASCII string with its NUL once; returns its arena offset. */
export function constant(text: string): number {
  const known = written.get(text);
  if (known !== undefined) return known;
  const at = constants;
  written.set(text, at);
  constants += text.length + 1;
  if (constants > constantsEnd) throw new Error('no room for another constant');
  putBytes(at, text);
  return at;
}
