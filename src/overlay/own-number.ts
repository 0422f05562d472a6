// The inode number that a copied-up object carries: its own mark `overlay.varve.ino` where there is one, else what its origin mark tells.
// The own mark is written by copy-up where the origin cannot tell; read by lookup and listings; kernel overlayfs passes it by and shows it to nobody.
// Format: docs/decisions/inode-numbers.md.

import type { Layer } from '../layer/layer.js';
import { emptyPath } from '../linux/files.js';
import { getWord, putWord, u8 } from '../linux/memory.js';
import { setxattrAt } from '../linux/xattr.js';
import { F, get } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { MARK } from './marks.js';
import { ROOT_INO, shown } from './numbers.js';
import { originNumber } from './origin.js';
import { ORIGIN, OWN_NUMBER } from './work.js';

/** The mark's bytes: little endian. */
const Own = {
  version: 0, // u8, 1
  number: 1, // u64, st_ino as it is shown
  generation: 9, // u32, of file handles (export.ts), as the lower object has it; 0: not recorded
} as const;
const OWN_SIZE = 13;
const OWN_VERSION = 1;

function form(lo: number, hi: number, generation: number): void {
  u8[OWN_NUMBER + Own.version] = OWN_VERSION;
  putWord(OWN_NUMBER + Own.number, lo);
  putWord(OWN_NUMBER + Own.number + 4, hi);
  putWord(OWN_NUMBER + Own.generation, generation);
}

/** The mark of a number, for who writes it without an overlay. */
export function ownNumberMark(lo: number, hi: number): Uint8Array {
  form(lo, hi, 0);
  return u8.slice(OWN_NUMBER, OWN_NUMBER + OWN_SIZE);
}

/** The mark of a layer's root: there are numbers below. */
export function announcement(): Uint8Array {
  return ownNumberMark(ROOT_INO, 0);
}

/** Writes the node's number to a staged copy of its object. @returns 0 or -errno. */
export function writeOwnNumber(
  o: Overlay,
  slot: number,
  generation: number,
  dirfd: number,
  name: number,
): number {
  const r = announce(o);
  if (r < 0) return r;
  form(get(slot, F.inoLo), get(slot, F.inoHi), generation);
  return setxattrAt(dirfd, name, o.marks.number, OWN_NUMBER, OWN_SIZE, 0);
}

/** The mark for the number in `shown`, as bytes: for uppers that nobody has mounted. */
export function ownNumberBytes(): Uint8Array {
  form(shown.lo, shown.hi, 0);
  return u8.slice(OWN_NUMBER, OWN_NUMBER + OWN_SIZE);
}

/** The mark of an upper's root, as bytes. */
export function announcementBytes(): Uint8Array {
  form(ROOT_INO, 0, 0);
  return u8.slice(OWN_NUMBER, OWN_NUMBER + OWN_SIZE);
}

/** The mark on the root of an upper says that there are some below: listings look for them only then. */
function announce(o: Overlay): number {
  if (o.ownNumbers || o.upper === undefined) return 0;
  form(ROOT_INO, 0, 0);
  const fd = o.upper.fd(o.upper.root);
  const r = setxattrAt(fd, emptyPath(), o.marks.number, OWN_NUMBER, OWN_SIZE, 0);
  if (r >= 0) o.ownNumbers = true;
  return r;
}

/** The number that the mark of `name` in `dir` tells, into `shown`. @returns false when it has none, or one of another form. */
export function readOwnNumber(o: Overlay, layer: Layer, dir: number, name: number): boolean {
  const n = layer.getxattr(dir, name, o.marks.number, OWN_NUMBER, OWN_SIZE);
  if (n !== OWN_SIZE || u8[OWN_NUMBER + Own.version] !== OWN_VERSION) return false;
  const lo = getWord(OWN_NUMBER + Own.number);
  const hi = getWord(OWN_NUMBER + Own.number + 4);
  // Nobody but who damaged it can have written these.
  if (hi === 0 && lo <= ROOT_INO) return false;
  shown.lo = lo;
  shown.hi = hi;
  o.exporting?.copied(getWord(OWN_NUMBER + Own.generation));
  return true;
}

/** Number of a copied-up object: its own mark's, or its origin's. Sets `shown`. @returns false when they do not tell. */
export function readNumber(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  marks: number,
): boolean {
  if (marks < 0) return false;
  if (marks & MARK.NUMBER && readOwnNumber(o, layer, dir, name)) return true;
  if ((marks & MARK.ORIGIN) === 0) return false;
  o.exporting?.copied(0);
  const n = layer.getxattr(dir, name, o.marks.origin, ORIGIN, 256);
  return n > 0 && originNumber(o.config.lowers, ORIGIN, n);
}

/** As readNumber(), for an object that is no node's topmost. */
export function tellsNumber(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  marks: number,
): boolean {
  // What it says of handles is nobody's.
  return o.exporting === undefined && readNumber(o, layer, dir, name, marks);
}
