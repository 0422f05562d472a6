// Builds what is installed from a complete initramfs, by the settings of the machine: what happens when a kernel is installed.
// Called by cli/boot-install.ts for --initramfs. The build lies in a temporary folder, which is gone afterwards.
// kernel-install(8) names a folder that it takes away itself, even when this is killed.

import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type BuildRequest, buildBoot } from '../build/build.js';
import { DEFAULT_OVERLAY_SIZE, DEFAULT_TIMEOUT, type OnFailure } from '../config.js';
import { digestIfThere } from '../digest.js';
import { type InstallRequest, type InstallResult, installBuild } from './install.js';
import { type BootPlace, bootfsOfPlace, bootPlace } from './places.js';
import { readRecords } from './record.js';
import type { BootSettings } from './settings.js';
import { isUnchanged } from './settle.js';

export interface UpdateRequest extends Omit<InstallRequest, 'outdir'> {
  readonly release: string;
  /** A complete initramfs. */
  readonly initramfs: string;
  readonly onProgress?: (text: string) => void;
}

/** @throws MountError; then the boot filesystem is as it was. */
export async function installInitramfs(request: UpdateRequest): Promise<InstallResult> {
  const { settings } = request;
  if (settings.verify === 'signature') {
    throw new MountError(
      'option',
      `${request.release}: verify signature: the build must be signed before it is installed: call varve boot build, sign and install`,
    );
  }
  const place = bootPlace(request.boot);
  const initramfs = completeOne(place.folder, request.initramfs);
  const wanted = request.bootfs ?? settings.bootfs ?? 'auto';
  const bootfs = wanted === 'auto' ? await bootfsOfPlace(place) : wanted;
  const temporary = mkdtempSync(join(temporaryFolder(), 'varve-boot-'));
  try {
    const outdir = join(temporary, 'out');
    const fallback = fallbackOf(request, place, initramfs);
    await buildBoot(
      buildRequest(request, { initramfs, bootfs, outdir, fallback, type: place.type }),
    );
    return await installBuild({ ...request, bootfs, outdir });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function temporaryFolder(): string {
  const { KERNEL_INSTALL_STAGING_AREA: staging, TMPDIR: folder } = process.env;
  return staging ?? folder ?? '/var/tmp';
}

/** The initramfs itself; of one of ours, the one that was kept when it took its name. @throws MountError of kind `layer`. */
function completeOne(folder: string, path: string): string {
  const digest = digestIfThere(path);
  if (digest === undefined) {
    throw new MountError('absent', `${path}: is no file: make the complete initramfs first`);
  }
  for (const { release, now } of readRecords(folder)) {
    if (now?.initramfs.sha256 !== digest) continue;
    if (now.full !== undefined && isUnchanged(folder, now.full)) return join(folder, now.full.path);
    throw new MountError(
      'layer',
      `${path}: is the mini-initramfs of kernel ${release} already: make the complete initramfs again first`,
    );
  }
  return path;
}

/**
 * The complete initramfs as what is fallen back to, for the build: it puts there what unpacks it. Installing names the place where
 * it is kept. @returns undefined: nothing of it will be in the boot filesystem.
 */
function fallbackOf(
  request: UpdateRequest,
  place: BootPlace,
  initramfs: string,
): string | undefined {
  const path = realpathSync(initramfs);
  if (!path.startsWith(`${place.folder}/`)) return undefined;
  const name = path.slice(place.folder.length + 1);
  const as = (request.as ?? request.settings.as)?.replaceAll('%v', request.release);
  if (name === as && !request.keepFull) return undefined;
  return `${place.prefix}/${name}=${path}`;
}

interface Found {
  readonly fallback: string | undefined;
  readonly initramfs: string;
  readonly bootfs: string;
  readonly outdir: string;
  readonly type: string | undefined;
}

function onFailureOf({ onFailure }: BootSettings, fallback: string | undefined): OnFailure {
  if (fallback !== undefined) return onFailure ?? 'fallback';
  return onFailure === undefined || onFailure === 'fallback' ? 'shell' : onFailure;
}

function buildRequest(request: UpdateRequest, found: Found): BuildRequest {
  const { settings, release, root } = request;
  const folder = join(root, 'lib/modules');
  return {
    source: { initramfs: found.initramfs },
    modules: existsSync(join(folder, release)) ? { folder, release } : { release },
    out: found.outdir,
    layers: settings.layers,
    format: settings.fstype ?? 'erofs',
    compress: settings.compress,
    storage: settings.storage ?? [],
    host: false,
    bootfs: found.bootfs,
    bootfstype: request.bootfstype ?? settings.bootfstype ?? found.type ?? 'auto',
    raw: false,
    embed: false,
    verify: settings.verify ?? 'verity',
    certificate: settings.certificate,
    timeout: settings.timeout ?? DEFAULT_TIMEOUT,
    fallback: found.fallback,
    onFailure: onFailureOf(settings, found.fallback),
    canFallBack: true,
    overlaySize: settings.overlaySize ?? DEFAULT_OVERLAY_SIZE,
    miniCompress: 'lz4',
    pathInBootfs: '/initoverlayfs.img',
    ...(request.onProgress && { onProgress: request.onProgress }),
  };
}
