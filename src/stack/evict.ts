// Gives back the space of content that can be fetched again: of a server's mount while it is in use, or of an image that nobody uses.
// Called by `varve evict`. Layers that are being loaded are the loader's, the others are emptied here (lazy/load/evict.ts).
// Who reads a complete layer is asked of the kernel (a lease, fcntl(2)), by the descriptor that the mount's server reads it through.

import type { LayerFolder } from '../lazy/layer-folder.js';
import { evictIdle } from '../lazy/load/evict.js';
import { LoadError, whenFree } from '../lazy/load/layer.js';
import { askSupervisor, type Supervisor } from '../supervisor/client.js';
import { MountError } from './errors.js';
import { layerFoldersOf } from './images.js';
import { loaderEnvironment, loaderProgram } from './loader-program.js';
import { evictLoaded, loaderStatus } from './loader-status.js';
import { throwRefusal } from './mount.js';
import { locateMount } from './mounts-known.js';
import type { MountSpec } from './spec.js';

/** What was given back. */
export interface Evicted {
  /** Bytes. */
  readonly freed: number;
  /** Why layers stay as they are. */
  readonly kept: readonly string[];
}

/**
 * Of a server's mount.
 * @param path its mount point. @param keep bytes of each layer that stay.
 * @throws MountError: `absent`, `busy` for a mount of the kernel, and where somebody relies on the content of every layer.
 */
export async function evictMount(path: string, keep: number): Promise<Evicted> {
  const { mountpoint, backend, status } = (await locateMount(path)).mount;
  if (backend === 'kernel') {
    throw new MountError(
      'busy',
      `${mountpoint}: the kernel has it, which does not notice when content goes: unmount it, then name its image`,
    );
  }
  const blobs = status === undefined ? new Map() : blobsOf(status.spec as MountSpec);
  const loaded = (await loaderStatus({ mountpoint }))?.layers ?? [];
  if (blobs.size === 0 && loaded.length === 0) {
    throw new MountError('absent', `${mountpoint}: no layer of an image store is in use there`);
  }
  const freed = loaded.length === 0 ? 0 : await evictLoaded(mountpoint, keep);
  for (const { folder } of loaded) blobs.delete(folder);
  const evicted = await evictComplete(mountpoint, blobs, keep);
  return { ...evicted, freed: evicted.freed + (freed ?? 0) };
}

/** Layers of an image store, and the names under which the supervisor keeps their blobs (open.ts): by path, for the loader has paths. */
function blobsOf(spec: MountSpec): Map<string, [LayerFolder, string]> {
  const blobs = new Map<string, [LayerFolder, string]>();
  for (const [i, path] of [...spec.lowerdirs, ...spec.datadirs].entries()) {
    const [folder] = layerFoldersOf({ lowerdirs: [path], datadirs: [] });
    const name = spec.raw ? 'image file 1' : `layer ${i + 1} file 1`;
    if (folder !== undefined) blobs.set(folder.path, [folder, name]);
  }
  return blobs;
}

async function evictComplete(
  mountpoint: string,
  blobs: ReadonlyMap<string, readonly [LayerFolder, string]>,
  keep: number,
): Promise<Evicted> {
  if (blobs.size === 0) return { freed: 0, kept: [] };
  // Who fetches it again is there before it goes, with this command's environment where there was none before.
  const { supervisor, reply } = await askSupervisor({
    op: 'load',
    program: loaderProgram(),
    env: loaderEnvironment(),
    again: true,
  });
  try {
    throwRefusal(reply);
    let freed = 0;
    const kept: string[] = [];
    for (const [folder, name] of blobs.values()) {
      const isRead = () => isElsewhere(supervisor, mountpoint, name);
      try {
        freed += await whenFree(() => evictIdle(folder, keep, isRead));
      } catch (error) {
        if (!(error instanceof LoadError)) throw error;
        kept.push(error.message);
      }
    }
    if (freed === 0 && kept.length > 0) throw new MountError('busy', kept[0] as string);
    return { freed, kept };
  } finally {
    supervisor.close();
  }
}

async function isElsewhere(
  supervisor: Supervisor,
  mountpoint: string,
  name: string,
): Promise<boolean> {
  const reply = await supervisor.ask({ op: 'elsewhere', mountpoint, name });
  throwRefusal(reply);
  return reply.elsewhere !== false;
}

/** Of layers that nobody uses. @returns bytes given back. @throws MountError of kind `busy`. */
export async function evictImage(layers: readonly LayerFolder[], keep: number): Promise<number> {
  let freed = 0;
  for (const layer of layers) {
    try {
      freed += await whenFree(() => evictIdle(layer, keep));
    } catch (error) {
      if (error instanceof LoadError) throw new MountError('busy', error.message);
      throw error;
    }
  }
  return freed;
}
