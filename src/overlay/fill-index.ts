// The index entries of a layer that is about to go: its objects have all their names in the upper now, and are joined by nothing else.
// Called by fill.ts when all is filled. Kernel overlayfs would count each entry as a name.
// Where another layer of the same filesystem stays, which may have further names, an entry goes only when all of them are met.

import { O } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { close, dotPath, emptyPath, openAt, unlinkAt } from '../linux/files.js';
import { getBytes, putBytes } from '../linux/memory.js';
import { getxattrAt, removexattrAt } from '../linux/xattr.js';
import { LISTING, LISTING_SIZE } from '../vfs/layout.js';
import { clearFlag, F, FLAG, get, hasFlag, nodesEnd, ROOT } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { statNlink, statNode } from './objects.js';
import { indexName, ORIGIN_HEADER } from './origin.js';
import { locate, locateLower } from './places.js';
import { INDEX_NAME, ORIGIN, XATTR_VALUE } from './work.js';

export function dropEntriesOf(o: Overlay, lower: number): void {
  const { indexFd, lowers } = o.config;
  const { uuid } = o.layer(lower);
  const isShared = lowers.some((layer) => layer.index !== lower && isSame(layer.uuid, uuid));
  if (indexFd < 0 || isShared) return;
  const hex = Buffer.from(uuid).toString('hex');
  const listing = openAt(indexFd, dotPath(), O.RDONLY | O.DIRECTORY);
  if (listing < 0) return;
  const names: string[] = [];
  readEntries(listing, LISTING, LISTING_SIZE, (name, length) => names.push(getBytes(name, length)));
  close(listing);
  for (const name of names) {
    if (name.slice(10, 2 * ORIGIN_HEADER) !== hex) continue;
    putBytes(INDEX_NAME, name);
    drop(o);
  }
  forgetDropped(o);
}

/** Of an object of the layer, unless it may have names elsewhere. */
export function dropEntryOf(o: Overlay, slot: number): void {
  if (!hasFlag(slot, FLAG.INDEXED) || hasFlag(slot, FLAG.ORPHAN)) return;
  const lower = locateLower(o, slot);
  if (lower.layer === undefined || lower.layer.stat(lower.dir, lower.name) < 0) return;
  const names = statNlink();
  // One of the copy's names is the entry.
  if (statNode(o, slot) < 0 || statNlink() - 1 < names) return;
  const place = locate(o, slot);
  const n =
    place.fd >= 0
      ? getxattrAt(place.fd, emptyPath(), o.marks.origin, ORIGIN, 256)
      : (place.layer?.getxattr(place.dir, place.name, o.marks.origin, ORIGIN, 256) ?? 0);
  if (n <= 0) return;
  indexName(n);
  drop(o);
  clearFlag(slot, FLAG.INDEXED | FLAG.LOWER_LINKS);
  o.links.delete(slot);
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** The entry at INDEX_NAME. */
function drop(o: Overlay): void {
  const { indexFd } = o.config;
  const fd = openAt(indexFd, INDEX_NAME, O.PATH | O.NOFOLLOW);
  if (fd < 0) return;
  removexattrAt(fd, emptyPath(), o.marks.nlink);
  unlinkAt(indexFd, INDEX_NAME);
  close(fd);
}

/** Nodes of objects without an entry count their names as any file does. */
function forgetDropped(o: Overlay): void {
  const end = nodesEnd();
  for (let slot = ROOT + 1; slot < end; slot++) {
    if (get(slot, F.flags) === 0 || hasFlag(slot, FLAG.ALIAS | FLAG.INHERITED)) continue;
    if (!hasFlag(slot, FLAG.INDEXED)) continue;
    const place = locate(o, slot);
    if (place.fd < 0 && place.layer === undefined) continue;
    const n =
      place.fd >= 0
        ? getxattrAt(place.fd, emptyPath(), o.marks.nlink, XATTR_VALUE, 32)
        : (place.layer?.getxattr(place.dir, place.name, o.marks.nlink, XATTR_VALUE, 32) ?? 0);
    if (n >= 0) continue;
    clearFlag(slot, FLAG.INDEXED | FLAG.LOWER_LINKS);
    o.links.delete(slot);
  }
}
