// The blob of a layer of an image store, opened with what says which of it is here.
// Called by image-open.ts: by servers, which wait for the rest, and by commands, which do not.
// Everything is found from a descriptor of the folder, which a successor has: it names no path again.

import { openSync, readFileSync } from 'node:fs';
import type { ByteSource, LateSource } from '../bytes/source.js';
import { ChunkTable } from '../lazy/chunk-table.js';
import type { LoaderClient } from '../lazy/client.js';
import { holdBlob } from '../lazy/hold-layer.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { LoadedLayer } from '../lazy/load/layer.js';
import { ResidencyMap } from '../lazy/residency.js';
import { LazySource } from '../lazy/source.js';
import type { FileSource } from '../linux/file-source.js';
import { lockFile } from '../linux/peer.js';
import { inherited, keep } from '../supervisor/orders.js';
import { MountError } from './errors.js';

/** How a server opens an image, so that its successor can. */
export interface Serving {
  /** The names under which descriptors are kept begin so. */
  readonly keepAs: string;
  /** Waits for content. */
  readonly loading?: LoaderClient;
}

/** What the blob of a layer is read through. */
export interface LayerBlob {
  readonly source: ByteSource;
  /** The same, where content may still arrive. */
  readonly late?: LateSource;
  /** As LayerFolder has it. */
  readonly hasTrustedMarks: boolean;
}

/**
 * The blob of the layer whose metadata is at `path`; undefined when that is no layer of an image store.
 * @param meta its metadata, and `file` its blob, opened. @throws MountError of kind `layer` or `busy`.
 */
export function openLayerBlob(
  path: string,
  meta: FileSource,
  file: FileSource | undefined,
  serving: Serving | undefined,
): LayerBlob | undefined {
  // A predecessor's descriptor holds it already, and its name may be another's by now.
  const isHeld = serving === undefined || inherited(`${serving.keepAs} folder`) !== undefined;
  const at = folderAt(path, serving?.keepAs);
  if (at === undefined || file === undefined) return undefined;
  const folder = path.slice(0, path.lastIndexOf('/'));
  if (!isHeld && !holdBlob(file.fd, new LayerFolder(folder))) {
    throw new MountError('layer', `${path}: was removed just now: pull its image again`);
  }
  const table = new ChunkTable(readFileSync(at.table));
  if (table.blobSize > file.size) {
    throw new MountError(
      'layer',
      `${path}: its blob is shorter than its table says: pull it again`,
    );
  }
  const { hasTrustedMarks } = at;
  const openMap = (): ResidencyMap => ResidencyMap.open(at.map, table.count, false);
  const map = mapThere(openMap) ?? (serving && at.isComplete ? mapMade(at, openMap) : undefined);
  if (at.isComplete && map?.isComplete !== true && holdsComplete(at, meta)) {
    return { source: file, hasTrustedMarks };
  }
  // What an earlier boot has left in a map counts only once the loader has looked at it.
  const sure = map?.isComplete === true ? map : undefined;
  const layer = serving?.loading?.layer({ folder, table, map: sure, openMap });
  const late = new LazySource({ file, table, map: sure }, layer);
  return { source: late, late, hasTrustedMarks };
}

/** The layer's folder by a descriptor that outlives its name. */
function folderAt(path: string, keepAs: string | undefined): LayerFolder | undefined {
  if (keepAs === undefined) return LayerFolder.ofImage(path);
  const name = `${keepAs} folder`;
  const there = inherited(name);
  const folder = there === undefined ? LayerFolder.ofImage(path) : undefined;
  if (there === undefined && folder === undefined) return undefined;
  const fd = keep(name, () => openSync((folder as LayerFolder).path, 'r'));
  return new LayerFolder(`/proc/self/fd/${fd}`);
}

function mapThere(open: () => ResidencyMap): ResidencyMap | undefined {
  try {
    return open();
  } catch {
    // There is none, or it is not for this user.
    return undefined;
  }
}

/** Of a layer that was built here nobody has made one: whoever reads it by a map need not keep others from taking content back. */
function mapMade(at: LayerFolder, open: () => ResidencyMap): ResidencyMap | undefined {
  try {
    LoadedLayer.open(at).close();
    return open();
  } catch {
    // It is another user's, on a filesystem that is read-only, or somebody else is at it.
    return undefined;
  }
}

/**
 * Of a complete layer that is read without a map nothing may be taken back as long as it is used.
 * @returns false: it is complete no more. @throws MountError of kind `busy`.
 */
function holdsComplete(at: LayerFolder, meta: FileSource): boolean {
  if (lockFile(meta.fd, true) < 0) {
    throw new MountError('busy', `${at.path}: the layer is being emptied: try again`);
  }
  return at.isComplete;
}
