// A writable directory in memory that no name leads to, where the server may practise changes that nobody sees.
// Made for fuse/rehearse.ts while the mount is idle after its start; gone with the last reference to its node.
// Only the directory is special: what is done in it takes the same way as in any directory of the upper layer.

import { DT } from '../linux/constants.js';
import { close } from '../linux/files.js';
import { privateTmpfs } from '../linux/mount-api.js';
import { allocNode, F, FLAG, ownNodeid, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';

/** @returns the directory's node, with one reference; 0 where there can be none (read-only, no privilege over mounts). */
export function practicePlace(o: Overlay): number {
  if (o.upper === undefined) return 0;
  const fd = privateTmpfs();
  if (fd < 0) return 0;
  const slot = allocNode(DT.DIR);
  const dir = slot === 0 ? 0 : o.upper.adopt(fd);
  if (dir === 0) {
    close(fd);
    return 0;
  }
  put(slot, F.nlookup, 1);
  put(slot, F.upper, dir);
  setFlag(slot, FLAG.UPPER | FLAG.FRESH | FLAG.OPAQUE);
  if (o.exporting !== undefined) ownNodeid(slot);
  return slot;
}
