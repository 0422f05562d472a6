// All content of a layer that this user's loader has, because it is mounted: the loader fetches it, and a pull waits for that.
// Given to pullImage() by cli/obtain-image.ts: two processes never write one layer.
// Speaks lazy/protocol.ts as a mount would that is about to be made.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Announced, AnnounceError, announceUse } from '../lazy/announce.js';
import { askLoader, LoaderError } from '../lazy/ask-loader.js';
import type { LayerFolder } from '../lazy/layer-folder.js';
import { DEFAULT_POLICY, type LayerStatus, type LoaderStatus } from '../lazy/protocol.js';
import type { Filling } from '../lazy/pull/fill.js';
import { findSupervisor } from '../supervisor/client.js';
import { MountError } from './errors.js';

/** Milliseconds between two looks at how far it is, and without anything new after which its trouble is ours. */
const LOOK = 100;
const PATIENCE = 30_000;

/**
 * @returns whether the layer is complete; false: no loader of this user has it.
 * @throws MountError of kind `server` when the loader gets no further, and whatever `signal` says.
 */
export async function fillLoaded(folder: LayerFolder, how: Filling): Promise<boolean> {
  const socket = await socketOf(folder);
  if (socket === undefined) return false;
  const mountpoint = `process ${process.pid}`;
  let use: Announced | undefined;
  try {
    use = await announceUse(socket, [folder.path], {
      mountpoint,
      policy: DEFAULT_POLICY,
      way: 'server',
    });
    await askLoader(socket, { op: 'fill', mountpoint });
    return await whenComplete(folder, socket, how);
  } catch (error) {
    // It has ended: with the layer complete, or the next one is found, or nobody has it.
    if (error instanceof LoaderError || error instanceof AnnounceError) return folder.isComplete;
    throw error;
  } finally {
    use?.end();
  }
}

/** The socket of the loader that has the layer. */
async function socketOf(folder: LayerFolder): Promise<string | undefined> {
  const supervisor = await findSupervisor();
  try {
    const socket = (await supervisor?.ask({ op: 'list' }))?.loader?.socket;
    if (socket === undefined) return undefined;
    return (await statusOf(folder, socket)) === undefined ? undefined : socket;
  } catch (error) {
    if (error instanceof LoaderError) return undefined;
    throw error;
  } finally {
    supervisor?.close();
  }
}

/** @returns undefined when the loader has not got the layer. @throws LoaderError. */
async function statusOf({ path }: LayerFolder, socket: string): Promise<LayerStatus | undefined> {
  const status = await askLoader<LoaderStatus>(socket, { op: 'status' });
  return status?.layers.find(({ folder }) => folder === path);
}

async function whenComplete(
  folder: LayerFolder,
  socket: string,
  { signal, onProgress }: Filling,
): Promise<boolean> {
  let last = -1;
  let since = performance.now();
  while (!folder.isComplete) {
    signal?.throwIfAborted();
    const layer = await statusOf(folder, socket);
    if (layer === undefined) return folder.isComplete;
    onProgress?.(layer.residentBytes, layer.totalBytes);
    if (layer.residentBytes !== last) {
      last = layer.residentBytes;
      since = performance.now();
    }
    if (layer.trouble !== undefined && performance.now() - since > PATIENCE) {
      throw new MountError(
        'server',
        `${folder.path}: is being loaded for a mount, and nothing comes: ${layer.trouble}`,
      );
    }
    await sleep(LOOK);
  }
  return true;
}
