// `varve mount --image`: a composefs image and its store to a mount that answers.
// Run by mount.ts; the work is done by stack/mount-image.ts. `varve run` reads its flags by the same functions.
// Manual: commands.ts.

import { MountError } from '../stack/errors.js';
import { type FoundImage, findImage } from '../stack/find-image.js';
import { type ImageOptions, parseImageOptions } from '../stack/image-options.js';
import { MODES, type Mode } from '../stack/image-plan.js';
import { type MountedImage, mountImage } from '../stack/mount-image.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { defaultOptions, stay } from './mounting.js';
import { print, remark } from './output.js';
import { storePath } from './store.js';

/** What the flags of an image's mount say. */
export interface AskedImage {
  readonly image: FoundImage;
  readonly parsed: ImageOptions;
  /** undefined: the default. */
  readonly mode: Mode | undefined;
}

/** @throws MountError of kind `option` or `layer`. */
export function askedImage(given: Arguments): AskedImage {
  const named = given.values('store');
  const stores = named.length === 0 ? [storePath(given)] : named;
  if (given.has('backend')) {
    throw new MountError('option', '--backend: not with --image: --mode says who does it');
  }
  const image = findImage(given.value('image') as string, stores);
  const read = parseImageOptions(given.values('options'), image, defaultOptions());
  const parsed = given.has('trace') ? { ...read, options: { ...read.options, trace: true } } : read;
  return { image, parsed, mode: modeOf(given) };
}

function modeOf(given: Arguments): Mode | undefined {
  const value = given.value('mode');
  const mode = MODES.find((m) => m === value);
  if (value !== undefined && mode === undefined) {
    throw new MountError('option', `--mode=${value}: must be one of ${MODES.join(', ')}`);
  }
  return mode;
}

export async function run(given: Arguments): Promise<number> {
  const asked = askedImage(given);
  if (given.has('foreground')) (await import('./foreground.js')).holdSignals();
  const mounted = await mountImage({ ...asked, mountpoint: given.operands[0] as string });
  announce(given, asked.image, mounted);
  if (given.has('foreground')) return stay(mounted);
  mounted.served?.supervisor.close();
  return EXIT.ok;
}

const WHO: Record<Mode, string> = {
  kernel: 'the kernel',
  overlay: "the kernel's overlayfs over the metadata of varve's server",
  follow: "varve's server",
};

/** Says who serves the mount and why, and what was compared. */
export function announce(given: Arguments, image: FoundImage, mounted: MountedImage): void {
  const { spec, plan, mode, served, compared } = mounted;
  const pid = served?.status.pid;
  if (given.has('json')) {
    const { mountpoint } = spec;
    const { path, digest, store, objects } = image;
    const { reason, backend } = plan;
    print(
      given,
      {
        mountpoint,
        mode,
        backend,
        reason,
        pid,
        compared,
        image: { path, digest, store, objects },
        spec,
      },
      () => '',
    );
    return;
  }
  const by = pid === undefined ? WHO[mode] : `${WHO[mode]} (process ${pid})`;
  remark(given, `${spec.mountpoint} is served by ${by}, mode ${mode}: ${plan.reason}`);
  if (compared !== undefined) remark(given, compared);
}
