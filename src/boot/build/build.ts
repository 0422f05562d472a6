// `varve boot build`: an initramfs or a tree becomes images and the mini-initramfs that finds, checks and mounts them.
// Called by cli/boot-build.ts, install/ and bench/. Flow: layers are opened, modules resolved, images built with their hash
// trees, then the configuration, the mini-initramfs and boot.json are written, and OUTDIR gets its name.
// Formats: docs/boot-format.md.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type BootConfig, CONFIG_FILE, type Verify, writeConfig } from '../config.js';
import { hostModules } from './host.js';
import type { BootInput } from './input.js';
import { buildLayer, type Layer, type LayerSource, layerConfig, openLayers } from './layers.js';
import { type BootManifest, MANIFEST_FILE, MINI_FILE, writeManifest } from './manifest.js';
import { type MiniParts, miniTree } from './mini.js';
import { writeMiniFile } from './mini-file.js';
import { KernelModules, modulesOfTree, openModuleFolder, runningRelease } from './modules.js';
import { Stage } from './publish.js';
import { type BuildRequest, certificateOf, checkRequest, fallbackOf } from './request.js';
import { filesystemModules, storageModules } from './storage.js';

export type { BuildRequest } from './request.js';

/**
 * Builds OUTDIR, which appears when all of it is complete.
 * @throws MountError for what is foreseen; what the image writer throws stays as it is.
 */
export async function buildBoot(request: BuildRequest): Promise<BootManifest> {
  checkRequest(request);
  const fallback = fallbackOf(request);
  const certificate = certificateOf(request);
  const sources = openLayers(request);
  let stage: Stage | undefined;
  try {
    const payload = sources[0]?.input as BootInput;
    const modules = kernelModules(request, payload);
    const files = modules.resolve(wantedModules(request, sources, modules));
    stage = new Stage(request.out);
    const layers: Layer[] = [];
    for (const source of sources) layers.push(await buildLayer(request, source, stage.folder));
    const config: BootConfig = {
      bootfs: request.embed ? 'initrd' : request.bootfs,
      bootfstype: request.bootfstype,
      raw: request.raw,
      timeout: request.timeout,
      onFailure: request.onFailure,
      ...(fallback.config && { fallback: fallback.config }),
      overlaySize: request.overlaySize,
      layers: layers.map((layer) => layerConfig(request, layer)),
    };
    request.onProgress?.(MINI_FILE);
    const parts: MiniParts = {
      config: writeConfig(config),
      modules: { from: modules, files },
      programs: [...PROGRAMS[request.verify], ...fallback.unpackers],
      certificate,
      time: request.time ?? 0,
    };
    const manifest = writeFiles(request, stage.folder, { config, layers, parts, payload });
    request.onProgress?.('syncing');
    stage.publish();
    return manifest;
  } catch (error) {
    throw withoutRoom(error, request.out);
  } finally {
    stage?.discard();
    for (const { input } of sources) input?.close();
  }
}

/** What storage-init calls besides busybox. */
const PROGRAMS: Readonly<Record<Verify, readonly string[]>> = {
  none: [],
  digest: [],
  verity: ['dmsetup'],
  signature: ['dmsetup', 'openssl'],
};

/** Those of a folder that is named; else those of the payload, where what is needed is there; else those of this machine. */
function kernelModules(request: BuildRequest, payload: BootInput): KernelModules {
  const { folder, release } = request.modules ?? {};
  if (folder !== undefined) return new KernelModules(openModuleFolder(folder, release));
  const own = modulesOfTree(payload.root, payload.name);
  if (own === undefined || (release !== undefined && release !== own.release)) {
    return new KernelModules(openModuleFolder('/lib/modules', release ?? runningRelease()));
  }
  const inside = new KernelModules(own);
  const lacking = [request.format, 'overlay', ...mappers(request)].filter(
    (one) => !inside.has(one),
  );
  if (lacking.length === 0) return inside;
  try {
    return new KernelModules(openModuleFolder('/lib/modules', own.release));
  } catch {
    throw new MountError(
      'layer',
      `${payload.name}: its modules of kernel ${own.release} are without ${lacking.join(', ')}: name a folder with all of them by --kernel-modules`,
    );
  }
}

/** What makes a block device of an image. */
function mappers({ raw, verify }: BuildRequest): string[] {
  const isMapped = verify === 'verity' || verify === 'signature';
  return [...(raw ? [] : ['loop']), ...(isMapped ? ['dm_verity'] : [])];
}

/** Names, in the order of loading. */
function wantedModules(
  request: BuildRequest,
  sources: readonly LayerSource[],
  modules: KernelModules,
): string[] {
  const wanted: string[] = [];
  if (!request.embed) {
    if (request.host) wanted.push(...hostModules(modules, request.hostDevice));
    if (!request.host || request.storage.length > 0) {
      wanted.push(...storageModules(request.storage, modules));
    }
    if (!request.raw) wanted.push(...filesystemModules(request.bootfstype, modules));
  }
  const formats = new Set(sources.map(({ format }) => format));
  return [...wanted, ...formats, 'overlay', ...mappers(request)];
}

interface Made {
  readonly config: BootConfig;
  readonly layers: readonly Layer[];
  readonly parts: MiniParts;
  readonly payload: BootInput;
}

/** Writes initramfs.img, initoverlayfs.conf and boot.json. */
function writeFiles(
  request: BuildRequest,
  folder: string,
  { config, layers, parts, payload }: Made,
): BootManifest {
  const { embed } = request;
  const { root, programs } = miniTree(parts);
  const { offsets, ...mini } = writeMiniFile(join(folder, MINI_FILE), {
    early: payload.early,
    root,
    compress: request.miniCompress,
    embedded: embed ? layers : [],
    time: parts.time,
  });
  if (embed) for (const { path } of layers) rmSync(path);
  const manifest: BootManifest = {
    version: 1,
    release: parts.modules.from.folder.release,
    initramfs: {
      file: MINI_FILE,
      ...mini,
      early: payload.early.length,
      modules: parts.modules.files.map(({ path }) => path),
      programs,
    },
    config,
    layers: layers.map(({ file, size, sha256, payload: held, verity }) => ({
      file,
      size,
      sha256,
      payload: held,
      ...(verity && { verity }),
      ...(embed && { offset: offsets.get(file) }),
    })),
    embedded: embed,
  };
  writeFileSync(join(folder, CONFIG_FILE), parts.config);
  writeFileSync(join(folder, MANIFEST_FILE), writeManifest(manifest));
  return manifest;
}

/** A full filesystem is no matter of paths; its error names a file that nobody has heard of. */
function withoutRoom(error: unknown, out: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  const what = code === 'ENOSPC' ? 'its filesystem is full' : 'its quota is used up';
  const message = `${out}: ${what}: make room, or name another folder`;
  return new MountError('layer', message, { cause: error });
}
