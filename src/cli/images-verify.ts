// `varve images --verify` and `--repair`: what is here is what was pulled, each damaged layer as a line with its files.
// Called by images.ts; lazy/verify.ts looks, lazy/pull/repair.ts fetches again.
// Manual: registry-commands.ts.

import { existsSync, realpathSync } from 'node:fs';
import { type ImageRecord, listImages } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import { registryRanges } from '../lazy/load/registry-ranges.js';
import { layersOf } from '../lazy/local-chunks.js';
import { repairChunks, replaceLayer } from '../lazy/pull/repair.js';
import { type LayerReport, verifyLayer } from '../lazy/verify.js';
import { bytesText } from '../report/words.js';
import { layerFoldersOf } from '../stack/images.js';
import { UNHELD, unheldMounts } from '../stack/unheld.js';
import type { Arguments } from './args.js';
import { EXIT, lineOf } from './exit-codes.js';
import { damagedOf, type Found, isWhole, jsonOf, linesOf, summaryOf } from './layer-verdict.js';
import { print } from './output.js';
import { registryOptionsOf, withRegistry } from './registry.js';
import { StatusLine } from './status-line.js';

const MISSING: LayerReport = { chunks: 0, bytes: 0, damaged: [], files: [], fault: 'is missing' };

/** @param images those that were named, else all: then layers that no image names are looked at, too. */
export async function verifyImages(
  given: Arguments,
  store: string,
  images: readonly ImageRecord[],
): Promise<number> {
  const all = listImages(store);
  const named = images.flatMap(({ layers }) => layers);
  const others = given.operands.length > 0 ? [] : layersOf(store).map(({ namedId }) => namedId);
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  const layers: Found[] = [];
  let done = 0;
  try {
    for (const id of new Set([...named, ...others])) {
      const folder = LayerFolder.of(store, id);
      const users = all.filter((image) => image.layers.includes(id));
      const onProgress = (bytes: number): void => {
        done += bytes;
        line.show(`${bytesText(done)} compared`);
      };
      const verify = () =>
        folder.exists ? verifyLayer(folder, { onProgress }) : Promise.resolve(MISSING);
      let found: Found = { ...(await verify()), id, images: users.map(({ name }) => name) };
      if (given.has('repair') && !isWhole(found)) {
        const why = await repair(given, store, folder, found, users);
        const after = await verify();
        const repaired = isWhole(after);
        found = { ...found, repaired, ...(repaired || why === undefined ? {} : { why }) };
      }
      layers.push(found);
    }
  } finally {
    line.end();
  }
  const own = existsSync(store) ? realpathSync(store) : store;
  const unheld = await unheldMounts((_, { lowerdirs, datadirs }) =>
    layerFoldersOf({ lowerdirs, datadirs }).some(({ path }) =>
      realpathSync(path).startsWith(`${own}/`),
    ),
  );
  const ok = damagedOf(layers).length === 0 && unheld.length === 0;
  print(given, { version: 1, store, ok, layers: layers.map(jsonOf), unheld }, () =>
    given.has('quiet') && ok
      ? ''
      : [...unheld.map((path) => `${path}: ${UNHELD}`), textOf(store, layers)].join('\n'),
  );
  return ok ? EXIT.ok : EXIT.layer;
}

/** @returns why it could not be done. */
async function repair(
  given: Arguments,
  store: string,
  folder: LayerFolder,
  { fault, damaged }: LayerReport,
  images: readonly ImageRecord[],
): Promise<string | undefined> {
  try {
    if (fault === undefined) {
      const { read } = registryRanges(registryOptionsOf(given));
      const left = await repairChunks(folder, damaged, { read, store });
      if (left.length === 0) return undefined;
    }
    return await replace(given, store, folder, images);
  } catch (error) {
    return lineOf(error);
  }
}

async function replace(
  given: Arguments,
  store: string,
  folder: LayerFolder,
  images: readonly ImageRecord[],
): Promise<string | undefined> {
  const [image] = images;
  if (image === undefined) return 'no image names it: `varve images --prune` removes it';
  const lazy = !folder.isComplete;
  const isDone = await withRegistry(given, image.name, (registry) =>
    replaceLayer(registry, store, folder, image, {
      lazy,
      plainHttp: given.has('plain-http'),
      platform: image.platform,
    }),
  );
  return isDone ? undefined : 'it is in use: unmount it, then run this again';
}

function textOf(store: string, layers: readonly Found[]): string {
  return [...linesOf(layers), `${store}: ${summaryOf(layers)}`].join('\n');
}
