// What a successor needs to know of an object that no name leads to any more: its name in the workdir, its place in the
// lowers, its attributes. Written before the last name goes (hide.ts), read when a successor meets the node (inherited.ts).
// Kept as texts in the name arena (vfs/names.ts), for a read-only layer can hold none of it.

import { D, dirGet, type Layer, layerOf, retainDir } from '../layer/layer.js';
import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes, putBytes, u8 } from '../linux/memory.js';
import { ATTR_SIZE } from '../vfs/attr.js';
import {
  allocName,
  freeText,
  keepBytes,
  keepText,
  nameAt,
  nameLength,
  textAt,
} from '../vfs/names.js';
import { F, FLAG, get, hasFlag, keptField, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { heightAt, placeOf } from './heights.js';
import { isDir, locateLower } from './places.js';
import { HIDDEN_NAME, PATH } from './work.js';

/** Writes the name by which the workdir knows the node: not one of tempName(). @returns its offset. */
export function hiddenName(slot: number): number {
  const text = `#h${slot.toString(16)}-${get(slot, F.generation).toString(16)}`;
  putBytes(HIDDEN_NAME, text);
  return HIDDEN_NAME;
}

/** Forgets what was kept of a node; called before it gets a name, and at its end. */
export function dropKept(slot: number): void {
  const field = keptField(slot);
  const ref = get(slot, field);
  if (ref === 0) return;
  put(slot, field, 0);
  freeText(ref);
}

/** Keeps the attributes of a directory that is about to be removed, from the ATTR record at `attr`. */
export function keepAttr(slot: number, attr: number): void {
  dropKept(slot);
  put(slot, keptField(slot), keepBytes(attr, ATTR_SIZE));
}

/** Puts the attributes that keepAttr() has kept at `out`. @returns false when there are none. */
export function keptAttr(slot: number, out: number): boolean {
  if (!hasFlag(slot, FLAG.ORPHAN) || !isDir(slot)) return false;
  const ref = get(slot, keptField(slot));
  if (ref === 0) return false;
  u8.set(Buffer.from(textAt(ref), 'latin1'), out);
  return true;
}

/** Keeps where in the lowers a file lies that is about to lose its last name. */
export function keepLower(o: Overlay, slot: number): void {
  const data = get(slot, F.lower);
  if (data === 0) return;
  const place = locateLower(o, slot);
  let text = placeText(o, place.dir, place.name);
  const metadata = o.metadata.get(slot);
  if (metadata !== undefined) text += `\0${placeText(o, metadata.dir, nameAt(metadata.name))}`;
  dropKept(slot);
  put(slot, keptField(slot), keepText(text));
}

/** `HEIGHT:PATH`, the path from the layer's root. */
function placeText(o: Overlay, dir: number, name: number): string {
  let path = '';
  for (let at = dir; dirGet(at, D.parent) !== 0; at = dirGet(at, D.parent)) {
    const ref = dirGet(at, D.name);
    path = `${getBytes(nameAt(ref), nameLength(ref))}/${path}`;
  }
  const height = heightAt(o.layers.length - layerOf(dir), o.config.gone);
  return `${height}:${path}${zeroEnded(name)}`;
}

function zeroEnded(at: number): string {
  const text = getBytes(at, 256);
  return text.slice(0, text.indexOf('\0'));
}

/** Gives a node what keepLower() has kept of it. @returns 0 or -errno. */
export function restoreLower(o: Overlay, slot: number): number {
  const ref = get(slot, keptField(slot));
  if (ref === 0) return 0;
  const [data, metadata] = textAt(ref).split('\0');
  const dir = walk(o, data as string);
  if (dir < 0) return dir;
  put(slot, F.lower, dir);
  put(slot, F.lowerName, lastName(data as string));
  if (metadata === undefined) return 0;
  const metadataDir = walk(o, metadata);
  if (metadataDir < 0) return metadataDir;
  o.metadata.set(slot, { dir: metadataDir, name: lastName(metadata) });
  setFlag(slot, FLAG.METACOPY);
  return 0;
}

function lastName(place: string): number {
  const length = putBytes(
    PATH,
    place.slice(Math.max(place.lastIndexOf('/'), place.indexOf(':')) + 1),
  );
  return allocName(PATH, length);
}

/** The directory of a kept place: a record with one reference, or -errno. */
function walk(o: Overlay, place: string): number {
  const colon = place.indexOf(':');
  const fromBottom = placeOf(Number(place.slice(0, colon)), o.config.gone);
  if (fromBottom === undefined) return -E.NOENT;
  const layer = o.layer(o.layers.length - fromBottom);
  const steps = place
    .slice(colon + 1)
    .split('/')
    .slice(0, -1);
  let dir = layer.root;
  retainDir(dir);
  for (const step of steps) {
    const next = enter(layer, dir, step);
    layer.release(dir);
    if (next < 0) return next;
    dir = next;
  }
  return dir;
}

function enter(layer: Layer, dir: number, step: string): number {
  const length = putBytes(PATH, step);
  const mode = layer.stat(dir, PATH);
  if (mode < 0) return mode;
  if ((mode & S.IFMT) !== S.IFDIR) return -E.NOTDIR;
  return layer.enter(dir, PATH, length) || -E.NOMEM;
}
