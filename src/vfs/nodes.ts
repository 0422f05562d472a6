// The node table: every object the kernel holds a reference to, as flat 64-byte records in the shared arena.
// overlay/ fills it; found by (parent, name) and, for hard links, by inode number; slots are reused, nodeids never.
// A nodeid is slot (low 32 bits) and generation (high 32 bits); the root is slot 1, generation 0 (FUSE_ROOT_ID).
// A server may die between any two stores: generations, references and places (parent and name) are right at each of them,
// all else is made again (rebuild.ts).

import { clearMemory, f64, u32 } from '../linux/memory.js';
import * as counters from './counters.js';
import {
  BUCKET_COUNT,
  HEADER,
  INO_BUCKET_COUNT,
  INO_BUCKETS,
  NAME_BUCKETS,
  NODE_COUNT,
  NODES,
} from './layout.js';
import { allocName, freeName, hashName, nameAt, nameEquals, nameLength } from './names.js';

/** Fields of a record, as u32 indexes. "dir" and "file" tell which kind of node uses the field so. */
export const F = {
  /** References the kernel holds. */
  nlookup: 0,
  generation: 1,
  /** Slot of the parent directory; 0 for the root and for unlinked nodes. Changed together with `name`, by one store. */
  parent: 2,
  /** Name reference (names.ts); 0 when unlinked. */
  name: 3,
  nameNext: 4,
  /** DT_* in the low four bits, FLAG above. */
  flags: 5,
  /** dir: its directory in the upper layer, or 0. alias: the node it stands for. file: first alias, or 0. */
  upper: 6,
  /** file: the layer directory that holds the lower object, or 0. dir: its stack of lower directories. */
  lower: 7,
  /** Name of the lower object when it differs from `name`; else 0. dir: see keptField(). */
  lowerName: 8,
  /** st_ino. */
  inoLo: 9,
  inoHi: 10,
  inoNext: 11,
  /** fd + 1 that keeps an unlinked upper object reachable; else 0. */
  fd: 12,
  /** First open handle (handles.ts), or 0. */
  handles: 13,
  /** dir: nodes whose parent this is. alias: next alias. file: see keptField(). */
  children: 14,
  /** Passthrough backing id shared by all opens, or 0. */
  backing: 15,
} as const;
/** u32 words of a record. */
export const WORDS = 16;
const BASE = NODES >>> 2;

/** Bits of F.flags above the type. */
export const FLAG = {
  /** The object itself lies in the upper layer. */
  UPPER: 0x10,
  /** No name leads to it any more. */
  ORPHAN: 0x20,
  /** dir: nothing below shows through. */
  OPAQUE: 0x40,
  /** file: upper holds metadata only; the data is the lower object's. */
  METACOPY: 0x80,
  /** dir: the upper directory may hold copied-up objects, whose numbers are not their own. */
  IMPURE: 0x100,
  /** dir: set-group-id; new files take its group. */
  SETGID: 0x200,
  /** No lower layer has an object at this place: removing it leaves no whiteout. */
  FRESH: 0x400,
  /** An additional hard-link name; F.upper is the node it stands for. */
  ALIAS: 0x800,
  /** dir: F.lower is one layer directory, not a stack reference. */
  SINGLE: 0x1000,
  /** Written through passthrough: cached pages must not survive the next cached open. */
  WRITTEN_BELOW: 0x2000,
  /** Entered in the inode buckets. */
  HASHED_INO: 0x4000,
  /** file: has an entry in the index directory. */
  INDEXED: 0x8000,
  /** dir: a redirect xattr is set on the upper directory. */
  REDIRECT: 0x10000,
  /** Lower object with several names, in a stack with an index. */
  LOWER_LINKS: 0x20000,
  /** dir: upper holds something that readdir must hide (whiteouts were seen or made). */
  WHITEOUTS: 0x40000,
  /** dir: default ACL may be present. */
  DEFAULT_ACL: 0x80000,
  /** dir: the impure xattr is on disk. */
  IMPURE_SET: 0x100000,
  /** file: the kernel was given its first pages once; what it drops it asks for. */
  STORED: 0x200000,
  /** Made here and given no extended attribute since, so it has no capabilities: every first write asks for them. */
  NO_CAPABILITY: 0x400000,
  /** Was opened to be read and written past the server: somebody may have it mapped so, after the last close, too. */
  MAPPABLE: 0x800000,
  /** Where nodeids are numbers: its number is another node's, so its nodeid is a slot and a generation. */
  OWN_ID: 0x1000000,
  /** Left by a predecessor: where it lies in the layers is not known yet. */
  INHERITED: 0x10000000,
  /** There may be a name in the workdir that leads to it; none does in the tree, or soon none will. */
  HIDDEN: 0x20000000,
  /** Copied up during this mount: its st_ino is the lower object's, whether or not a mark tells. */
  COPIED: 0x40000000,
} as const;
export const TYPE_MASK = 15;

export const ROOT = 1;

// Allocator state in the header: next unused slot, head of the free list.
const STATE = (HEADER + 0x9000) >>> 2;

/** u32 index of the record's first word. */
export function rec(slot: number): number {
  return BASE + slot * WORDS;
}

export function get(slot: number, field: number): number {
  return u32[BASE + slot * WORDS + field] as number;
}

export function put(slot: number, field: number, value: number): void {
  u32[BASE + slot * WORDS + field] = value;
}

export function hasFlag(slot: number, flag: number): boolean {
  return ((u32[BASE + slot * WORDS + F.flags] as number) & flag) !== 0;
}

export function setFlag(slot: number, flag: number): void {
  const k = BASE + slot * WORDS + F.flags;
  u32[k] = (u32[k] as number) | flag;
}

export function clearFlag(slot: number, flag: number): void {
  const k = BASE + slot * WORDS + F.flags;
  u32[k] = (u32[k] as number) & ~flag;
}

/** Nodeids are the objects' own numbers; see numberNodes(). */
let numbered = false;

/**
 * Makes the nodeid of a node its st_ino, which a later server of the same layers derives again; F.generation is then that of
 * file handles, and every node is entered by its number. A node whose number is another's has FLAG.OWN_ID and a nodeid of its
 * slot, for as long as it lives. Before the first node is made.
 */
export function numberNodes(on: boolean): void {
  numbered = on;
  inoMask = (on ? INO_BUCKET_COUNT : FEW_INO_BUCKETS) - 1;
}

/** Bit 63 of a nodeid, as a bit of its high half: a slot and a generation, not a number. */
const OWN_ID_BIT = 0x8000_0000;

export function nodeidLo(slot: number): number {
  return numbered && slot !== ROOT && !hasFlag(slot, FLAG.OWN_ID) ? get(slot, F.inoLo) : slot;
}

export function nodeidHi(slot: number): number {
  if (!numbered) return get(slot, F.generation);
  if (slot === ROOT) return 0;
  return hasFlag(slot, FLAG.OWN_ID) ? get(slot, F.generation) : get(slot, F.inoHi);
}

/** What a file handle carries beside the nodeid. */
export function handleGeneration(slot: number): number {
  return numbered && slot !== ROOT && !hasFlag(slot, FLAG.OWN_ID) ? get(slot, F.generation) : 0;
}

/** Gives a node that cannot be known by its number a nodeid that nothing else has or had lately. */
export function ownNodeid(slot: number): void {
  setFlag(slot, FLAG.OWN_ID);
  put(slot, F.generation, (get(slot, F.generation) | OWN_ID_BIT) >>> 0);
}

/** Whether a number can be a nodeid. */
export function isNodeid(lo: number, hi: number): boolean {
  return hi < OWN_ID_BIT && (hi !== 0 || lo > ROOT);
}

function slotOfNumber(lo: number, hi: number): number {
  if (hi < OWN_ID_BIT) return hi === 0 && lo === ROOT ? ROOT : findIno(lo, hi);
  if (lo >= NODE_COUNT || get(lo, F.generation) !== hi) return 0;
  return hasFlag(lo, FLAG.OWN_ID) ? lo : 0;
}

/** The slot a nodeid names, or 0 when it names none (a stale generation). */
export function slotOf(nodeLo: number, nodeHi: number): number {
  if (numbered) return slotOfNumber(nodeLo, nodeHi);
  if (nodeLo >= NODE_COUNT) return 0;
  const k = BASE + nodeLo * WORDS;
  return u32[k + F.generation] === nodeHi && (u32[k + F.flags] as number) !== 0 ? nodeLo : 0;
}

/** A zeroed record of the given type, or 0 when the table is full. It is not yet findable. */
export function allocNode(type: number): number {
  let slot = u32[STATE + 1] as number;
  if (slot !== 0) {
    u32[STATE + 1] = get(slot, F.nameNext);
  } else {
    slot = u32[STATE] || ROOT;
    if (slot >= NODE_COUNT) return 0;
    u32[STATE] = slot + 1;
  }
  const k = BASE + slot * WORDS;
  u32[k + F.nlookup] = 0;
  // The generation stays at every moment.
  u32.fill(0, k + F.parent, k + WORDS);
  u32[k + F.flags] = type;
  counters.count(counters.Counter.nodes);
  return slot;
}

/** Returns a record to the free list. Its name must have been removed; the next user gets another generation. */
export function freeNode(slot: number): void {
  const k = BASE + slot * WORDS;
  if ((u32[k + F.flags] as number) & FLAG.HASHED_INO) removeIno(slot);
  freeName(u32[k + F.lowerName] as number);
  u32[k + F.generation] = (u32[k + F.generation] as number) + 1;
  u32[k + F.flags] = 0;
  u32[k + F.nameNext] = u32[STATE + 1] as number;
  u32[STATE + 1] = slot;
  const live = (HEADER + counters.Counter.nodes) >>> 2;
  u32[live] = (u32[live] as number) - 1;
}

function nameBucket(parent: number, name: number, length: number): number {
  return (NAME_BUCKETS >>> 2) + (hashName(parent, name, length) & (BUCKET_COUNT - 1));
}

/** The node or alias with this name in `parent`, or 0. */
export function findName(parent: number, name: number, length: number): number {
  let slot = u32[nameBucket(parent, name, length)] as number;
  while (slot !== 0) {
    const k = BASE + slot * WORDS;
    if (u32[k + F.parent] === parent && nameEquals(u32[k + F.name] as number, name, length)) {
      return slot;
    }
    slot = u32[k + F.nameNext] as number;
  }
  return 0;
}

const pair = new Float64Array(1);
const halves = new Uint32Array(pair.buffer);

/** Parent and name by one store: a node is never between two places. */
function setPlace(k: number, parent: number, ref: number): void {
  halves[0] = parent;
  halves[1] = ref;
  f64[(k + F.parent) >>> 1] = pair[0] as number;
}

/** Gives a node its place; `parent` gains a child. @returns false when the name arena is full. */
export function insertName(slot: number, parent: number, name: number, length: number): boolean {
  const ref = allocName(name, length);
  if (ref === 0) return false;
  setPlace(BASE + slot * WORDS, parent, ref);
  linkName(slot);
  return true;
}

/** Makes a node findable in its place, and counts it there. */
function linkName(slot: number): void {
  enterName(slot);
  const c = BASE + get(slot, F.parent) * WORDS + F.children;
  u32[c] = (u32[c] as number) + 1;
}

function enterName(slot: number): void {
  const k = BASE + slot * WORDS;
  const ref = u32[k + F.name] as number;
  const bucket = nameBucket(u32[k + F.parent] as number, nameAt(ref), nameLength(ref));
  u32[k + F.nameNext] = u32[bucket] as number;
  u32[bucket] = slot;
}

function unlinkName(slot: number): void {
  const k = BASE + slot * WORDS;
  const parent = u32[k + F.parent] as number;
  const ref = u32[k + F.name] as number;
  const bucket = nameBucket(parent, nameAt(ref), nameLength(ref));
  let at = bucket;
  while (u32[at] !== slot && u32[at] !== 0) {
    at = BASE + (u32[at] as number) * WORDS + F.nameNext;
  }
  if (u32[at] === slot) u32[at] = u32[k + F.nameNext] as number;
  u32[k + F.nameNext] = 0;
  const c = BASE + parent * WORDS + F.children;
  u32[c] = (u32[c] as number) - 1;
}

/**
 * Gives a node that has a place another one, in one step. Its old name's reference is freed, unless `keep`: then it is
 * returned and the caller owns it. When the name arena is full, the node is left without a place.
 */
export function moveName(
  slot: number,
  parent: number,
  name: number,
  length: number,
  keep = false,
): number {
  const ref = allocName(name, length);
  if (ref === 0) return removeName(slot, keep);
  unlinkName(slot);
  const old = get(slot, F.name);
  setPlace(BASE + slot * WORDS, parent, ref);
  linkName(slot);
  if (keep) return old;
  freeName(old);
  return 0;
}

/**
 * Takes a node out of its place. The name reference is freed, unless `keep`: then it is returned and the caller owns it.
 */
export function removeName(slot: number, keep = false): number {
  const k = BASE + slot * WORDS;
  const ref = u32[k + F.name] as number;
  if (ref === 0) return 0;
  unlinkName(slot);
  setPlace(k, 0, 0);
  if (keep) return ref;
  freeName(ref);
  return 0;
}

/** Buckets in use while only objects with several names are entered: they touch less memory. */
const FEW_INO_BUCKETS = 256 * 1024;
let inoMask = FEW_INO_BUCKETS - 1;

function inoBucket(lo: number, hi: number): number {
  const h = Math.imul(lo ^ Math.imul(hi, 0x85ebca6b), 0x9e3779b1) >>> 11;
  return (INO_BUCKETS >>> 2) + (h & inoMask);
}

/** The node entered under this inode number, or 0. Only objects with several names are, unless nodeids are numbers. */
export function findIno(lo: number, hi: number): number {
  let slot = u32[inoBucket(lo, hi)] as number;
  while (slot !== 0) {
    const k = BASE + slot * WORDS;
    if (u32[k + F.inoLo] === lo && u32[k + F.inoHi] === hi) return slot;
    slot = u32[k + F.inoNext] as number;
  }
  return 0;
}

/** Enters a node under its inode number, once; never one whose number is another's. */
export function insertIno(slot: number): void {
  const k = BASE + slot * WORDS;
  if ((u32[k + F.flags] as number) & (FLAG.HASHED_INO | FLAG.OWN_ID)) return;
  const bucket = inoBucket(u32[k + F.inoLo] as number, u32[k + F.inoHi] as number);
  u32[k + F.inoNext] = u32[bucket] as number;
  u32[bucket] = slot;
  setFlag(slot, FLAG.HASHED_INO);
}

export function removeIno(slot: number): void {
  const k = BASE + slot * WORDS;
  let at = inoBucket(u32[k + F.inoLo] as number, u32[k + F.inoHi] as number);
  while (u32[at] !== slot && u32[at] !== 0) at = BASE + (u32[at] as number) * WORDS + F.inoNext;
  if (u32[at] === slot) u32[at] = u32[k + F.inoNext] as number;
  u32[k + F.inoNext] = 0;
  clearFlag(slot, FLAG.HASHED_INO);
}

/** The field in which a node without a name keeps what a successor needs to know of it: a text (names.ts), or 0. */
export function keptField(slot: number): number {
  return (get(slot, F.flags) & TYPE_MASK) === DIR ? F.lowerName : F.children;
}

/** DT_DIR. */
const DIR = 4;

/** The first slot above all that were ever in use. */
export function nodesEnd(): number {
  return u32[STATE] || ROOT;
}

/** For a successor: nothing is findable, and nothing free. Then relinkNode() or releaseSlot() for each record. */
export function forgetLinks(): void {
  clearMemory(NAME_BUCKETS, 4 * BUCKET_COUNT);
  clearMemory(INO_BUCKETS, 4 * INO_BUCKET_COUNT);
  u32[STATE + 1] = 0;
}

/** Makes a node findable again that has a place, a number under which it was entered, or both; it is counted already. */
export function relinkNode(slot: number): void {
  if (get(slot, F.name) !== 0) enterName(slot);
  // Where nodeids are numbers a predecessor may have died while it had the node taken out.
  if (!hasFlag(slot, FLAG.HASHED_INO) && !(numbered && !hasFlag(slot, FLAG.ALIAS))) return;
  clearFlag(slot, FLAG.HASHED_INO);
  insertIno(slot);
}

/** Puts an empty record on the free list. */
export function releaseSlot(slot: number): void {
  put(slot, F.nameNext, u32[STATE + 1] as number);
  u32[STATE + 1] = slot;
}
