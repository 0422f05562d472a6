// Directory listings: the merge of all layers, taken once for each open directory, with cookies that stay valid.
// Called for OPENDIR, READDIR, READDIRPLUS and RELEASEDIR, and by rmdir and rename to see whether a directory is empty.
// Follows: fs/overlayfs/readdir.c; cookies are byte positions in the snapshot, so seekdir(3) needs no search.

import type { Layer } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes, u8, u32 } from '../linux/memory.js';
import { Entry } from '../vfs/attr.js';
import type { DirSink, OpenReply, Request } from '../vfs/filesystem.js';
import { OPEN } from '../vfs/filesystem.js';
import { allocHandle, freeHandle, H, get as handleGet, handleOf, KIND } from '../vfs/handles.js';
import { F, FLAG, findName, get, hasFlag, ROOT, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { freeUnused } from './forget.js';
import { answerEntry, hidesBelow, isXattrWhiteout, lookupChild } from './lookup.js';
import { isWhiteout, shownInoHi } from './objects.js';
import { found, originIno, originLayer } from './origin.js';
import { isDir, nodeOf, resolve } from './places.js';
import { Snapshot } from './snapshot.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { LISTED_NAME, ORIGIN } from './work.js';

const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_NAME = '.wh..wh..opq';

/** Adds what node `slot` shows, without "." and "..", to the snapshot. @returns 0 or -errno. */
function mergeListing(o: Overlay, slot: number, snapshot: Snapshot): number {
  const upperDir = get(slot, F.upper);
  const lowers = stackLength(slot);
  const layers: number[] = upperDir !== 0 ? [upperDir] : [];
  for (let i = 0; i < lowers; i++) layers.push(stackAt(slot, i));
  // Names seen in the layers above, hidden ones included; needed only where there is something below.
  const seen = layers.length > 1 || o.config.aufsWhiteouts ? new Set<string>() : undefined;
  for (const dir of layers) {
    const layer = layerFor(o, dir);
    const r = listLayer(o, slot, layer, dir, seen, snapshot);
    if (r < 0) return r;
  }
  return 0;
}

/** An entry whose d_type does not tell whether it is shown. */
interface Candidate {
  readonly name: string;
  readonly inoLo: number;
  readonly inoHi: number;
}

function listLayer(
  o: Overlay,
  slot: number,
  layer: Layer,
  dir: number,
  seen: Set<string> | undefined,
  snapshot: Snapshot,
): number {
  const { aufsWhiteouts } = o.config;
  const impure = layer.index === 0 && hasFlag(slot, FLAG.IMPURE);
  const xattrWhiteouts = hidesBelow(dir);
  // Character devices may be whiteouts, unknown types need a stat: both after the listing, which shares a buffer.
  const doubtful: Candidate[] = [];
  const hidden: string[] = [];
  const start = snapshot.length;
  const r = layer.list(dir, (name, nameLen, inoLo, inoHi, type) => {
    let text: string | undefined;
    if (seen !== undefined) {
      text = getBytes(name, nameLen);
      if (aufsWhiteouts && text.startsWith(WHITEOUT_PREFIX)) {
        if (text !== OPAQUE_NAME) hidden.push(text.slice(WHITEOUT_PREFIX.length));
        return;
      }
      if (seen.has(text)) return;
      seen.add(text);
    }
    if (type === DT.CHR || type === DT.UNKNOWN || (xattrWhiteouts && type === DT.REG)) {
      doubtful.push({ name: text ?? getBytes(name, nameLen), inoLo, inoHi });
      return;
    }
    snapshot.add(name, nameLen, inoLo, shownInoHi(o, layer.fsId, inoHi), type);
  });
  if (r < 0) return r;
  for (const name of hidden) seen?.add(name);
  for (const entry of doubtful) {
    const length = entry.name.length;
    for (let i = 0; i < length; i++) u8[LISTED_NAME + i] = entry.name.charCodeAt(i);
    u8[LISTED_NAME + length] = 0;
    const mode = layer.stat(dir, LISTED_NAME);
    if (mode === -E.NOENT) continue;
    if (mode < 0) return mode;
    if (isWhiteout(mode)) {
      if (layer.index === 0) setFlag(slot, FLAG.WHITEOUTS);
      continue;
    }
    if (xattrWhiteouts && isXattrWhiteout(o, layer, dir, LISTED_NAME, mode)) continue;
    snapshot.add(
      LISTED_NAME,
      length,
      entry.inoLo,
      shownInoHi(o, layer.fsId, entry.inoHi),
      mode >>> 12,
    );
  }
  if (impure) showOriginNumbers(o, slot, layer, dir, snapshot, start);
  return 0;
}

/** Copied-up objects show their origin's number: entries of the upper from `start` on. */
function showOriginNumbers(
  o: Overlay,
  slot: number,
  layer: Layer,
  dir: number,
  snapshot: Snapshot,
  start: number,
): void {
  for (let at = start; at < snapshot.length; at = snapshot.next(at)) {
    snapshot.putName(at, LISTED_NAME);
    const known = findName(slot, LISTED_NAME, snapshot.nameLength(at));
    if (known !== 0) {
      const node = resolve(known);
      snapshot.setIno(at, get(node, F.inoLo), get(node, F.inoHi));
      continue;
    }
    const n = layer.getxattr(dir, LISTED_NAME, o.marks.origin, ORIGIN, 256);
    if (n <= 0 || !originIno(ORIGIN, n)) continue;
    const from = originLayer(o.config.lowers, ORIGIN) ?? o.config.lowers[0];
    if (from !== undefined) snapshot.setIno(at, found.lo, shownInoHi(o, from.fsId, found.hi));
  }
}

/** Whether the directory shows no entry. @returns 1 empty, 0 not, or -errno. */
export function isEmptyDir(o: Overlay, slot: number): number {
  const snapshot = new Snapshot();
  const r = mergeListing(o, slot, snapshot);
  return r < 0 ? r : snapshot.length === 0 ? 1 : 0;
}

/** The listing of a directory node, "." and ".." included; or -errno. */
function takeSnapshot(o: Overlay, slot: number): Snapshot | number {
  const snapshot = new Snapshot();
  if (hasFlag(slot, FLAG.ORPHAN)) return snapshot;
  const parent = slot === ROOT ? ROOT : get(slot, F.parent);
  u8[LISTED_NAME] = 0x2e;
  u8[LISTED_NAME + 1] = 0x2e;
  snapshot.add(LISTED_NAME, 1, get(slot, F.inoLo), get(slot, F.inoHi), DT.DIR);
  snapshot.add(LISTED_NAME, 2, get(parent, F.inoLo), get(parent, F.inoHi), DT.DIR);
  const r = mergeListing(o, slot, snapshot);
  return r < 0 ? r : snapshot;
}

export function opendir(r: Request, flags: number, reply: OpenReply): number {
  const slot = nodeOf(r);
  if (slot === 0) return -E.STALE;
  if (!isDir(slot)) return -E.NOTDIR;
  const handle = allocHandle(slot, -1, flags, KIND.DIR);
  if (handle === 0) return -E.MFILE;
  reply.fhLo = handle;
  reply.fhHi = handleGet(handle, H.generation);
  // The kernel drops its cached listing itself whenever it changes the directory; nobody else does.
  reply.flags = OPEN.CACHE_DIR | OPEN.KEEP_CACHE;
  reply.backingId = 0;
  return 0;
}

export function readdir(
  o: Overlay,
  fhLo: number,
  fhHi: number,
  offset: number,
  sink: DirSink,
): number {
  const handle = handleOf(fhLo, fhHi);
  if (handle === 0) return -E.BADF;
  const slot = handleGet(handle, H.node);
  let snapshot = o.snapshots.get(handle);
  if (snapshot === undefined || offset === 0) {
    const taken = takeSnapshot(o, slot);
    if (typeof taken === 'number') return taken;
    snapshot = taken;
    o.snapshots.set(handle, snapshot);
  }
  if (offset !== snapshot.cursor && !snapshot.isBoundary(offset)) return -E.INVAL;
  for (let at = offset; at < snapshot.length; ) {
    const nameLen = snapshot.nameLength(at);
    if (!sink.fits(nameLen)) break;
    snapshot.putName(at, LISTED_NAME);
    let inoLo = snapshot.inoLo(at);
    let inoHi = snapshot.inoHi(at);
    const next = snapshot.next(at);
    if (sink.plus && !isDots(nameLen)) {
      const child = lookupChild(o, slot, LISTED_NAME, nameLen, sink.entry + Entry.attr);
      if (child > 0) {
        answerEntry(child, sink.entry);
        inoLo = get(child, F.inoLo);
        inoHi = get(child, F.inoHi);
      } else {
        u32.fill(0, sink.entry >>> 2, (sink.entry >>> 2) + 32);
      }
    }
    sink.add(inoLo, inoHi, next, snapshot.type(at), LISTED_NAME, nameLen);
    snapshot.cursor = next;
    at = next;
  }
  return 0;
}

function isDots(nameLen: number): boolean {
  if (u8[LISTED_NAME] !== 0x2e) return false;
  return nameLen === 1 || (nameLen === 2 && u8[LISTED_NAME + 1] === 0x2e);
}

export function releasedir(o: Overlay, fhLo: number, fhHi: number): number {
  const handle = handleOf(fhLo, fhHi);
  if (handle === 0) return -E.BADF;
  const slot = handleGet(handle, H.node);
  o.snapshots.delete(handle);
  freeHandle(handle);
  freeUnused(o, slot);
  return 0;
}
