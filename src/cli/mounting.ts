// What every command that mounts does alike: the options it starts from, who does the union, and how it stays with -f.
// Used by mount.ts, mount-composefs.ts and run-registry.ts.
// Waiting itself is foreground.ts's.

import { MountError } from '../stack/errors.js';
import { type Mounted, throwRefusal } from '../stack/mount.js';
import type { Backend } from '../stack/option-table.js';
import type { Arguments } from './args.js';

/** Root's mounts are for everybody, as any mount; permissions are always checked. */
export function defaultOptions(): string {
  return process.geteuid?.() === 0 ? 'allow_other' : '';
}

/** Waits for the end of a mount and shows what its server prints; Ctrl-C unmounts. */
export async function stay({ spec, served }: Mounted): Promise<number> {
  const { unmount } = await import('../stack/unmount.js');
  const { watchGone } = await import('./foreground.js');
  return watchGone({
    served,
    mountpoint: spec.mountpoint,
    unmount: (lazy) => unmount(spec.mountpoint, { lazy, force: false }),
    throwRefusal,
  });
}

/** The value of --backend. @throws MountError of kind `option`. */
export function backendOf(given: Arguments): Backend | undefined {
  const value = given.value('backend');
  if (value === undefined || value === 'auto' || value === 'fuse' || value === 'kernel')
    return value;
  throw new MountError('option', `--backend=${value}: must be one of auto, fuse, kernel`);
}
