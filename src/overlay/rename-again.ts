// A rename that a predecessor has begun: whether it has happened is seen in the upper; what follows it is done here.
// Called by rename for a request that is handled again after a death, and by exchanges to note what they are about to do.
// The tables may have followed or not: places are given as if nothing was known, and nodes find their own (inherited.ts).

import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { mknodAt, Statx, statAt, statBuffer, unlinkAt } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { note, noted } from '../vfs/journal.js';
import { clearFlag, F, FLAG, findName, get, hasFlag, moveName } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { freeAlias } from './forget.js';
import { lose } from './inherited.js';
import { isWhiteout } from './objects.js';
import { coversLower, finishRemoval } from './remove.js';

/** One side of a rename. */
export interface Side {
  parent: number;
  name: number;
  nameLen: number;
  /** Node or alias with that name; 0 when there is none. */
  record: number;
}

/** Words of the journal: the records that change places, and the inode number of the first in the upper. */
const NOTE = { from: 4, to: 5, inoLo: 6, inoHi: 7 } as const;

/** Notes which objects change places. @param fromFd the upper directory of the first. */
export function noteExchange(from: Side, to: Side, fromFd: number): void {
  note(NOTE.from, from.record);
  note(NOTE.to, to.record);
  statAt(fromFd, from.name);
  const ino = (statBuffer() + Statx.ino) >>> 2;
  note(NOTE.inoLo, u32[ino] as number);
  note(NOTE.inoHi, u32[ino + 1] as number);
}

/** Completes the rename if it has happened. @returns whether it has. */
export function finishRename(o: Overlay, from: Side, to: Side, exchange: boolean): boolean {
  if (get(from.parent, F.upper) === 0 || get(to.parent, F.upper) === 0) return false;
  return exchange ? finishExchange(o, from, to) : finishMove(o, from, to);
}

function finishExchange(o: Overlay, from: Side, to: Side): boolean {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  if (statAt(upper.fd(get(to.parent, F.upper)), to.name) < 0) return false;
  const ino = (statBuffer() + Statx.ino) >>> 2;
  if (u32[ino] !== noted(NOTE.inoLo) || u32[ino + 1] !== noted(NOTE.inoHi)) return false;
  place(noted(NOTE.from), to);
  place(noted(NOTE.to), from);
  return true;
}

/** Gives a record its new place, unless nobody refers to it any more. */
function place(record: number, side: Side): void {
  if (get(record, F.name) === 0) return;
  moveName(record, side.parent, side.name, side.nameLen);
  clearFlag(record, FLAG.FRESH);
}

function finishMove(o: Overlay, from: Side, to: Side): boolean {
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const fromDir = get(from.parent, F.upper);
  const left = upper.stat(fromDir, from.name);
  // What is to be moved was copied up before.
  const whiteout = left >= 0 && isWhiteout(left);
  if (left !== -E.NOENT && !whiteout) return false;
  const arrived = upper.stat(get(to.parent, F.upper), to.name);
  if (arrived < 0 || isWhiteout(arrived)) return false;
  const covers = coversLower(o, from.parent, 0, from.name, from.nameLen);
  const fromFd = upper.fd(fromDir);
  if (covers && !whiteout) mknodAt(fromFd, from.name, S.IFCHR, 0);
  else if (whiteout && !covers) unlinkAt(fromFd, from.name);
  const record = findName(from.parent, from.name, from.nameLen);
  if (record !== 0) {
    const replaced = findName(to.parent, to.name, to.nameLen);
    if (replaced !== 0) {
      if (hasFlag(replaced, FLAG.ALIAS)) freeAlias(o, replaced);
      else lose(o, replaced);
    }
    place(record, to);
  }
  finishRemoval(o);
  return true;
}
