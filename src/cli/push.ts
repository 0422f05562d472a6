// `varve push`: a tree, an image or a stack into a registry, as an image in our own form.
// Run by main.ts; lazy/build makes a layer of the tree, lazy/push sends what the repository lacks of it.
// Manual: registry-commands.ts.

import { statSync } from 'node:fs';
import { buildLayer } from '../lazy/build/build-layer.js';
import { checkChunkSize } from '../lazy/build/cut.js';
import { LayerHolds } from '../lazy/hold-layer.js';
import { type ImageRecord, writeImage } from '../lazy/image-record.js';
import type { LayerFolder } from '../lazy/layer-folder.js';
import { type PushReport, pushLayers } from '../lazy/push/push.js';
import { stackMeant } from '../named/resolve.js';
import { formatReference } from '../oci/reference.js';
import { flatten } from '../ops/layers/flatten.js';
import { findStack, openLayers } from '../ops/open-stack.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { isErofs } from '../stack/images.js';
import { locate } from '../stack/mounts-known.js';
import { layersOfImage } from '../stack/registry-mount.js';
import { openTreeSource } from '../tree/source.js';
import type { TreeNode } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { FetchProgress } from './fetch-progress.js';
import { buildError } from './image-build.js';
import { storedImage } from './obtain-image.js';
import { counted, print, remark } from './output.js';
import { bytesOf, imageStoreOf, targetOf, withRegistry } from './registry.js';

/** What is sent. */
interface Source {
  /** From the bottom. */
  readonly layers: readonly LayerFolder[];
  readonly config: ImageRecord['config'];
}

export async function run(given: Arguments): Promise<number> {
  const [source, text] = given.operands as [string, string];
  const ref = targetOf(text);
  const store = imageStoreOf(given);
  if (given.has('index')) return (await import('./push-index.js')).pushIndexOf(given, source, ref);
  const { layers, config } = await sourceOf(given, store, source);
  const holds = new LayerHolds(store);
  for (const layer of layers) await hold(holds, layer);
  const like = given.values('like').map((name) => targetOf(name, ref.registry));
  const level = given.value('level');
  const progress = new FetchProgress(given);
  let report: PushReport;
  try {
    report = await withRegistry(given, text, (registry) =>
      pushLayers(registry, ref, layers, {
        config,
        plainHttp: given.has('plain-http'),
        like,
        store,
        ...(level === undefined ? {} : { level: levelOf(level) }),
        onProgress: ({ bytes, bytesDone }) =>
          progress.show({ what: 'pushing', done: bytesDone, total: bytes }),
      }),
    );
  } finally {
    progress.end();
  }
  // What was pushed is an image of this store as well: mounted from here it needs no registry.
  writeImage(store, {
    version: 1,
    name: formatReference(ref),
    digest: report.digest,
    platform: report.platform,
    config,
    layers: report.layers,
  });
  holds.release();
  print(given, report, () => report.digest);
  if (!given.has('json')) {
    const known = `${report.knownChunks} of ${counted(report.chunks, 'chunk')} were there`;
    remark(
      given,
      `${formatReference(ref)}: ${bytesText(report.bytes)}, ${known}, ${bytesText(report.uploaded)} sent`,
    );
  }
  return EXIT.ok;
}

/** Until the image has its record nobody names a layer that was just made. @throws MountError of kind `busy`. */
async function hold(holds: LayerHolds, layer: LayerFolder): Promise<void> {
  if (layer.exists && (await holds.hold(layer.read().id))) return;
  throw new MountError('busy', `${layer.path}: was removed meanwhile: try again`);
}

function levelOf(text: string): number {
  const level = Number(text);
  if (Number.isInteger(level) && level >= 1 && level <= 22) return level;
  throw new MountError('option', `--level=${text}: must be a number from 1 to 22`);
}

/** @throws MountError of kind `option`. */
function chunkSizeOf(given: Arguments): number | undefined {
  const text = given.value('chunk-size');
  if (text === undefined) return undefined;
  const size = bytesOf('chunk-size', text);
  try {
    checkChunkSize(size);
  } catch (error) {
    throw new MountError('option', `--chunk-size=${text}: ${(error as Error).message}`);
  }
  return size;
}

/** An image of the store; else a directory, an image, an archive; else a stack by its name or mount point. */
async function sourceOf(given: Arguments, store: string, source: string): Promise<Source> {
  const known = /^[./]/.test(source) ? undefined : imageCalled(store, source);
  if (known !== undefined) {
    return { layers: layersOfImage(store, known).toReversed(), config: known.config };
  }
  const chunkSize = chunkSizeOf(given);
  const { root, close } = await openSource(source);
  const progress = new FetchProgress(given);
  try {
    const layer = await buildLayer(root, store, {
      ...(chunkSize === undefined ? {} : { chunkSize }),
      onProgress: ({ bytesIn, bytes }) =>
        progress.show({ what: 'reading', done: bytesIn, total: bytes }),
    });
    return { layers: [layer], config: {} };
  } catch (error) {
    throw buildError(error, source);
  } finally {
    progress.end();
    close();
  }
}

function imageCalled(store: string, text: string): ImageRecord | undefined {
  try {
    return storedImage(store, text);
  } catch {
    // Not even a reference: a stack or a path.
    return undefined;
  }
}

async function openSource(source: string): Promise<{ root: TreeNode; close(): void }> {
  const meant = await stackMeant(source);
  if ('options' in meant) return openStack(await findStack(meant));
  const located = await locate(meant.mount);
  if (located?.inside === '')
    return openStack(await findStack({ mount: located.mount.mountpoint }));
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new MountError('layer', `${source}: no such directory, image, archive or stack`);
  }
  if (stat.isFile() && isErofs(source)) return openStack(await findStack({ layers: [source] }));
  try {
    return openTreeSource(source);
  } catch (error) {
    throw buildError(error, source);
  }
}

function openStack(named: Parameters<typeof openLayers>[0]): { root: TreeNode; close(): void } {
  const opened = openLayers(named);
  try {
    return { root: flatten(opened, { keepWhiteouts: false }), close: () => opened.close() };
  } catch (error) {
    opened.close();
    throw error;
  }
}
