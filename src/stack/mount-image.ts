// Mounts a composefs image: decides the mode, has digests compared, and hands the work to the kernel or the supervisor.
// Called by `varve mount --image` and, inside its namespace, by `varve run`; returns when the mount answers.
// Follows: the kernel's overlayfs.rst ("Data-only lower layers", "fs-verity support"), Linux 6.18.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { makeRuntime } from '../supervisor/folder.js';
import { checkLayers } from './check.js';
import type { Compared } from './compare-objects.js';
import { KernelRefusal, MountError } from './errors.js';
import type { FoundImage } from './find-image.js';
import { verityDigestOf } from './image-digest.js';
import type { ImageOptions } from './image-options.js';
import { type Mode, planMode } from './image-plan.js';
import { isComposefs } from './images.js';
import { type Mounted, viaServer } from './mount.js';
import { sourceOfImage } from './ours.js';
import { kernelLacks } from './plan.js';
import { privilege } from './privilege.js';
import type { ComposefsSpec, MountSpec } from './spec.js';

export interface ImageMount {
  readonly image: FoundImage;
  readonly parsed: ImageOptions;
  readonly mountpoint: string;
  /** undefined: the default. */
  readonly mode: Mode | undefined;
  /** `varve run`: the mount namespace that was made for this mount, as `mnt:[...]`. */
  readonly namespace?: string;
  /** Of the supervisor and the server. */
  readonly env?: NodeJS.ProcessEnv;
}

/** An image's mount that stands. */
export interface MountedImage extends Mounted {
  readonly mode: Mode;
  /** What was compared before the mount answered, as a sentence; undefined: nothing. */
  readonly compared?: string;
}

/** @throws MountError; then nothing is mounted. */
export async function mountImage(wanted: ImageMount): Promise<MountedImage> {
  const { parsed, mode } = wanted;
  const rights = privilege();
  const writable = parsed.options.upperdir !== undefined && !parsed.options.readOnly;
  const plan = planMode(mode, { rights, private: wanted.namespace !== undefined, writable });
  if (plan.mode !== 'kernel') return mountAs(plan.mode, plan.reason, wanted);
  try {
    return await mountAs('kernel', plan.reason, wanted);
  } catch (error) {
    // Whoever did not ask for the kernel gets what does the same.
    if (mode === 'kernel' || writable || !(error instanceof KernelRefusal)) throw error;
    return mountAs('follow', `the kernel refuses (${error.message})`, wanted);
  }
}

function mountAs(mode: Mode, reason: string, wanted: ImageMount): Promise<MountedImage> {
  const spec = specFor(mode, wanted);
  switch (mode) {
    case 'kernel':
      return byKernel(spec, reason, wanted);
    case 'overlay':
      return byOverlay(spec, reason, wanted);
    case 'follow':
      return byServer(spec, reason, wanted);
  }
}

/** EROFS and overlayfs of the kernel. */
async function byKernel(
  spec: MountSpec,
  reason: string,
  { image, parsed }: ImageMount,
): Promise<MountedImage> {
  const compared = await compare(parsed, spec, true);
  const { mountByKernel } = await import('./kernel-mount.js');
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  const { pinned } = await import('./hold-image.js');
  const how = {
    verity: compared?.byKernel === true ? parsed.options.verity : 'off',
    folder,
    source: sourceOfImage(image.path),
    asked: MODE_KERNEL,
  } as const;
  const files = { image: image.path, objects: spec.datadirs };
  pinned(files, spec.mountpoint, () => mountByKernel(spec, how));
  return {
    spec,
    plan: { backend: 'kernel', reason },
    mode: 'kernel',
    compared: compared?.sentence,
  };
}

const MODE_KERNEL = { what: 'mode=kernel', instead: '--mode=follow' } as const;

/** Our metadata below the kernel's overlayfs. */
async function byOverlay(
  spec: MountSpec,
  reason: string,
  wanted: ImageMount,
): Promise<MountedImage> {
  const { image, env = process.env } = wanted;
  const compared = await compare(wanted.parsed, spec, false);
  const { kernelOptions, mountFlags, requirePage } = await import('./kernel-mount.js');
  const { folder } = makeRuntime(env, process.geteuid?.() ?? 0);
  const below = join(folder, `below-${randomBytes(6).toString('hex')}`);
  const options = kernelOptions({ ...spec, lowerdirs: [below] }, 'off', '');
  requirePage(options, MODE_OVERLAY);
  const cover = { below, source: sourceOfImage(image.path), flags: mountFlags(spec), options };
  // The overlayfs above reads as whoever mounted it; permissions are decided there.
  const served = { ...spec, allowOther: true };
  const plan = { backend: 'fuse', reason } as const;
  const mounted = await viaServer(served, plan, { ...further(wanted), cover }, env);
  return { ...mounted, mode: 'overlay', compared: compared?.sentence };
}

const MODE_OVERLAY = { what: 'mode=overlay', instead: '--mode=follow' } as const;

/** Our server alone. */
async function byServer(
  spec: MountSpec,
  reason: string,
  wanted: ImageMount,
): Promise<MountedImage> {
  const plan = { backend: 'fuse', reason } as const;
  const mounted = await viaServer(spec, plan, further(wanted), wanted.env);
  return { ...mounted, mode: 'follow' };
}

/** What `verity=` asks for, where content does not come through our server. */
async function compare(
  { options: { verity } }: ImageOptions,
  spec: MountSpec,
  kernelMay: boolean,
): Promise<Compared | undefined> {
  if (verity === 'off') return undefined;
  const { compareObjects } = await import('./compare-objects.js');
  return compareObjects({
    image: spec.lowerdirs[0] as string,
    digest: spec.composefs?.digest,
    objects: spec.datadirs,
    every: verity === 'require',
    kernelMay,
  });
}

/** The checked paths, and what the server is to do. */
function specFor(mode: Mode, { image, parsed, mountpoint }: ImageMount): MountSpec {
  const { options, verity, digest } = parsed;
  const checked = checkLayers(options, mountpoint, mode !== 'kernel');
  if (!isComposefs(image.path)) {
    throw new MountError(
      'layer',
      `image: ${image.path}: is no composefs image: an EROFS image is mounted with -o lowerdir=, or by varve image mount`,
    );
  }
  const unable = kernelLacks(checked);
  if (unable !== undefined) {
    throw new MountError('option', `option ${unable}: not with --image: leave it out`);
  }
  // Compared on the file that whoever reads the image has open: the name may be another file's by then.
  const hex = digest === undefined ? undefined : verityDigestOf(image.path, digest);
  const composefs: ComposefsSpec = {
    image: image.path,
    objects: checked.datadirs,
    serve: mode === 'follow' ? 'follow' : 'metadata',
    verify: verity !== 'off',
    ...(hex === undefined ? {} : { digest: hex }),
  };
  const digests = mode === 'kernel' && digest !== undefined ? [digest] : [];
  return { ...checked, digests, composefs };
}

const further = ({ namespace }: ImageMount): { namespace?: string } =>
  namespace === undefined ? {} : { namespace };
