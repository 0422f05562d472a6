// The number of an inode in an image, as a JavaScript number.
// Used by every file of this room and by those who serve images.
// Follows: erofs_iloc() and EROFS_DIRENT_NID_METABOX_BIT of Linux 6.18.

import { EROFS_SLOT_SIZE } from './format.js';

/** Slot of 32 bytes from meta_blkaddr on, below 2^48; METABOX_NIDS more when the inode lies in the metabox. */
export type Nid = number & { readonly nid: true };

/** The first nid of the metabox. */
const METABOX_NIDS = 2 ** 50;

/** @returns the nid of a u64 on disk, given as two halves; undefined when no image can be so large. */
export function toNid(low: number, high: number): Nid | undefined {
  const upper = high & 0x7fffffff;
  if (upper >= 0x10000) return undefined;
  const slot = upper * 0x1_0000_0000 + low;
  return (high < 0 || high > 0x7fffffff ? slot + METABOX_NIDS : slot) as Nid;
}

/** @returns the nid of a u64 on disk. */
export function nidOf(value: bigint): Nid | undefined {
  return toNid(Number(value & 0xffffffffn), Number(value >> 32n));
}

/** @returns the u64 on disk, bit 63 set for the metabox. */
export function nidToBigInt(nid: Nid): bigint {
  return inMetabox(nid) ? BigInt(nid - METABOX_NIDS) | (1n << 63n) : BigInt(nid);
}

export function inMetabox(nid: Nid): boolean {
  return nid >= METABOX_NIDS;
}

/** Byte offset of the inode from the start of its space (meta_blkaddr, or the metabox). */
export function slotOffset(nid: Nid): number {
  return (nid >= METABOX_NIDS ? nid - METABOX_NIDS : nid) * EROFS_SLOT_SIZE;
}
