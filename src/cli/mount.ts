// `varve mount`: options to a mount that answers; with -f it stays until the mount is gone.
// Run by main.ts. The work is done by stack/mount.ts; this file parses, says what was done, and waits.
// Manual: commands.ts.

import { MountError } from '../stack/errors.js';
import { incompleteLayersOf } from '../stack/images.js';
import { type Mounted, mountStack } from '../stack/mount.js';
import { parseOptions } from '../stack/options.js';
import { UNHELD, unheldMounts } from '../stack/unheld.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { backendOf, defaultOptions, stay } from './mounting.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  if (given.has('image')) return (await import('./mount-composefs.js')).run(given);
  for (const flag of given.operands.length === 2 ? ['mode'] : ['store', 'mode']) {
    if (given.has(flag)) {
      throw new MountError('option', `--${flag}: means something with --image only: name an image`);
    }
  }
  if (given.operands.length === 2) return runReference(given);
  for (const flag of ['lazy', 'stall', 'no-fill', 'no-prefetch', 'platform', 'trust-index']) {
    if (given.has(flag)) {
      throw new MountError(
        'option',
        `--${flag}: means something for an image of a registry: write varve mount REF MOUNTPOINT`,
      );
    }
  }
  const mountpoint = given.operands[0] as string;
  const parsed = parseOptions(given.values('options'), { defaults: defaultOptions() });
  const options = given.has('trace') ? { ...parsed, trace: true } : parsed;
  if (given.has('foreground')) (await import('./foreground.js')).holdSignals();
  return finish(given, await mountStack(options, mountpoint, backendOf(given) ?? options.backend));
}

async function runReference(given: Arguments): Promise<number> {
  const { mountReference } = await import('./mount-registry.js');
  const { interruptibly } = await import('./interrupt.js');
  const hold = given.has('foreground') ? (await import('./foreground.js')).holdSignals : undefined;
  return interruptibly(async (interrupt) => {
    const mounted = await mountReference(given, backendOf(given), interrupt.signal);
    if (interrupt.isCaught) {
      const { unmount } = await import('../stack/unmount.js');
      await unmount(mounted.spec.mountpoint, { lazy: true, force: false });
      return EXIT.failed;
    }
    hold?.();
    if (hold === undefined) interrupt.settle();
    else interrupt.disarm();
    return finish(given, mounted);
  });
}

async function finish(given: Arguments, mounted: Mounted): Promise<number> {
  announce(given, mounted);
  if (mounted.plan.backend === 'kernel') await warn(given, mounted);
  if (given.has('foreground')) return stay(mounted);
  mounted.served?.supervisor.close();
  return EXIT.ok;
}

/** What the caller should know of other mounts of the same layers. */
async function warn(given: Arguments, { spec }: Mounted): Promise<void> {
  const own = new Set(incompleteLayersOf(spec).map(({ path }) => path));
  if (own.size === 0) return;
  const unheld = await unheldMounts((_, layers) =>
    incompleteLayersOf(layers).some(({ path }) => own.has(path)),
  ).catch(() => []);
  for (const path of unheld) remark(given, `${path}: ${UNHELD}`);
}

function announce(given: Arguments, { spec, plan, served }: Mounted): void {
  const by =
    plan.backend === 'kernel'
      ? "the kernel's overlayfs"
      : `varve's server (process ${served?.status.pid})`;
  if (given.has('json')) {
    print(
      given,
      {
        mountpoint: spec.mountpoint,
        backend: plan.backend,
        reason: plan.reason,
        pid: served?.status.pid,
        spec,
      },
      () => '',
    );
  } else {
    remark(given, `${spec.mountpoint} is served by ${by}: ${plan.reason}`);
  }
}
