// What hides the layers below a name, in the forms that are no device 0:0: aufs' `.wh.` names, and overlay.whiteout on an empty file.
// Asked by lookup, listings and fill where a stack or a directory has them; the device form is isWhiteout() of objects.ts.
// Follows: fs/overlayfs/namei.c and util.c (ovl_path_check_xwhiteout_xattr), aufs(5) for the names.

import { isHiding, type Layer } from '../layer/layer.js';
import { S } from '../linux/constants.js';
import { Statx, statBuffer } from '../linux/files.js';
import { putBytes, u8, u32 } from '../linux/memory.js';
import type { Overlay } from './context.js';
import { MARK } from './marks.js';
import { LONG_NAME } from './work.js';

export function isAufsName(name: number, nameLen: number): boolean {
  return (
    nameLen >= 4 &&
    u8[name] === 0x2e &&
    u8[name + 1] === 0x77 &&
    u8[name + 2] === 0x68 &&
    u8[name + 3] === 0x2e
  );
}

/** `.wh.NAME` beside a missing NAME hides the layers below. */
export function hasAufsWhiteout(layer: Layer, dir: number, name: number, nameLen: number): boolean {
  if (nameLen > 251) return false;
  putBytes(LONG_NAME, '.wh.');
  u8.copyWithin(LONG_NAME + 4, name, name + nameLen);
  u8[LONG_NAME + 4 + nameLen] = 0;
  return layer.stat(dir, LONG_NAME) >= 0;
}

const AUFS_OPAQUE = '.wh..wh..opq';

export function hasAufsOpaque(layer: Layer, dir: number): boolean {
  putBytes(LONG_NAME, AUFS_OPAQUE);
  return layer.stat(dir, LONG_NAME) >= 0;
}

/** A whiteout in xattr form: an empty regular file with overlay.whiteout, in a directory whose opaque mark is "x". */
export function isXattrWhiteout(
  o: Overlay,
  layer: Layer,
  dir: number,
  name: number,
  mode: number,
): boolean {
  if ((mode & S.IFMT) !== S.IFREG) return false;
  const s = (statBuffer() + Statx.size) >>> 2;
  if (u32[s] !== 0 || u32[s + 1] !== 0 || !isHiding(dir)) return false;
  const kept = u8.slice(statBuffer(), statBuffer() + 256);
  const marks = o.marks.read(layer, dir, name);
  u8.set(kept, statBuffer());
  return marks > 0 && (marks & MARK.WHITEOUT) !== 0;
}
