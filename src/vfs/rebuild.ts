// The tables of nodes, names and handles as a successor takes them over: what is certain stays, all else is made again.
// Called once by a filesystem that succeeds another (FileSystem.succeed), before any request.
// Certain at every instruction of a predecessor: generations, lookup counts, places, types, st_ino, handles and their nodes.

import { DT } from '../linux/constants.js';
import * as counters from './counters.js';
import {
  forgetFreeHandles,
  H,
  get as handleGet,
  handlesEnd,
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
  hasFlag,
  keptField,
  nodesEnd,
  put,
  ROOT,
  releaseSlot,
  relinkNode,
  TYPE_MASK,
} from './nodes.js';

/**
 * Makes the tables whole again. Every node but the root then has FLAG.INHERITED, and nothing in it that says where it lies
 * in the layers; handles have no descriptors. Linear in the records that were ever in use at the same time.
 */
export function rebuildTables(): void {
  const end = nodesEnd();
  for (let slot = ROOT; slot < end; slot++) strip(slot);
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

const isDir = (slot: number): boolean => (get(slot, F.flags) & TYPE_MASK) === DT.DIR;

/** Empties a record. Its nodeid is nobody's from now on. */
function clear(slot: number): void {
  put(slot, F.generation, get(slot, F.generation) + 1);
  put(slot, F.flags, 0);
  put(slot, F.nlookup, 0);
  put(slot, F.name, 0);
}

/** Leaves of a record what is certain. */
function strip(slot: number): void {
  const flags = get(slot, F.flags);
  if (flags === 0) return;
  const placed = get(slot, F.parent) !== 0 && get(slot, F.name) !== 0;
  // Half made, or made for practice.
  if (!placed && (flags & FLAG.ORPHAN) === 0 && slot !== ROOT) {
    clear(slot);
    return;
  }
  const field = keptField(slot);
  const kept = flags & FLAG.ALIAS ? 0 : keptText(slot);
  if (!placed) put(slot, F.name, 0);
  put(slot, F.nameNext, 0);
  if ((flags & FLAG.ALIAS) === 0) put(slot, F.upper, 0);
  put(slot, F.lower, 0);
  if (kept === 0 || field !== F.lowerName) put(slot, F.lowerName, 0);
  put(slot, F.inoNext, 0);
  put(slot, F.fd, 0);
  put(slot, F.handles, 0);
  if (kept === 0 || field !== F.children) put(slot, F.children, 0);
  // A name makes it none: it was given after the flag was set.
  const state = placed ? flags & ~FLAG.ORPHAN : flags;
  put(slot, F.flags, slot === ROOT ? state : state | FLAG.INHERITED);
}

/** Removes what lies in no directory, or names nothing: what was half made, or made for practice. @returns whether there was any. */
function removeMisplaced(end: number): boolean {
  let found = false;
  for (let slot = ROOT + 1; slot < end; slot++) {
    const flags = get(slot, F.flags);
    if (flags === 0) continue;
    const parent = get(slot, F.parent);
    const homeless = get(slot, F.name) !== 0 && (!isLive(parent, end) || !isDir(parent));
    const target = get(slot, F.upper);
    const pointless =
      (flags & FLAG.ALIAS) !== 0 &&
      (!isLive(target, end) || isDir(target) || hasFlag(target, FLAG.ALIAS));
    if (!homeless && !pointless) continue;
    clear(slot);
    found = true;
  }
  return found;
}

const isLive = (slot: number, end: number): boolean =>
  slot >= ROOT && slot < end && get(slot, F.flags) !== 0;

/** Gives each node its handles. @returns how many there are. */
function takeHandles(): number {
  const end = nodesEnd();
  const unanswered = unfinished();
  let count = 0;
  for (let handle = handlesEnd() - 1; handle > 0; handle--) {
    const node = handleGet(handle, H.node);
    if (node === 0 || !isLive(node, end) || hasFlag(node, FLAG.ALIAS)) {
      releaseHandle(handle);
    } else if (unanswered && handleGet(handle, H.unique) === requestInHand()) {
      // The kernel asks for it again. An unnamed file was made with it, and is to go with it.
      if (hasFlag(node, FLAG.ORPHAN) && get(node, F.nlookup) === 1) put(node, F.nlookup, 0);
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
  for (let slot = ROOT + 1; slot < end; slot++) {
    const flags = get(slot, F.flags);
    if (flags === 0) continue;
    if (flags & FLAG.ALIAS) {
      const target = get(slot, F.upper);
      put(slot, F.children, get(target, F.upper));
      put(target, F.upper, slot);
    }
    if (get(slot, F.name) === 0) continue;
    const parent = get(slot, F.parent);
    put(parent, F.children, get(parent, F.children) + 1);
  }
}

/** Removes what neither the kernel nor a handle nor a child refers to. */
function removeUnreferenced(end: number): void {
  const doubtful: number[] = [];
  const leave = (slot: number): void => {
    const parent = get(slot, F.name) === 0 ? 0 : get(slot, F.parent);
    clear(slot);
    if (parent === 0) return;
    put(parent, F.children, get(parent, F.children) - 1);
    doubtful.push(parent);
  };
  for (let slot = ROOT + 1; slot < end; slot++) {
    for (let at: number | undefined = slot; at !== undefined; at = doubtful.pop()) {
      const flags = get(at, F.flags);
      if (at === ROOT || flags === 0 || flags & FLAG.ALIAS) continue;
      if (get(at, F.nlookup) !== 0 || get(at, F.handles) !== 0) continue;
      if (isDir(at)) {
        if (get(at, F.children) !== 0) continue;
      } else {
        for (let alias = get(at, F.upper); alias !== 0; ) {
          const next = get(alias, F.children);
          leave(alias);
          alias = next;
        }
      }
      leave(at);
    }
  }
}

/** What a node keeps: of a directory and of a file in fields that have no other use. */
const keptText = (slot: number): number => get(slot, keptField(slot));

/** Buckets, free list, names. @returns how many nodes there are. */
function relink(end: number): number {
  const names = new NameSweep();
  let count = 0;
  for (let slot = end - 1; slot >= ROOT; slot--) {
    const flags = get(slot, F.flags);
    if (flags === 0) {
      releaseSlot(slot);
      continue;
    }
    count++;
    if (get(slot, F.name) !== 0) {
      names.name(get(slot, F.name));
      // It counts itself.
      const parent = get(slot, F.parent);
      put(parent, F.children, get(parent, F.children) - 1);
    }
    if ((flags & FLAG.ALIAS) === 0) names.text(keptText(slot));
    relinkNode(slot);
  }
  names.finish();
  return count;
}
