// Which files of the upper are in use, as a server's tables tell it when it has left: by number, and by the names it knew.
// Read by stack/change-layers.ts before a successor takes the tables over.
// A table is right at every moment in what is read here (vfs/nodes.ts): places, types, flags, handles.

import { O } from '../linux/constants.js';
import { getBytes } from '../linux/memory.js';
import { H, get as handleGet, handlesEnd, KIND } from '../vfs/handles.js';
import { nameAt, nameLength } from '../vfs/names.js';
import { F, FLAG, get, hasFlag, nodeidHi, nodeidLo, nodesEnd, ROOT } from '../vfs/nodes.js';
import { isDir } from './places.js';

/** A file of the upper that somebody may change without asking, or through a descriptor that cannot be exchanged. */
export interface OpenFile {
  /** Paths in the upper, latin1, without a leading slash: those that were looked up. */
  readonly paths: readonly string[];
  /** st_ino as the mount shows it. */
  readonly ino: readonly [number, number];
  /** It is not open any more, but may be mapped: the kernel maps what lies behind, and tells nobody. */
  readonly perhaps?: true;
}

/** Deeper is no path. */
const DEPTH_MAX = 4096;

/** The path of a node or alias from the root; undefined: it has none. */
export function pathOf(slot: number): string | undefined {
  const names: string[] = [];
  for (let at = slot; at !== ROOT; at = get(at, F.parent)) {
    const ref = get(at, F.name);
    if (ref === 0 || get(at, F.flags) === 0 || names.length > DEPTH_MAX) return undefined;
    names.push(getBytes(nameAt(ref), nameLength(ref)));
  }
  return names.reverse().join('/');
}

/** The node's own path and those of its aliases. */
export function pathsOf(slot: number): string[] {
  const paths: string[] = [];
  const own = pathOf(slot);
  if (own !== undefined) paths.push(own);
  let alias = get(slot, F.upper);
  for (let n = 0; alias !== 0 && hasFlag(alias, FLAG.ALIAS) && n < DEPTH_MAX; n++) {
    const path = pathOf(alias);
    if (path !== undefined) paths.push(path);
    alias = get(alias, F.children);
  }
  return paths;
}

/** Whether the data of a file with this handle may change, or must stay where the kernel has it open. */
function isBound(handle: number, slot: number): boolean {
  const kind = handleGet(handle, H.kind);
  if (kind & KIND.PASSTHROUGH || get(slot, F.backing) !== 0) return true;
  return (handleGet(handle, H.flags) & O.ACCMODE) !== O.RDONLY;
}

/** Files with a name in the upper that are open for writing, or past the server. */
export function openUpperFiles(): OpenFile[] {
  const found = new Map<number, OpenFile>();
  const end = handlesEnd();
  for (let handle = 1; handle < end; handle++) {
    const slot = handleGet(handle, H.node);
    if (slot === 0 || found.has(slot)) continue;
    if (!isUpperFile(slot) || !isBound(handle, slot)) continue;
    found.set(slot, { paths: pathsOf(slot), ino: [get(slot, F.inoLo), get(slot, F.inoHi)] });
  }
  const last = nodesEnd();
  for (let slot = ROOT + 1; slot < last; slot++) {
    // A mapping keeps the node.
    if (!hasFlag(slot, FLAG.MAPPABLE) || found.has(slot) || !isUpperFile(slot)) continue;
    const ino = [get(slot, F.inoLo), get(slot, F.inoHi)] as const;
    found.set(slot, { paths: pathsOf(slot), ino, perhaps: true });
  }
  return [...found.values()];
}

function isUpperFile(slot: number): boolean {
  const flags = get(slot, F.flags);
  if (flags === 0 || flags & (FLAG.ALIAS | FLAG.ORPHAN) || isDir(slot)) return false;
  return (flags & FLAG.UPPER) !== 0;
}

/** A directory of the upper that the kernel knows. */
export interface KnownDirectory {
  readonly nodeid: readonly [number, number];
  /** From the root, latin1; the root's is empty. */
  readonly path: string;
}

/** The directories of the upper that have nodes. */
export function knownUpperDirectories(): KnownDirectory[] {
  const found: KnownDirectory[] = [];
  const end = nodesEnd();
  for (let slot = ROOT; slot < end; slot++) {
    const flags = get(slot, F.flags);
    if (flags === 0 || flags & (FLAG.ALIAS | FLAG.ORPHAN) || !isDir(slot)) continue;
    if ((flags & FLAG.UPPER) === 0) continue;
    const path = slot === ROOT ? '' : pathOf(slot);
    if (path !== undefined) found.push({ nodeid: [nodeidLo(slot), nodeidHi(slot)], path });
  }
  return found;
}
