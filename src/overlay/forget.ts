// The end of nodes: taking back the kernel's references, and freeing what a node holds.
// Called for FORGET, after internal lookups that answered nobody, and when an object turns out to be gone.
// Follows the lookup-count rules of FUSE (libfuse's `forget` documentation): a node lives while count, children or handles do.

import { closeFile } from '../layer/layer.js';
import { close } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { freeName } from '../vfs/names.js';
import {
  F,
  FLAG,
  freeNode,
  get,
  hasFlag,
  put,
  ROOT,
  rec,
  removeName,
  setFlag,
} from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { keepNothing } from './hide.js';
import { isDir } from './places.js';
import { dropStack, layerFor } from './stacks.js';

/** Takes back `count` references of the kernel. */
export function forget(o: Overlay, slot: number, count: number): void {
  const k = rec(slot) + F.nlookup;
  const left = (u32[k] as number) - count;
  u32[k] = left < 0 ? 0 : left;
  if (left <= 0) freeUnused(o, slot);
}

/** Frees the node if nothing refers to it; then its parents, likewise. */
export function freeUnused(o: Overlay, slot: number): void {
  let at = slot;
  while (at > ROOT) {
    const k = rec(at);
    if ((u32[k + F.nlookup] as number) !== 0 || (u32[k + F.handles] as number) !== 0) return;
    if (isDir(at) && (u32[k + F.children] as number) !== 0) return;
    if (o.copies.has(at) || o.filling?.holds(at)) return;
    const parent = u32[k + F.parent] as number;
    destroy(o, at);
    at = parent;
  }
}

function destroy(o: Overlay, slot: number): void {
  // The own name goes last: it keeps the parent, which freeUnused() frees next, if an additional name lies there too.
  dropAliases(o, slot);
  o.exporting?.forgotten(slot);
  removeName(slot);
  const fd = get(slot, F.fd);
  if (fd !== 0) close(fd - 1);
  keepNothing(o, slot);
  if (get(slot, F.backing) !== 0) o.host.backingClose(get(slot, F.backing));
  if (isDir(slot)) {
    const upper = get(slot, F.upper);
    if (upper !== 0 && o.upper !== undefined) o.upper.release(upper);
    dropStack(o, slot);
    o.indexes.delete(slot);
    o.snapshots.delete(slot);
    o.misses.delete(slot);
  } else {
    const lower = get(slot, F.lower);
    if (lower !== 0) layerFor(o, lower).release(lower);
    o.links.delete(slot);
    dropContent(o, slot);
    dropMetadata(o, slot);
  }
  freeNode(slot);
}

/** Gives up the place of a metacopy file's metadata in a lower. */
export function dropMetadata(o: Overlay, slot: number): void {
  const metadata = o.metadata.get(slot);
  if (metadata === undefined) return;
  o.metadata.delete(slot);
  layerFor(o, metadata.dir).release(metadata.dir);
  freeName(metadata.name);
}

/** Closes what is kept of a file's content. */
export function dropContent(o: Overlay, slot: number): void {
  const content = o.contents.get(slot);
  if (content === undefined) return;
  o.contents.delete(slot);
  closeFile(content);
}

/** Frees the additional names of a node; their parents may become free too. */
function dropAliases(o: Overlay, slot: number): void {
  if (isDir(slot)) return;
  let alias = get(slot, F.upper);
  put(slot, F.upper, 0);
  while (alias !== 0) {
    const next = get(alias, F.children);
    const parent = get(alias, F.parent);
    removeName(alias);
    freeNode(alias);
    if (parent !== 0) freeUnused(o, parent);
    alias = next;
  }
}

/** Takes an alias record out of its node's list and frees it. */
export function freeAlias(o: Overlay, alias: number): void {
  const target = get(alias, F.upper);
  const next = get(alias, F.children);
  if (get(target, F.upper) === alias) {
    put(target, F.upper, next);
  } else {
    let at = get(target, F.upper);
    while (at !== 0 && get(at, F.children) !== alias) at = get(at, F.children);
    if (at !== 0) put(at, F.children, next);
  }
  const parent = get(alias, F.parent);
  removeName(alias);
  freeNode(alias);
  if (parent !== 0) freeUnused(o, parent);
}

/** Forgets a name (a node's own or an alias) that no longer leads to anything; the node stays while it is referred to. */
export function dropNode(o: Overlay, slot: number): void {
  if (hasFlag(slot, FLAG.ALIAS)) {
    freeAlias(o, slot);
    return;
  }
  const parent = get(slot, F.parent);
  // In this order: without a place and without the flag it would be half made to a successor.
  setFlag(slot, FLAG.ORPHAN);
  removeName(slot);
  freeUnused(o, slot);
  if (parent !== 0) freeUnused(o, parent);
}
