// Taking over from a predecessor that was killed: the tables it left, made whole again, instead of an empty start.
// Called by filesystem.ts for a server that succeeds another, before any request.
// The nodes' places in the layers are found again one by one, when somebody asks (inherited.ts).

import { resetDirs } from '../layer/layer.js';
import { cstrlen, getBytes } from '../linux/memory.js';
import { H, get as handleGet, handlesEnd } from '../vfs/handles.js';
import { FLAG, hasFlag, nodesEnd, ROOT } from '../vfs/nodes.js';
import { rebuildTables } from '../vfs/rebuild.js';
import type { Overlay } from './context.js';
import { settle } from './inherited.js';
import { hiddenName } from './kept.js';
import { restoreMode } from './reopen.js';
import { resetStacks } from './stacks.js';
import { STALE } from './stale.js';
import { sweep } from './workdir.js';

/** Makes a predecessor's tables this server's own. The root's layers are to be set next. */
export function takeTables(o: Overlay): void {
  rebuildTables();
  resetDirs(o.layers.flatMap((layer) => (layer === undefined ? [] : [layer.root])));
  resetStacks();
  o.settle = (slot) => settle(o, slot);
  if (o.upper === undefined) return;
  const used = hiddenNames();
  sweep(o.config.workFd, (name) => used.has(name));
}

/** The last of it, for which the root's layers must be known. */
export function settleHandles(o: Overlay): void {
  const end = handlesEnd();
  for (let handle = 1; handle < end; handle++) {
    if (handleGet(handle, H.node) !== 0) restoreMode(o, handle);
  }
}

/** Names in the workdir by which nodes are reached, or may be. */
function hiddenNames(): Set<string> {
  const names = new Set<string>([STALE]);
  const end = nodesEnd();
  for (let slot = ROOT + 1; slot < end; slot++) {
    if (!hasFlag(slot, FLAG.HIDDEN) || hasFlag(slot, FLAG.ALIAS)) continue;
    const at = hiddenName(slot);
    names.add(getBytes(at, cstrlen(at)));
  }
  return names;
}
