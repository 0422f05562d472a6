// Inode numbers: made of what a filesystem is and of what an object is called there; nothing is recorded, nothing is scanned.
// The keys are set once by stack/open.ts; every lookup and listing shows numbers through this file.
// The scheme, and what happens when two filesystems want the same numbers: docs/decisions/inode-numbers.md.

import { xxh32 } from '../bytes/xxh32.js';
import { u8 } from '../linux/memory.js';

/** Bits of a key. With numbers of 32 bits below it, what is shown stays below 2^53, where doubles are exact. */
const KEY_BITS = 21;

/** st_ino of the root of every mount: no object of a layer has it, and no change of the stack changes it. */
export const ROOT_INO = 1;

/** What the numbers of one filesystem are made of. */
export interface Space {
  /** What the filesystem is called, wherever it is mounted. */
  readonly identity: Uint8Array;
  /** Where it is now: two of the same identity in different places are copies of each other. */
  readonly place: string;
  /** Bits above the 32nd that its own numbers may have, as far as the filesystem tells. */
  readonly wide: number;
}

/** The identity of a filesystem with a UUID. @param subvolume id of the btrfs subvolume, in two halves; else 0. */
export function uuidIdentity(uuid: Uint8Array, subvolumeLo = 0, subvolumeHi = 0): Uint8Array {
  const bytes = new Uint8Array(24);
  bytes.set(uuid);
  const view = new DataView(bytes.buffer);
  view.setUint32(16, subvolumeLo, true);
  view.setUint32(20, subvolumeHi, true);
  return bytes;
}

/** The key of an identity, from 1 to 2^21 - 1. @param attempt a greater one gives another key. */
export function keyOf(identity: Uint8Array, attempt = 0): number {
  return xxh32(identity, attempt) >>> (32 - KEY_BITS) || keyOf(identity, attempt + 0x1000);
}

/** More bits than this are not kept free between two keys: there would be no room for 500 filesystems. */
const MOST_WIDE = 8;

/**
 * The key of each space; the same space gives the same key. Copies of one filesystem are told apart by their order, and of
 * two spaces whose keys collide, the one with the greater identity takes another: the result does not depend on the order.
 */
export function keysOf(spaces: readonly Space[]): number[] {
  const known = new Map<string, { readonly id: string; readonly space: Space; key: number }>();
  const copies = new Map<string, number>();
  for (const space of spaces) {
    const name = Buffer.from(space.identity).toString('hex');
    const at = `${name} ${space.place}`;
    if (known.has(at)) continue;
    const copy = copies.get(name) ?? 0;
    copies.set(name, copy + 1);
    const id = copy === 0 ? name : `${name}${copy.toString(16).padStart(8, '0')}`;
    known.set(at, { id, space, key: 0 });
  }
  const taken: { readonly key: number; readonly wide: number }[] = [];
  const inOrder = [...known.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const entry of inOrder) {
    const identity = Buffer.from(entry.id, 'hex');
    const wide = Math.min(entry.space.wide, MOST_WIDE);
    for (let attempt = 0; ; attempt++) {
      entry.key = keyOf(identity, attempt);
      const collides = taken.some(
        (other) => (other.key ^ entry.key) >>> Math.max(other.wide, wide) === 0,
      );
      if (!collides) break;
    }
    taken.push({ key: entry.key, wide });
  }
  return spaces.map((space) => {
    const at = `${Buffer.from(space.identity).toString('hex')} ${space.place}`;
    return known.get(at)?.key ?? 0;
  });
}

/** What number() found, in two halves. */
export const shown = { lo: 0, hi: 0 };

/** The number that an object of a filesystem shows, into `shown`. @param lo, hi its number there. */
export function number(key: number, lo: number, hi: number): void {
  shown.lo = lo;
  shown.hi = (hi ^ key) >>> 0;
  // Only where a filesystem has the number `key << 32`, or the one after it: 0 is no number, and 1 is the root's.
  if (shown.hi === 0 && lo <= ROOT_INO) shown.hi = 0xffffffff;
}

// Keys of the filesystems that origin marks name, so that they are computed once: the identity, and its key.
const KEPT = 64;
const names = new Uint8Array(24 * KEPT);
const keys = new Uint32Array(KEPT);
let kept = 0;

/** The key of the filesystem whose UUID lies at `uuid`, before a collision in any stack. Subvolume as in uuidIdentity(). */
export function keyOfUuid(uuid: number, subvolumeLo: number, subvolumeHi: number): number {
  for (let i = 0; i < kept; i++)
    if (isName(i, uuid, subvolumeLo, subvolumeHi)) return keys[i] as number;
  const identity = uuidIdentity(u8.slice(uuid, uuid + 16), subvolumeLo, subvolumeHi);
  const i = kept < KEPT ? kept++ : 0;
  names.set(identity, 24 * i);
  keys[i] = keyOf(identity);
  return keys[i] as number;
}

function isName(i: number, uuid: number, subvolumeLo: number, subvolumeHi: number): boolean {
  const at = 24 * i;
  for (let k = 0; k < 16; k++) if (names[at + k] !== u8[uuid + k]) return false;
  return isWord(at + 16, subvolumeLo) && isWord(at + 20, subvolumeHi);
}

function isWord(at: number, value: number): boolean {
  for (let k = 0; k < 4; k++) if (names[at + k] !== ((value >>> (8 * k)) & 0xff)) return false;
  return true;
}

/** The number of 32 bits that stands for one of 64 where 32 are asked for (`ino32`). */
export function fold(lo: number, hi: number): number {
  if (hi === 0 && lo === ROOT_INO) return ROOT_INO;
  const folded = (lo ^ Math.imul(hi, 0x9e3779b1)) >>> 0;
  return folded <= ROOT_INO ? 0xffffffff - folded : folded;
}
