// Mounts a layer store: an image store shown as podman and other users of containers/storage look for layers.
// Called by `varve layer-store`; a server of its own answers, the loader finds and fetches.
// Follows: stack/mount.ts, as every mount.

import { mkdirSync } from 'node:fs';
import { checkLayers } from './check.js';
import { MountError, reasonOf } from './errors.js';
import { type Mounted, viaServer } from './mount.js';
import type { MountOptions } from './option-table.js';
import { joinLayers } from './option-text.js';
import { parseOptions } from './options.js';

export interface LayerStoreMount {
  /** Folder of the image store: made where it is missing. */
  readonly store: string;
  readonly mountpoint: string;
  /** As given with -o. */
  readonly options: readonly string[];
  /** Options that are meant when nothing else is said. */
  readonly defaults: string;
  readonly plainHttp: boolean;
  readonly trustIndex: boolean;
  readonly authFile: string | undefined;
  readonly policyFile: string | undefined;
  readonly trace: boolean;
}

/** @throws MountError; then nothing is mounted. */
export async function mountLayerStore(wanted: LayerStoreMount): Promise<Mounted> {
  const { store, mountpoint, plainHttp, authFile, policyFile, trustIndex, trace } = wanted;
  try {
    mkdirSync(store, { recursive: true });
  } catch (error) {
    throw new MountError('layer', `--store: ${store}: cannot be made (${reasonOf(error)})`);
  }
  const given = [`lowerdir=${joinLayers([store])}`, ...wanted.options];
  const options: MountOptions = parseOptions(given, { defaults: wanted.defaults });
  if (options.lowerdirs.length !== 1 || options.upperdir !== undefined) {
    throw new MountError(
      'option',
      'layer-store: has no layers of its own: leave lowerdir and upperdir out',
    );
  }
  const checked = checkLayers(options, mountpoint, true);
  const layerStore = {
    store: checked.lowerdirs[0] as string,
    plainHttp,
    trustIndex,
    ...(authFile === undefined ? {} : { authFile }),
    ...(policyFile === undefined ? {} : { policyFile }),
  };
  // Whoever uses a layer says so by creating a file, which gets no further than to the server.
  const spec = { ...checked, layerStore, readOnly: false, trace };
  return viaServer(spec, { backend: 'fuse', reason: 'layers are found when they are asked for' });
}
