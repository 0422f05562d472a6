// A tree as a lazy layer, mounted by a server of ours, with the loader of kernel-loader.ts.
// Used by the tests of the FUSE way in; everything goes through the supervisor, as the command line does it.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { readCounters } from '../../src/stack/status.js';
import { unmount } from '../../src/stack/unmount.js';
import { askForLoader, findSupervisor } from '../../src/supervisor/client.js';
import type { tempDir } from '../support/temp.js';
import { LOADER, type Place, place, until } from './kernel-place.js';

export interface FusePlace extends Place {
  readonly upper: string;
  /** @param options beside the layers: `stall=eio`, `fill=off`. */
  mountFuse(options?: string, writable?: boolean): Promise<void>;
  unmountFuse(force?: boolean): Promise<void>;
  /** Process id of the server that answers now. */
  server(): Promise<number>;
  /** Requests and copy-ups that wait for content. */
  waiting(): Promise<number>;
}

export async function fusePlace(
  t: Parameters<typeof tempDir>[0],
  how: Parameters<typeof place>[1] = {},
): Promise<FusePlace> {
  const p = await place(t, how);
  const upper = join(p.folder, 'upper');
  const work = join(p.folder, 'work');
  for (const folder of [upper, work]) mkdirSync(folder);

  const server = async (): Promise<number> => {
    const supervisor = await findSupervisor();
    const reply = await supervisor?.ask({ op: 'status', mountpoint: p.mnt });
    supervisor?.close();
    return reply?.mounts?.[0]?.pid ?? assert.fail('no server');
  };
  return {
    ...p,
    upper,
    server,
    async mountFuse(options = 'fill=off', writable = false) {
      const started = await askForLoader({ op: 'load', program: LOADER });
      assert.equal(started.error, undefined);
      const layers = `lowerdir=${p.layer.folder.meta}`;
      const above = writable ? `,upperdir=${upper},workdir=${work}` : '';
      const parsed = parseOptions([`${layers}${above},${options}`], { defaults: 'allow_other' });
      const { served } = await mountStack(parsed, p.mnt, 'fuse');
      served?.supervisor.close();
    },
    async unmountFuse(force = false) {
      await unmount(p.mnt, { lazy: false, force });
    },
    async waiting() {
      return readCounters(await server())?.awaiting ?? 0;
    },
  };
}

/** A mount of a layer that is complete. */
export async function completePlace(
  t: Parameters<typeof tempDir>[0],
  how: Parameters<typeof place>[1] = { big: 1 << 20 },
  writable = false,
): Promise<FusePlace> {
  const p = await fusePlace(t, how);
  await p.mountFuse('fill=on', writable);
  await until('the layer is complete', () => p.layer.folder.isComplete);
  return p;
}

export async function waitsFor(p: FusePlace, count: number): Promise<void> {
  await until(`${count} wait`, async () => (await p.waiting()) === count);
}
