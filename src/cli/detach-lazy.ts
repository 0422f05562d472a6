// `varve detach MOUNTPOINT` of a mount whose layers are being loaded: the rest is fetched now, and then nobody is needed any more.
// Called by detach.ts where no lower is named; the loader does it (stack/loader-status.ts).
// Manual: detach-command.ts. docs/lazy.md.

import { setTimeout as sleep } from 'node:timers/promises';
import { listImages } from '../lazy/image-record.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import type { LayerStatus, LoaderStatus } from '../lazy/protocol.js';
import { verifyLayer } from '../lazy/verify.js';
import { bytesText } from '../report/words.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { layerFoldersOf } from '../stack/images.js';
import { fillMount, loaderStatus, missingOf } from '../stack/loader-status.js';
import { type KnownMount, knownMounts } from '../stack/mounts-known.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { damagedOf, type Found, jsonOf, linesOf, summaryOf } from './layer-verdict.js';
import { print } from './output.js';
import { StatusLine } from './status-line.js';

/** Milliseconds between two looks. */
const LOOK = 200;
/** Looks in a row that may find no loader, or one that does not know the mount. */
const PATIENCE = 100;

/** @param path the mount point. */
export async function detachLazy(given: Arguments, path: string): Promise<number> {
  const mountpoint = mountpointPath(path);
  await requireOurs(mountpoint);
  const layers = (await loaderStatus({ mountpoint }))?.layers ?? [];
  const total = layers.reduce((sum, layer) => sum + layer.totalBytes, 0);
  // A loader that has just been replaced does not know yet who uses what.
  const folders = new Set([
    ...layers.map(({ folder }) => folder),
    ...(await missingOf(mountpoint)),
  ]);
  if (layers.length > 0) await fill(mountpoint, folders);
  const waits = ['wait', 'swap', 'verify'].some((flag) => given.has(flag));
  if (waits) await untilHere(given, mountpoint, folders);
  const found = given.has('verify') ? await verified(given, mountpoint) : undefined;
  if (found !== undefined && damagedOf(found).length > 0) return damage(given, mountpoint, found);
  if (given.has('swap')) return swap(given, mountpoint);
  const isDone = waits || allHere(folders);
  const state = isDone ? 'detached' : 'filling';
  if (!given.has('quiet')) {
    const layers = found === undefined ? {} : { ok: true, layers: found.map(jsonOf) };
    const compared = found === undefined ? '' : ` and ${summaryOf(found)}`;
    print(given, { version: 1, mountpoint, state, bytes: total, ...layers }, () =>
      isDone
        ? `${mountpoint}: everything is here${compared}; no loader is needed`
        : `${mountpoint}: the rest is being fetched: \`varve top\` tells how far it is`,
    );
  }
  return EXIT.ok;
}

/** Every layer of the mount, read back from the disk and compared. @throws MountError when nobody knows which they are. */
async function verified(given: Arguments, mountpoint: string): Promise<Found[]> {
  const mount = await requireOurs(mountpoint);
  const layers = mount.layers === undefined ? [] : layerFoldersOf(mount.layers);
  if (layers.length === 0) {
    throw new MountError(
      'option',
      `${mountpoint}: no layer of an image store is known of it: \`varve images --verify\` reads back what a store has`,
    );
  }
  const stores = new Set(layers.map(({ store }) => store));
  const images = new Map([...stores].map((store) => [store, listImages(store)]));
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  const found: Found[] = [];
  let done = 0;
  const onProgress = (bytes: number): void => {
    done += bytes;
    line.show(`${bytesText(done)} compared`);
  };
  try {
    for (const folder of layers) {
      const id = folder.namedId;
      const users = images.get(folder.store)?.filter((image) => image.layers.includes(id)) ?? [];
      const names = users.map(({ name }) => name);
      found.push({ ...(await verifyLayer(folder, { onProgress })), id, images: names });
    }
  } finally {
    line.end();
  }
  return found;
}

function damage(given: Arguments, mountpoint: string, found: readonly Found[]): number {
  const json = { version: 1, mountpoint, state: 'damaged', ok: false, layers: found.map(jsonOf) };
  print(given, json, () =>
    [
      ...linesOf(found),
      `${mountpoint}: ${summaryOf(found)}: \`varve images --repair\` fetches it again`,
    ].join('\n'),
  );
  return EXIT.layer;
}

/** The kernel has the mount from now on. */
async function swap(given: Arguments, mountpoint: string): Promise<number> {
  const { swapMount } = await import('../stack/swap.js');
  const { before, after } = await swapMount(mountpoint);
  if (!given.has('quiet')) {
    print(given, { version: 1, mountpoint, state: 'swapped', stDev: { before, after } }, () =>
      [
        `${mountpoint}: is the kernel's now; st_dev of its files has changed from ${before} to ${after}`,
        'what is open stays with the server, which ends when the last of it is closed',
      ].join('\n'),
    );
  }
  return EXIT.ok;
}

const allHere = (folders: ReadonlySet<string>): boolean =>
  [...folders].every((path) => new LayerFolder(path).isComplete);

async function requireOurs(mountpoint: string): Promise<KnownMount> {
  const mount = (await knownMounts()).find((one) => one.mountpoint === mountpoint);
  if (mount !== undefined) return mount;
  throw new MountError('absent', `${mountpoint}: not a varve mount: see \`varve status\``);
}

/** @throws MountError, unless all of it has just come. */
async function fill(mountpoint: string, folders: ReadonlySet<string>): Promise<void> {
  try {
    await fillMount(mountpoint);
  } catch (error) {
    if (!allHere(folders)) throw error;
  }
}

/** @throws MountError when the mount is gone, or the loader for so long that nobody replaces it. */
async function untilHere(
  given: Arguments,
  mountpoint: string,
  folders: Set<string>,
): Promise<void> {
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  let asked = 0;
  let failures = 0;
  try {
    while (!allHere(folders)) {
      await requireOurs(mountpoint);
      try {
        const { pid, layers } = (await loaderStatus({ mountpoint })) ?? NOBODY;
        for (const { folder } of layers) folders.add(folder);
        // Another loader does not know what was asked of the one before.
        if (layers.length > 0 && pid !== asked) await fill(mountpoint, folders);
        if (layers.length > 0) asked = pid;
        failures = layers.length > 0 ? 0 : failures + 1;
        line.show(progressOf(layers));
      } catch (error) {
        if (!(error instanceof MountError) || ++failures > PATIENCE) throw error;
      }
      if (failures > PATIENCE) {
        throw new MountError('server', `${mountpoint}: no loader loads it: run this again`);
      }
      await sleep(LOOK);
    }
  } finally {
    line.end();
  }
}

const NOBODY: LoaderStatus = { pid: 0, layers: [] };

function progressOf(layers: readonly LayerStatus[]): string {
  const here = layers.reduce((sum, layer) => sum + layer.residentBytes, 0);
  const total = layers.reduce((sum, layer) => sum + layer.totalBytes, 0);
  const trouble = layers.find((layer) => layer.trouble !== undefined)?.trouble;
  const why = trouble === undefined ? '' : `; ${trouble}`;
  return `${bytesText(here)} of ${bytesText(total)}${why}`;
}
