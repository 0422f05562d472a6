// `varve mount REF MOUNTPOINT`: an image of a registry to a mount that answers, at once with --lazy.
// Run by mount.ts; the work is done by lazy/pull and stack/registry-mount.ts.
// Manual: commands.ts, registry-commands.ts.

import { MountError } from '../stack/errors.js';
import type { Mounted } from '../stack/mount.js';
import type { Backend } from '../stack/option-table.js';
import { parseOptions } from '../stack/options.js';
import { mountRegistryImage } from '../stack/registry-mount.js';
import type { Arguments } from './args.js';
import { lazyOptions } from './lazy-options.js';
import { defaultOptions } from './mounting.js';
import { obtainImage } from './obtain-image.js';

/** @throws MountError; then nothing is mounted. */
export async function mountReference(
  given: Arguments,
  backend: Backend | undefined,
  signal: AbortSignal,
): Promise<Mounted> {
  const [text, mountpoint] = given.operands as [string, string];
  refuseLayers(given);
  const { store, image, ahead } = await obtainImage(given, text, {
    lazy: given.has('lazy'),
    fresh: false,
    mounts: { prefetches: true },
    signal,
  });
  const mount = mountRegistryImage({
    store,
    image,
    mountpoint,
    options: [...lazyOptions(given), ...given.values('options')],
    defaults: defaultOptions(),
    backend,
    trace: given.has('trace'),
  });
  return mount.finally(() => ahead?.end());
}

/** Before anything is fetched: what was meant may be a stack, with one word too many. */
function refuseLayers(given: Arguments): void {
  const { lowerdirs } = parseOptions(['lowerdir=/', ...given.values('options')], { defaults: '' });
  if (lowerdirs.length === 1 && lowerdirs[0] === '/') return;
  throw new MountError('option', 'lowerdir: the layers of an image are its own: leave it out');
}
