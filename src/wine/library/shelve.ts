// Gives a layer its place in the library: its delta and what it says about itself, then its name, by one rename.
// Called by layer add, commit and import, which have made its drive_c.
// Layout: layers/NAME/{drive_c, registry.delta, layer.json}.

import { join } from 'node:path';
import type { WinePlaces } from '../prefix/places.js';
import { DELTA_FILE } from '../prefix/registry-source.js';
import { writeFileWhole } from '../prefix/write-file.js';
import type { RegistryDelta } from '../registry/delta.js';
import { writeDelta } from '../registry/delta-text.js';
import { HIVES } from '../registry/hive.js';
import { LAYER_FILE, type LayerManifest, manifestText } from './manifest.js';
import { requireNoLayer } from './shelf.js';
import { publish, settle, withLibrary } from './stage.js';

/** Completes a layer whose drive_c is in `made`, and gives it its name. @throws MountError. */
export async function shelveLayer(
  made: string,
  name: string,
  delta: RegistryDelta,
  manifest: LayerManifest,
  places: WinePlaces,
): Promise<void> {
  writeFileWhole(join(made, DELTA_FILE), writeDelta(delta));
  writeFileWhole(join(made, LAYER_FILE), manifestText(manifest));
  settle(made);
  await withLibrary(places, () => {
    requireNoLayer(name, places);
    publish(made, join(places.layers, name));
  });
}

export const keysIn = (delta: RegistryDelta): number =>
  HIVES.reduce((sum, hive) => sum + delta[hive].size, 0);
