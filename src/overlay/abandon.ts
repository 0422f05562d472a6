// Nodes whose objects are taken out of the upper behind their backs: each loses its names, as if it had been unlinked.
// Called by stack/discard.ts in the tables of a server that has left; a successor then finds the nodes without a place (inherited.ts).
// Open files keep their object by a name in the workdir, removed directories their attributes, as hide.ts does it for one.

import { O } from '../linux/constants.js';
import { close, statBuffer } from '../linux/files.js';
import { cstrlen, getBytes, u8, u32 } from '../linux/memory.js';
import { linkName, look, openPath } from '../linux/named.js';
import { ATTR_SIZE, Attr, attrFromStat } from '../vfs/attr.js';
import { keepBytes } from '../vfs/names.js';
import {
  F,
  FLAG,
  get,
  hasFlag,
  keptField,
  nodeidHi,
  nodeidLo,
  nodesEnd,
  put,
  ROOT,
  setFlag,
} from '../vfs/nodes.js';
import { hiddenName } from './kept.js';
import { pathOf, pathsOf } from './open-files.js';
import { isDir } from './places.js';
import { RECORD } from './work.js';

/**
 * @param from where the objects lie now, by their old paths. @param work a descriptor of the workdir's `work`.
 * @param isGone whether what had this path is taken away. @returns nodeids of the files that have lost their names.
 */
export function abandonNodes(
  from: number,
  work: number,
  isGone: (path: string) => boolean,
): [number, number][] {
  const lost: [number, number][] = [];
  const end = nodesEnd();
  for (let slot = ROOT + 1; slot < end; slot++) {
    const flags = get(slot, F.flags);
    if (flags === 0 || flags & (FLAG.ALIAS | FLAG.ORPHAN) || (flags & FLAG.UPPER) === 0) continue;
    if (isDir(slot)) keepDirectory(slot, from, isGone);
    else if (loseFile(slot, from, work, isGone)) lost.push([nodeidLo(slot), nodeidHi(slot)]);
  }
  return lost;
}

/** A directory that has no lower one in its place will be a removed one; which it is, lookup finds out. */
function keepDirectory(slot: number, from: number, isGone: (path: string) => boolean): void {
  const path = pathOf(slot);
  if (path === undefined || !isGone(path) || get(slot, keptField(slot)) !== 0) return;
  const fd = openPath(from, path, O.PATH | O.DIRECTORY);
  if (fd === undefined) return;
  const facts = look(fd, '');
  close(fd);
  if (facts === undefined) return;
  u8.set(facts.raw, statBuffer());
  attrFromStat(RECORD);
  const k = RECORD >>> 2;
  u32[k] = get(slot, F.inoLo);
  u32[k + 1] = get(slot, F.inoHi);
  u32[(RECORD + Attr.nlink) >>> 2] = 0;
  put(slot, keptField(slot), keepBytes(RECORD, ATTR_SIZE));
}

/** @returns whether it has no name any more. */
function loseFile(
  slot: number,
  from: number,
  work: number,
  isGone: (path: string) => boolean,
): boolean {
  const paths = pathsOf(slot);
  if (paths.length === 0 || !paths.some(isGone)) return false;
  // A file with other names keeps these: the successor gives it one of them.
  if (!paths.every(isGone)) return false;
  if (get(slot, F.handles) !== 0) hide(slot, from, work, paths);
  for (let alias = get(slot, F.upper); alias !== 0 && hasFlag(alias, FLAG.ALIAS); ) {
    const next = get(alias, F.children);
    put(alias, F.flags, 0);
    put(alias, F.name, 0);
    alias = next;
  }
  // In this order: without a place and without the flag it would be half made.
  setFlag(slot, FLAG.ORPHAN);
  put(slot, F.parent, 0);
  put(slot, F.name, 0);
  return true;
}

function hide(slot: number, from: number, work: number, paths: readonly string[]): void {
  const at = hiddenName(slot);
  const hidden = getBytes(at, cstrlen(at));
  setFlag(slot, FLAG.HIDDEN);
  for (const path of paths) {
    const slash = path.lastIndexOf('/');
    const dir = openPath(from, slash < 0 ? '' : path.slice(0, slash), O.PATH | O.DIRECTORY);
    if (dir === undefined) continue;
    linkName(dir, path.slice(slash + 1), work, hidden);
    close(dir);
  }
}
