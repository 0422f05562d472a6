// What the loader of this user's lazy layers is asked by commands: what is here, give space back, fill now.
// Used by `varve status`, `top`, `detach` and by evict.ts; the loader is found through the supervisor, which holds it.
// Answers come from the loader alone (lazy/protocol.ts): no mount is touched.

import { setTimeout as sleep } from 'node:timers/promises';
import { askLoader, LoaderError, LoaderGoneError } from '../lazy/ask-loader.js';
import type { LoaderCommand, LoaderStatus } from '../lazy/protocol.js';
import { findSupervisor } from '../supervisor/client.js';
import { MountError } from './errors.js';
import { incompleteLayersOf } from './images.js';
import type { MountSpec } from './spec.js';

/** @returns undefined when nothing is being loaded. @throws MountError of kind `server`. */
export async function loaderStatus(of: {
  readonly mountpoint?: string | undefined;
  /** With the map of every layer. */
  readonly map?: boolean;
}): Promise<LoaderStatus | undefined> {
  const { mountpoint, map } = of;
  return ask<LoaderStatus>({
    op: 'status',
    ...(mountpoint === undefined ? {} : { mountpoint }),
    ...(map === undefined ? {} : { map }),
  });
}

/** Folders of the layers of a mount that are not complete, as far as its server's orders tell: of a mount of the kernel none. */
export async function missingOf(mountpoint: string): Promise<readonly string[]> {
  const supervisor = await findSupervisor();
  try {
    const reply = await supervisor?.ask({ op: 'status', mountpoint });
    const spec = reply?.mounts?.[0]?.spec as MountSpec | undefined;
    if (spec === undefined) return [];
    return incompleteLayersOf(spec).map(({ path }) => path);
  } finally {
    supervisor?.close();
  }
}

/** Has everything that a mount lacks fetched at full speed. @returns false when it lacks nothing. */
export async function fillMount(mountpoint: string): Promise<boolean> {
  return (await ask({ op: 'fill', mountpoint })) !== undefined;
}

/** At most so many bytes a second, for all layers of this user together; 0: as many as come. @returns false when nothing is being loaded. */
export async function limitLoader(bytesPerSecond: number): Promise<boolean> {
  return (await ask({ op: 'limit', bytesPerSecond })) !== undefined;
}

/** Of the layers of a mount that are being loaded. @param keep bytes of each that stay. @returns bytes given back, undefined without a loader. */
export async function evictLoaded(mountpoint: string, keep: number): Promise<number | undefined> {
  return (await ask<{ evictedBytes: number }>({ op: 'evict', mountpoint, keep }))?.evictedBytes;
}

/** Attempts to ask a loader that ends meanwhile, and milliseconds between two. */
const ATTEMPTS = 5;
const PAUSE = 50;

/** @returns undefined when there is no loader. */
async function ask<T extends object>(command: LoaderCommand): Promise<T | undefined> {
  const supervisor = await findSupervisor();
  if (supervisor === undefined) return undefined;
  try {
    for (let attempt = 1; ; attempt++) {
      const { loader } = await supervisor.ask({ op: 'list' });
      if (loader === undefined) return undefined;
      try {
        return await askLoader<T>(loader.socket, command);
      } catch (error) {
        if (!(error instanceof LoaderGoneError) || attempt === ATTEMPTS) throw error;
      }
      // It has ended because all is here, or there will be another.
      await sleep(PAUSE);
    }
  } catch (error) {
    if (error instanceof LoaderError) throw new MountError('server', `loader: ${error.message}`);
    throw error;
  } finally {
    supervisor.close();
  }
}
