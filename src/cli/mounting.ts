// What every command that mounts does alike: the options it starts from, and how it stays with -f.
// Used by mount.ts and mount-composefs.ts.
// Waiting itself is foreground.ts's.

import { type Mounted, throwRefusal } from '../stack/mount.js';

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
