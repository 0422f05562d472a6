// Directory listings: the merge of all layers, kept for the directories read last; no state belongs to an open directory.
// Called for READDIR and READDIRPLUS (OPENDIR is refused once, and never asked again), and by rmdir and rename.
// Follows: fs/overlayfs/readdir.c; FUSE_NO_OPENDIR_SUPPORT: the kernel opens directories itself and caches what they list.

import { isHiding, isTelling, type Layer } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes, u8, u32 } from '../linux/memory.js';
import { Entry } from '../vfs/attr.js';
import type { DirSink, OpenReply, Request } from '../vfs/filesystem.js';
import { ABSENT, OPEN } from '../vfs/filesystem.js';
import { allocHandle, freeHandle, H, get as handleGet, handleOf, KIND } from '../vfs/handles.js';
import { F, FLAG, findName, get, hasFlag, ROOT, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { DirIndexBuilder } from './dir-index.js';
import { setIndex } from './dir-index-cache.js';
import { freeUnused } from './forget.js';
import { answerEntry, lookupChild } from './lookup.js';
import { fold, number, shown } from './numbers.js';
import { isWhiteout } from './objects.js';
import { originNumber } from './origin.js';
import { readOwnNumber } from './own-number.js';
import { isDir, nodeOf, resolve } from './places.js';
import { Snapshot } from './snapshot.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { isXattrWhiteout } from './whiteouts.js';
import { LISTED_NAME, ORIGIN, RECORD } from './work.js';

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
  // Who lists a merged directory mostly looks its names up next: its index is a by-product.
  const index = layers.length > 1 && !o.indexes.has(slot) ? new DirIndexBuilder() : undefined;
  let position = upperDir !== 0 ? -1 : 0;
  for (const dir of layers) {
    const layer = layerFor(o, dir);
    const r = listLayer(o, slot, layer, dir, position++, seen, index, snapshot);
    if (r < 0) return r;
  }
  if (index !== undefined) setIndex(o, slot, index.finish());
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
  position: number,
  seen: Set<string> | undefined,
  index: DirIndexBuilder | undefined,
  snapshot: Snapshot,
): number {
  const { aufsWhiteouts } = o.config;
  const impure = layer.index === 0 ? hasFlag(slot, FLAG.IMPURE) : isTelling(dir);
  const xattrWhiteouts = isHiding(dir);
  // Character devices may be whiteouts, unknown types need a stat: both after the listing, which shares a buffer.
  const doubtful: Candidate[] = [];
  const hidden: string[] = [];
  const start = snapshot.count;
  const r = layer.list(dir, (name, nameLen, inoLo, inoHi, type) => {
    index?.add(position, name, nameLen);
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
    numberListed(layer, inoLo, inoHi);
    snapshot.add(name, nameLen, shown.lo, shown.hi, type);
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
    numberListed(layer, entry.inoLo, entry.inoHi);
    snapshot.add(LISTED_NAME, length, shown.lo, shown.hi, mode >>> 12);
  }
  if (impure) showOriginNumbers(o, slot, layer, dir, snapshot, start);
  return 0;
}

/** The number of a listed object, into `shown`; 0 where only a look at the object tells it. */
function numberListed(layer: Layer, lo: number, hi: number): void {
  if (layer.listsNumbers && (lo !== 0 || hi !== 0)) {
    number(layer.key, lo, hi);
    return;
  }
  shown.lo = 0;
  shown.hi = 0;
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
  for (let i = start; i < snapshot.count; i++) {
    const at = snapshot.added(i);
    snapshot.putName(at, LISTED_NAME);
    const known = findName(slot, LISTED_NAME, snapshot.nameLength(at));
    if (known !== 0) {
      const node = resolve(known);
      snapshot.setIno(at, get(node, F.inoLo), get(node, F.inoHi));
      continue;
    }
    const n = layer.getxattr(dir, LISTED_NAME, o.marks.origin, ORIGIN, 256);
    // Directories may have a number and no origin: fill.ts.
    if (n < 0 && snapshot.type(at) !== DT.DIR) continue;
    const told =
      ((layer.index > 0 || o.ownNumbers) && readOwnNumber(o, layer, dir, LISTED_NAME)) ||
      originNumber(o.config.lowers, ORIGIN, n);
    if (told) snapshot.setIno(at, shown.lo, shown.hi);
  }
}

/** Everything in the directory, in no order, not kept; or -errno. */
export function listAll(o: Overlay, slot: number): Snapshot | number {
  const snapshot = new Snapshot(true);
  const r = mergeListing(o, slot, snapshot);
  return r < 0 ? r : snapshot;
}

/** Whether the directory shows no entry. @returns 1 empty, 0 not, or -errno. */
export function isEmptyDir(o: Overlay, slot: number): number {
  const snapshot = new Snapshot();
  const r = mergeListing(o, slot, snapshot);
  return r < 0 ? r : snapshot.count === 0 ? 1 : 0;
}

/** Snapshots kept, and the memory they may take together, bytes; one larger than that is kept alone. */
const KEPT = 64;
const KEPT_WEIGHT = 32 * 1024 * 1024;

/** The listing of a directory node without "." and ".."; or -errno. */
export function snapshotOf(o: Overlay, slot: number, fresh: boolean): Snapshot | number {
  const kept = o.snapshots.get(slot);
  if (kept !== undefined && !(fresh && kept.stale)) return kept;
  const snapshot = new Snapshot(o.immutable);
  if (!hasFlag(slot, FLAG.ORPHAN)) {
    const r = mergeListing(o, slot, snapshot);
    if (r < 0) return r;
  }
  snapshot.sort();
  o.snapshots.delete(slot);
  makeRoom(o, snapshot.weight);
  o.snapshots.set(slot, snapshot);
  return snapshot;
}

/** Drops the snapshots made longest ago. */
function makeRoom(o: Overlay, weight: number): void {
  let sum = weight;
  for (const kept of o.snapshots.values()) sum += kept.weight;
  for (const [slot, kept] of o.snapshots) {
    if (o.snapshots.size < KEPT && sum <= KEPT_WEIGHT) return;
    sum -= kept.weight;
    o.snapshots.delete(slot);
  }
}

/** Something in the directory came or went. */
export function listingChanged(o: Overlay, slot: number): void {
  const kept = o.snapshots.get(slot);
  if (kept !== undefined) kept.stale = true;
}

export function opendir(o: Overlay, r: Request, flags: number, reply: OpenReply): number {
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  if (!isDir(slot)) return -E.NOTDIR;
  if (o.host.noOpendir) return -E.NOSYS;
  const handle = allocHandle(slot, -1, flags, KIND.DIR);
  if (handle === 0) return -E.MFILE;
  reply.fhLo = handle;
  reply.fhHi = handleGet(handle, H.generation);
  // The kernel drops its cached listing itself whenever it changes the directory; nobody else does.
  reply.flags = OPEN.CACHE_DIR | OPEN.KEEP_CACHE;
  reply.backingId = 0;
  return 0;
}

export function readdir(o: Overlay, r: Request, offset: number, sink: DirSink): number {
  const slot = nodeOf(o, r);
  if (slot === 0) return -E.STALE;
  // What is kept of a listing is a directory's: of anything else it would outlive the node.
  if (!isDir(slot)) return -E.NOTDIR;
  const snapshot = snapshotOf(o, slot, offset === 0);
  if (typeof snapshot === 'number') return snapshot;
  if (offset < DOTS && !hasFlag(slot, FLAG.ORPHAN) && !addDots(o, slot, offset, sink)) return 0;
  for (let i = snapshot.find(offset); i < snapshot.count; i++) {
    const at = snapshot.record(i);
    const nameLen = snapshot.nameLength(at);
    if (!sink.fits(nameLen)) break;
    snapshot.putName(at, LISTED_NAME);
    let inoLo = snapshot.inoLo(at);
    let inoHi = snapshot.inoHi(at);
    if (sink.plus) {
      const child = lookupChild(o, slot, LISTED_NAME, nameLen, sink.entry + Entry.attr);
      // Removed since the snapshot was taken.
      if (child === ABSENT) continue;
      if (child > 0) {
        answerEntry(child, sink.entry);
        inoLo = get(child, F.inoLo);
        inoHi = get(child, F.inoHi);
      } else {
        u32.fill(0, sink.entry >>> 2, (sink.entry >>> 2) + 32);
      }
    } else if (inoLo === 0 && inoHi === 0) {
      const child = lookupChild(o, slot, LISTED_NAME, nameLen, RECORD);
      if (child === ABSENT) continue;
      if (child > 0) {
        inoLo = get(child, F.inoLo);
        inoHi = get(child, F.inoHi);
        freeUnused(o, child);
      }
    }
    addEntry(o, sink, inoLo, inoHi, snapshot.cookie(i) + 1, snapshot.type(at), nameLen);
  }
  return 0;
}

/** Adds the name at LISTED_NAME. A number that nobody can tell (its object cannot be read) is all ones: 0 would hide the entry. */
function addEntry(
  o: Overlay,
  sink: DirSink,
  inoLo: number,
  inoHi: number,
  cookie: number,
  type: number,
  nameLen: number,
): void {
  const unknown = inoLo === 0 && inoHi === 0;
  const folded = o.config.ino32 || unknown;
  const lo = unknown ? 0xffffffff : folded ? fold(inoLo, inoHi) : inoLo;
  sink.add(lo, folded ? 0 : inoHi, cookie, type, LISTED_NAME, nameLen);
}

/** Cookies below this are "." and "..". */
const DOTS = 2;

/** @returns false when the reply is full. */
function addDots(o: Overlay, slot: number, offset: number, sink: DirSink): boolean {
  const parent = slot === ROOT ? ROOT : get(slot, F.parent);
  u8[LISTED_NAME] = 0x2e;
  u8[LISTED_NAME + 1] = 0x2e;
  for (let i = offset; i < DOTS; i++) {
    if (!sink.fits(i + 1)) return false;
    const node = i === 0 ? slot : parent;
    addEntry(o, sink, get(node, F.inoLo), get(node, F.inoHi), i + 1, DT.DIR, i + 1);
  }
  return true;
}

/** RELEASEDIR, from a kernel that opens directories here. */
export function releasedir(o: Overlay, fhLo: number, fhHi: number): number {
  const handle = handleOf(fhLo, fhHi);
  if (handle === 0) return 0;
  const slot = handleGet(handle, H.node);
  freeHandle(handle);
  freeUnused(o, slot);
  return 0;
}
