// Objects that are about to lose their last name while somebody uses them: what a successor needs in order to reach them.
// Called by unlink, rmdir, rename and tmpfile before the name goes; undone where it stays after all.
// An open file of the upper gets a second name in the workdir; for the rest a text is kept in the tables (kept.ts).

import { linkAt, linkFd, unlinkAt } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { Attr } from '../vfs/attr.js';
import { nameAt } from '../vfs/names.js';
import { clearFlag, F, FLAG, get, hasFlag, nodesEnd, ROOT, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { dropKept, hiddenName, keepAttr, keepLower } from './kept.js';
import { attrOf } from './objects.js';
import { isDir } from './places.js';
import { RECORD } from './work.js';

/** Called before the name `record` (a node or an alias) goes. */
export function keepForSuccessor(o: Overlay, record: number): void {
  if (hasFlag(record, FLAG.ALIAS)) return;
  if (isDir(record)) {
    if (get(record, F.nlookup) === 0 || attrOf(o, record, RECORD) < 0) return;
    u32[(RECORD + Attr.nlink) >>> 2] = 0;
    keepAttr(record, RECORD);
    return;
  }
  // Another name is left, or nobody has it open.
  if (get(record, F.upper) !== 0 || get(record, F.handles) === 0) return;
  const inUpper = hasFlag(record, FLAG.UPPER);
  if (!inUpper || hasFlag(record, FLAG.METACOPY)) keepLower(o, record);
  if (inUpper) hide(o, record);
}

/** The name stays. */
export function keepNothing(o: Overlay, record: number): void {
  if (hasFlag(record, FLAG.ALIAS)) return;
  dropKept(record);
  unhide(o, record);
}

/** Gives an upper file a name in the workdir; where that cannot be, a successor will not reach it. */
function hide(o: Overlay, slot: number): void {
  const fd = get(slot, F.fd) - 1;
  if (fd >= 0) {
    hideFile(o, slot, fd);
    return;
  }
  const upper = o.upper as NonNullable<Overlay['upper']>;
  const dirfd = upper.fd(get(get(slot, F.parent), F.upper));
  // First: whoever sweeps the workdir asks the nodes.
  setFlag(slot, FLAG.HIDDEN);
  const r = linkAt(dirfd, nameAt(get(slot, F.name)), o.config.workFd, hiddenName(slot));
  if (r < 0) clearFlag(slot, FLAG.HIDDEN);
}

/** As hide(), for a file without a name that `fd` (O_PATH allowed) refers to. */
export function hideFile(o: Overlay, slot: number, fd: number): void {
  setFlag(slot, FLAG.HIDDEN);
  if (linkFd(fd, o.config.workFd, hiddenName(slot)) < 0) clearFlag(slot, FLAG.HIDDEN);
}

/** Takes the name in the workdir away: the object has another one again, or nobody uses it any more. */
export function unhide(o: Overlay, slot: number): void {
  if (!hasFlag(slot, FLAG.HIDDEN)) return;
  unlinkAt(o.config.workFd, hiddenName(slot));
  clearFlag(slot, FLAG.HIDDEN);
}

/** At the end of the mount. */
export function unhideAll(o: Overlay): void {
  const end = nodesEnd();
  for (let slot = ROOT + 1; slot < end; slot++) {
    if (!hasFlag(slot, FLAG.ALIAS)) unhide(o, slot);
  }
}
