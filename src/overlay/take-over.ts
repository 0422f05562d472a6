// One node takes over what lookup has found under another: the kernel knows the first, and both are the same object.
// Used for nodes that a predecessor left (inherited.ts) and for those that get a name again (export.ts).
// What the kernel was told stays: nodeid, lookup count, handles, backing id.

import { F, freeNode, get, put, removeName } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { isDir } from './places.js';

/**
 * Moves the place in the layers from node `from`, which is freed, to `to`, which has none (or has given it up) and keeps
 * its own flags of `kept`.
 */
export function takeOver(o: Overlay, to: number, from: number, kept: number): void {
  const fields = isDir(to) ? [F.upper, F.lower] : [F.lower, F.lowerName, F.fd];
  for (const field of fields) {
    put(to, field, get(from, field));
    put(from, field, 0);
  }
  put(to, F.flags, get(from, F.flags) | (get(to, F.flags) & kept));
  moveEntry(o.links, from, to);
  moveEntry(o.metadata, from, to);
  removeName(from);
  freeNode(from);
}

function moveEntry<T>(map: Map<number, T>, from: number, to: number): void {
  const value = map.get(from);
  if (value === undefined) map.delete(to);
  else map.set(to, value);
  map.delete(from);
}
