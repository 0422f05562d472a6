// Where the data of a metacopy file lies: in the layers below its metadata, or in a data-only layer.
// Called by lookup-file.ts for files with overlay.metacopy; the object becomes the node's lower one.
// Follows: fs/overlayfs/namei.c (ovl_lookup_data_layers, ovl_verify_origin), overlayfs.rst "Data-only lower layers".

import { type Layer, retainDir } from '../layer/layer.js';
import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { Statx, statBuffer } from '../linux/files.js';
import { putBytes, u32 } from '../linux/memory.js';
import { allocName } from '../vfs/names.js';
import { F, FLAG, get, put, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { MARK } from './marks.js';
import { beginSearch, lastOfPath, readRedirect, search, walkToParent } from './name-search.js';
import { layerFor, stackAt, stackLength } from './stacks.js';
import { PATH } from './work.js';

/**
 * Finds the data of a metacopy file in the layers below its metadata and makes it the node's lower object.
 * @returns 0 or -errno (EIO when there is none).
 */
export function findMetacopyData(
  o: Overlay,
  parent: number,
  slot: number,
  layer: Layer,
  dir: number,
  name: number,
  nameLen: number,
  marks: number,
): number {
  if (layer.index === 0 && !o.config.metacopy && o.config.dataLayers.length === 0) {
    // As the kernel: a metacopy file in a stack that does not expect one is refused, not shown empty.
    return -E.PERM;
  }
  beginSearch(name, nameLen);
  let mark = marks;
  let at = layer;
  let atDir = dir;
  let atName = name;
  for (;;) {
    if (mark & MARK.REDIRECT && !readRedirect(o, at, atDir, atName)) return -E.INVAL;
    const below = nextBelow(o, parent, at.index);
    if (below < 0) return below;
    const next = dataPlace.layer as Layer;
    if (at.index === 0 && marks & MARK.ORIGIN && !isOrigin(o, slot)) {
      next.release(dataPlace.dir);
      return -E.IO;
    }
    mark = next.index > o.bottom ? 0 : o.marks.read(next, dataPlace.dir, search.name);
    if (mark > 0 && mark & MARK.METACOPY) {
      at = next;
      atDir = dataPlace.dir;
      atName = search.name;
      continue;
    }
    break;
  }
  const metadataDir = get(slot, F.lower);
  if (layer.index !== 0) {
    const ref = allocName(name, nameLen);
    if (ref === 0) return -E.NOMEM;
    o.metadata.set(slot, { dir: metadataDir, name: ref });
  } else if (metadataDir !== 0) {
    layerFor(o, metadataDir).release(metadataDir);
  }
  put(slot, F.lower, dataPlace.dir);
  put(slot, F.lowerName, allocName(search.name, search.nameLen));
  setFlag(slot, FLAG.METACOPY);
  return 0;
}

/**
 * Whether the object in statBuffer() is what a metacopy file was copied from, as the kernel asks with `index=on`. Of the
 * numbers the part that no key is in is compared: what a key depends on may have changed, and nothing else.
 */
function isOrigin(o: Overlay, slot: number): boolean {
  return o.config.indexFd < 0 || u32[(statBuffer() + Statx.ino) >>> 2] === get(slot, F.inoLo);
}

const dataPlace = { layer: undefined as Layer | undefined, dir: 0 };

/** The next object below layer `index` that `search` names: layer and directory (one reference) in dataPlace. */
function nextBelow(o: Overlay, parent: number, index: number): number {
  if (search.path === undefined) {
    const lowers = stackLength(parent);
    for (let i = 0; i < lowers; i++) {
      const dir = stackAt(parent, i);
      const layer = layerFor(o, dir);
      if (layer.index <= index) continue;
      const mode = layer.stat(dir, search.name);
      if (mode === -E.NOENT) continue;
      if (mode < 0) return mode;
      if ((mode & S.IFMT) !== S.IFREG) return -E.IO;
      retainDir(dir);
      dataPlace.layer = layer;
      dataPlace.dir = dir;
      return 0;
    }
    return -E.IO;
  }
  const candidates = [...o.config.lowers.filter((l) => l.index > index), ...o.config.dataLayers];
  for (const layer of candidates) {
    const isData = layer.index > o.bottom;
    if (search.stop && !isData) continue;
    const dir = isData ? walkDataLayer(layer) : walkToParent(o, layer);
    if (dir < 0) continue;
    search.nameLen = lastOfPath();
    search.name = PATH;
    const mode = layer.stat(dir, PATH);
    if (mode >= 0 && (mode & S.IFMT) === S.IFREG) {
      dataPlace.layer = layer;
      dataPlace.dir = dir;
      return 0;
    }
    layer.release(dir);
  }
  return -E.IO;
}

/** Walks directory names in a data-only layer. @returns a directory record with one reference, or -errno. */
function walkDataLayer(layer: Layer): number {
  const parts = (search.path as string).split('/');
  let dir = layer.root;
  retainDir(dir);
  for (const part of parts.slice(0, -1)) {
    const length = putBytes(PATH, part);
    const mode = layer.stat(dir, PATH);
    const child =
      mode < 0 ? mode : (mode & S.IFMT) === S.IFDIR ? layer.enter(dir, PATH, length) : -E.NOTDIR;
    layer.release(dir);
    if (child <= 0) return child || -E.NOMEM;
    dir = child;
  }
  return dir;
}
