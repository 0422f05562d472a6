// The tables of nodes, names and handles as a successor takes them over: what is certain stays, all else is made again.
// Called once by a filesystem that succeeds another (FileSystem.succeed), before any request.
// Certain at every instruction of a predecessor: generations, lookup counts, places, types, st_ino, handles and their nodes.

import { DT } from '../linux/constants.js';
import { u32 } from '../linux/memory.js';
import * as counters from './counters.js';
import {
  forgetFreeHandles,
  H,
  get as handleGet,
  handlesEnd,
  KIND,
  releaseHandle,
  relinkHandle,
} from './handles.js';
import { requestInHand, unfinished } from './journal.js';
import { NameSweep } from './names.js';
import {
  F,
  FLAG,
  forgetLinks,
  get,
  nodesEnd,
  put,
  ROOT,
  rec,
  releaseSlot,
  relinkNode,
  TYPE_MASK,
  WORDS,
} from './nodes.js';

const DIR: number = DT.DIR;

/**
 * Makes the tables whole again. Every node but the root then has FLAG.INHERITED, and nothing in it that says where it lies
 * in the layers; handles have no descriptors. Linear in the records that were ever in use at the same time.
 */
export function rebuildTables(): void {
  const end = nodesEnd();
  strip(end);
  while (removeMisplaced(end));
  forgetLinks();
  forgetFreeHandles();
  const handles = takeHandles();
  countReferences(end);
  removeUnreferenced(end);
  const nodes = relink(end);
  counters.set(counters.Counter.nodes, nodes);
  counters.set(counters.Counter.handles, handles);
}

// The loops over all nodes read the arena through a constant of their own: the exported one is a variable to V8.

/** Empties a record. Its nodeid is nobody's from now on. */
function clear(slot: number): void {
  put(slot, F.generation, get(slot, F.generation) + 1);
  put(slot, F.flags, 0);
  put(slot, F.nlookup, 0);
  put(slot, F.name, 0);
}

/** Leaves of each record what is certain. */
function strip(end: number): void {
  const words = u32;
  for (let slot = ROOT, k = rec(ROOT); slot < end; slot++, k += WORDS) {
    const flags = words[k + F.flags] as number;
    if (flags === 0) continue;
    const placed = words[k + F.parent] !== 0 && words[k + F.name] !== 0;
    // Half made, or made for practice.
    if (!placed && (flags & FLAG.ORPHAN) === 0 && slot !== ROOT) {
      clear(slot);
      continue;
    }
    const isAlias = (flags & FLAG.ALIAS) !== 0;
    const isDir = (flags & TYPE_MASK) === DIR;
    if (!placed) words[k + F.name] = 0;
    words[k + F.nameNext] = 0;
    if (!isAlias) words[k + F.upper] = 0;
    words[k + F.lower] = 0;
    // In the one or the other a node keeps a text; see keptField().
    if (!isDir) words[k + F.lowerName] = 0;
    if (isDir || isAlias) words[k + F.children] = 0;
    words[k + F.inoNext] = 0;
    words[k + F.fd] = 0;
    words[k + F.handles] = 0;
    // A name makes it none: it was given after the flag was set.
    const state = placed ? flags & ~FLAG.ORPHAN : flags;
    words[k + F.flags] = slot === ROOT ? state : state | FLAG.INHERITED;
  }
}

/** Removes what lies in no directory, or names nothing: what was half made, or made for practice. @returns whether there was any. */
function removeMisplaced(end: number): boolean {
  const words = u32;
  let found = false;
  for (let slot = ROOT + 1, k = rec(slot); slot < end; slot++, k += WORDS) {
    const flags = words[k + F.flags] as number;
    if (flags === 0) continue;
    const placed = words[k + F.name] !== 0;
    if (placed && !isDirectory(words[k + F.parent] as number, end)) clear(slot);
    else if (flags & FLAG.ALIAS && !isFile(words[k + F.upper] as number, end)) clear(slot);
    else continue;
    found = true;
  }
  return found;
}

const flagsOf = (slot: number, end: number): number =>
  slot >= ROOT && slot < end ? get(slot, F.flags) : 0;

const isDirectory = (slot: number, end: number): boolean =>
  (flagsOf(slot, end) & TYPE_MASK) === DIR;

/** Whether an alias may stand for it. */
function isFile(slot: number, end: number): boolean {
  const flags = flagsOf(slot, end);
  return flags !== 0 && (flags & FLAG.ALIAS) === 0 && (flags & TYPE_MASK) !== DIR;
}

/** Gives each node its handles. @returns how many there are. */
function takeHandles(): number {
  const end = nodesEnd();
  const unanswered = unfinished();
  let count = 0;
  for (let handle = handlesEnd() - 1; handle > 0; handle--) {
    const node = handleGet(handle, H.node);
    const flags = flagsOf(node, end);
    if (flags === 0 || flags & FLAG.ALIAS) {
      releaseHandle(handle);
    } else if (unanswered && handleGet(handle, H.unique) === requestInHand()) {
      // The kernel asks for it again. A node that was made for it is nobody's either.
      if (handleGet(handle, H.kind) & KIND.MADE) put(node, F.nlookup, 0);
      releaseHandle(handle);
    } else {
      relinkHandle(handle);
      count++;
    }
  }
  return count;
}

/** Children of directories, aliases of files. */
function countReferences(end: number): void {
  const words = u32;
  for (let slot = ROOT + 1, k = rec(slot); slot < end; slot++, k += WORDS) {
    const flags = words[k + F.flags] as number;
    if (flags === 0) continue;
    if (flags & FLAG.ALIAS) {
      const list = rec(words[k + F.upper] as number) + F.upper;
      words[k + F.children] = words[list] as number;
      words[list] = slot;
    }
    if (words[k + F.name] === 0) continue;
    const count = rec(words[k + F.parent] as number) + F.children;
    words[count] = (words[count] as number) + 1;
  }
}

/** Removes what neither the kernel nor a handle nor a child refers to. */
function removeUnreferenced(end: number): void {
  const words = u32;
  for (let slot = ROOT + 1, k = rec(slot); slot < end; slot++, k += WORDS) {
    if (words[k + F.nlookup] === 0) remove(slot);
  }
}

/** Removes a node if nothing refers to it; then its directories, likewise. */
function remove(slot: number): void {
  const doubtful = [slot];
  for (let at = doubtful.pop(); at !== undefined; at = doubtful.pop()) {
    const flags = get(at, F.flags);
    if (at === ROOT || flags === 0 || flags & FLAG.ALIAS) continue;
    if (get(at, F.nlookup) !== 0 || get(at, F.handles) !== 0) continue;
    if ((flags & TYPE_MASK) === DIR) {
      if (get(at, F.children) !== 0) continue;
    } else {
      for (let alias = get(at, F.upper); alias !== 0; ) {
        const next = get(alias, F.children);
        leave(alias, doubtful);
        alias = next;
      }
    }
    leave(at, doubtful);
  }
}

/** Takes a record out of its directory, which may have lost its last use. */
function leave(slot: number, doubtful: number[]): void {
  const parent = get(slot, F.name) === 0 ? 0 : get(slot, F.parent);
  clear(slot);
  if (parent === 0) return;
  put(parent, F.children, get(parent, F.children) - 1);
  doubtful.push(parent);
}

/** Buckets, free list, names. @returns how many nodes there are. */
function relink(end: number): number {
  const words = u32;
  const names = new NameSweep();
  let count = 0;
  for (let slot = end - 1, k = rec(slot); slot >= ROOT; slot--, k -= WORDS) {
    const flags = words[k + F.flags] as number;
    if (flags === 0) {
      releaseSlot(slot);
      continue;
    }
    count++;
    const ref = words[k + F.name] as number;
    if (ref !== 0) names.name(ref);
    if ((flags & FLAG.ALIAS) === 0) {
      const kept = words[k + ((flags & TYPE_MASK) === DIR ? F.lowerName : F.children)] as number;
      if (kept !== 0) names.text(kept);
    }
    relinkNode(slot);
  }
  names.finish();
  return count;
}
