// The layers of a build, from what was named to images with their digests: the payload, and what is stacked above it.
// Called by build.ts: openLayers() reads, buildLayer() writes one image into the folder under construction.
// Names: the lowest is that of --path, the others are those of their sources.

import { statSync, writeFileSync } from 'node:fs';
import { basename, join, posix } from 'node:path';
import { S } from '../../linux/constants.js';
import { MountError } from '../../stack/errors.js';
import { find } from '../../tree/tree.js';
import { appendVerity } from '../auth/verity.js';
import {
  type FsType,
  type LayerConfig,
  VERITY_SUFFIX,
  type VerityConfig,
  writeVerity,
} from '../config.js';
import { digestOfFile } from '../digest.js';
import { replaceSwitchRoot } from './glue.js';
import { imageFormat, makeImage, type Payload, takeImage } from './image.js';
import { type BootInput, openInitramfs, openRoot } from './input.js';
import { MINI_FILE } from './manifest.js';
import { type BuildRequest, compressionOf } from './request.js';

/** What one image is made of: a tree, or an image that is ready. */
export interface LayerSource {
  /** Name in OUTDIR. */
  readonly file: string;
  readonly format: FsType;
  readonly input?: BootInput;
  readonly image?: string;
}

export interface Layer {
  readonly file: string;
  readonly format: FsType;
  /** Where it is now. */
  readonly path: string;
  /** Bytes, hash tree included. */
  readonly size: number;
  readonly sha256: string;
  readonly payload: Payload;
  readonly verity: VerityConfig | undefined;
}

/** Opens the payload and all further layers, lowest first; each `input` is to be closed. */
export function openLayers(request: BuildRequest): LayerSource[] {
  const sources: LayerSource[] = [];
  const reading = (names: number): void => request.onProgress?.(`reading: ${names} names`);
  try {
    const { initramfs, root = '' } = request.source;
    const input =
      initramfs === undefined ? openRoot(root, reading) : openInitramfs(initramfs, reading);
    const file = posix.basename(request.pathInBootfs);
    sources.push({ file, input, format: request.format });
    checkPayload(input);
    for (const layer of request.layers) {
      const name = imageName(layer, new Set(sources.map((one) => one.file)));
      sources.push(openLayer(layer, name, request.format, reading));
    }
    return sources;
  } catch (error) {
    for (const { input } of sources) input?.close();
    throw error;
  }
}

function openLayer(
  path: string,
  file: string,
  format: FsType,
  reading: (names: number) => void,
): LayerSource {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new MountError('layer', `${path}: is not there: name a layer`);
  if (stat.isDirectory()) return { file, input: openRoot(path, reading), format };
  const ready = stat.isFile() ? imageFormat(path) : undefined;
  if (ready !== undefined) return { file, image: path, format: ready };
  return { file, input: openInitramfs(path, reading), format };
}

/** `/srv/drivers.erofs` becomes `drivers.img`; a number tells equal names apart. */
function imageName(path: string, taken: ReadonlySet<string>): string {
  const stem = basename(path)
    .replace(/(?:\.(?:img|erofs|btrfs|cpio|gz|zst|xz|lz4))+$/, '')
    .replace(/[^A-Za-z0-9._-]/g, '_')
    .replace(/^[.-]+/, '');
  for (let i = 1; ; i++) {
    const name = `${stem || 'layer'}${i === 1 ? '' : `-${i}`}.img`;
    if (!taken.has(name) && name !== MINI_FILE) return name;
  }
}

function checkPayload({ name, root }: BootInput): void {
  const init = find(root, 'init');
  if (init === undefined) {
    const what = root.entries?.size === 0 ? 'is empty' : 'has no /init, which would be started';
    throw new MountError('layer', `${name}: ${what}: name an initramfs`);
  }
  const type = init.mode & S.IFMT;
  if (type === S.IFLNK || (type === S.IFREG && (init.mode & 0o111) !== 0)) return;
  throw new MountError('layer', `${name}: its /init is no program: make it an executable file`);
}

/** Makes the image, its hash tree and what is to be signed of it, in `folder`. */
export async function buildLayer(
  request: BuildRequest,
  { file, format, input, image }: LayerSource,
  folder: string,
): Promise<Layer> {
  const path = join(folder, file);
  let payload: Payload;
  if (input === undefined) payload = takeImage(image as string, format, path);
  else {
    replaceSwitchRoot(input.root);
    const { time, onBuilding: onProgress } = request;
    const options = { compression: compressionOf(request), time, onProgress };
    payload = await makeImage(input.root, format, options, path);
  }
  const isMapped = request.verify === 'verity' || request.verify === 'signature';
  request.onProgress?.(`${file}: ${isMapped ? 'hash tree' : 'digest'}`);
  const verity = isMapped ? await appendVerity(path) : undefined;
  const { size, sha256 } = digestOfFile(path);
  if (request.verify === 'signature' && verity !== undefined) {
    writeFileSync(path + VERITY_SUFFIX, writeVerity(verity, size));
  }
  return { file, format, path, size, sha256, payload, verity };
}

/** A layer as the configuration has it. */
export function layerConfig(request: BuildRequest, layer: Layer): LayerConfig {
  const beside = posix.join(posix.dirname(request.pathInBootfs), layer.file);
  const inside = request.embed ? `/images/${layer.file}` : beside;
  return {
    fs: request.raw ? '' : inside,
    fstype: layer.format,
    verify: request.verify,
    size: layer.size,
    digest: layer.sha256,
    ...(request.verify === 'verity' && layer.verity && { verity: layer.verity }),
  };
}
