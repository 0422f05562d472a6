// Where a node's object really lies: from a nodeid to a layer, a directory record and a name, or a descriptor.
// Every operation on an existing object starts here.
// Follows the path types of fs/overlayfs/util.c (ovl_path_real, ovl_path_lower).

import type { Layer } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { emptyPath } from '../linux/files.js';
import type { Request } from '../vfs/filesystem.js';
import { H, get as handleGet } from '../vfs/handles.js';
import { nameAt } from '../vfs/names.js';
import { F, FLAG, findIno, findName, get, hasFlag, slotOf, TYPE_MASK } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { layerFor, stackAt } from './stacks.js';

/** The node of the current request, or 0 when its nodeid is stale. */
export function nodeOf(o: Overlay, r: Request): number {
  return nodeBy(o, r.nodeLo, r.nodeHi);
}

/** The node that a nodeid names, its place known, or 0. */
export function nodeBy(o: Overlay, lo: number, hi: number): number {
  const slot = slotOf(lo, hi);
  return hasFlag(slot, FLAG.INHERITED) ? o.settle(slot) : slot;
}

/** The node or alias with this name in `parent`, its place and its target's known, or 0. */
export function childOf(o: Overlay, parent: number, name: number, nameLen: number): number {
  let slot = findName(parent, name, nameLen);
  // What turns out to be elsewhere is not found again.
  while (hasFlag(slot, FLAG.INHERITED)) {
    if (o.settle(resolve(slot)) === 0 && findName(parent, name, nameLen) === slot) return 0;
    slot = findName(parent, name, nameLen);
  }
  return slot;
}

/** The node entered under this inode number, its place known, or 0. */
export function nodeByIno(o: Overlay, lo: number, hi: number): number {
  let slot = findIno(lo, hi);
  // Of what cannot be reached any more the number leads nowhere.
  while (hasFlag(slot, FLAG.INHERITED)) {
    if (o.settle(slot) === 0 && findIno(lo, hi) === slot) return 0;
    slot = findIno(lo, hi);
  }
  return slot;
}

/** The node that a found slot stands for: itself, or an alias's target. */
export function resolve(slot: number): number {
  return hasFlag(slot, FLAG.ALIAS) ? get(slot, F.upper) : slot;
}

export function isDir(slot: number): boolean {
  return (get(slot, F.flags) & TYPE_MASK) === DT.DIR;
}

export function typeOfNode(slot: number): number {
  return get(slot, F.flags) & TYPE_MASK;
}

/** Where an object is: a layer, a directory record there and a name; filled by locate(). */
export interface Place {
  layer: Layer | undefined;
  dir: number;
  name: number;
  /** >= 0: an fd that is the object itself; layer and dir do not count then, the name is empty. */
  fd: number;
}

const place: Place = { layer: undefined, dir: 0, name: 0, fd: -1 };

/** Fills the shared Place for a node's topmost object; valid until the next call. */
export function locate(o: Overlay, slot: number): Place {
  place.fd = get(slot, F.fd) - 1;
  place.name = emptyPath();
  if (place.fd >= 0) return place;
  if (hasFlag(slot, FLAG.ORPHAN) && hasFlag(slot, FLAG.UPPER)) {
    // An unlinked upper file is reached through one of its open handles.
    const handle = get(slot, F.handles);
    place.fd = handle === 0 ? -1 : handleGet(handle, H.fd) - 1;
    place.layer = undefined;
  } else if (isDir(slot)) {
    const upper = get(slot, F.upper);
    place.dir = upper !== 0 ? upper : stackAt(slot, 0);
    place.layer = upper !== 0 ? o.upper : layerFor(o, place.dir);
  } else if (hasFlag(slot, FLAG.UPPER)) {
    place.layer = o.upper;
    place.dir = get(get(slot, F.parent), F.upper);
    place.name = nameAt(get(slot, F.name));
  } else {
    locateMetadata(o, slot);
  }
  return place;
}

/** As locateLower(), but for the metadata of a metacopy file in a lower, which may lie in another layer than its data. */
export function locateMetadata(o: Overlay, slot: number): Place {
  const metadata = hasFlag(slot, FLAG.METACOPY) ? o.metadata.get(slot) : undefined;
  if (metadata === undefined) return locateLower(o, slot);
  place.fd = -1;
  place.dir = metadata.dir;
  place.layer = layerFor(o, metadata.dir);
  place.name = nameAt(metadata.name);
  return place;
}

/** As locate(), for the lower object of a file (the data of a metacopy file: no layer where it is gone; the source of a copy-up). */
export function locateLower(o: Overlay, slot: number): Place {
  place.fd = -1;
  place.dir = get(slot, F.lower);
  place.layer = place.dir === 0 ? undefined : layerFor(o, place.dir);
  place.name = nameAt(get(slot, F.lowerName) || get(slot, F.name));
  return place;
}
