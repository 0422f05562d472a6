// A child node with its name, and further names of one that is known.
// Made by lookup for what it finds and by create for what it makes.

import { E } from '../linux/errno.js';
import { allocNode, F, FLAG, freeNode, get, insertName, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { showAttr, statNode } from './objects.js';

/** Allocates the child with its name; frees it again when the name table is full. */
export function newNode(parent: number, name: number, nameLen: number, type: number): number {
  const slot = allocNode(type);
  if (slot === 0) return -E.NOMEM;
  if (!insertName(slot, parent, name, nameLen)) {
    freeNode(slot);
    return -E.NOMEM;
  }
  return slot;
}

/** Another name of a node that is already known. */
export function addAlias(
  o: Overlay,
  parent: number,
  target: number,
  name: number,
  nameLen: number,
  flags: number,
  attr: number,
): number {
  const slot = newNode(parent, name, nameLen, get(target, F.flags) & 15);
  if (slot < 0) return slot;
  setFlag(slot, FLAG.ALIAS | flags);
  put(slot, F.upper, target);
  put(slot, F.children, get(target, F.upper));
  put(target, F.upper, slot);
  const mode = statNode(o, target);
  if (mode < 0) return mode;
  showAttr(o, target, attr);
  return target;
}
