// Decides who shows a composefs image: the kernel, the kernel over our metadata, or our server alone; and says why.
// Called by stack/mount-image.ts once the options are read.
// What a kernel permits: erofs and trusted.* for root only, overlayfs with userxattr in any user namespace.

import { MountError } from './errors.js';
import type { Privilege } from './privilege.js';

/**
 * - `kernel`: EROFS and overlayfs of the kernel; no process of ours remains.
 * - `overlay`: our FUSE server has the metadata, the kernel's overlayfs on top reads the content from the store.
 * - `follow`: our FUSE server has both.
 */
export const MODES = ['kernel', 'overlay', 'follow'] as const;
export type Mode = (typeof MODES)[number];

export interface ModePlan {
  readonly mode: Mode;
  /** Half a sentence: `as asked`. */
  readonly reason: string;
}

/** What the mode depends on. */
export interface Circumstances {
  readonly rights: Privilege;
  /** Nothing outside of the namespace shall see the mount (`varve run`). */
  readonly private: boolean;
  readonly writable: boolean;
}

/**
 * @param wanted by --mode. @throws MountError of kind `option` or `permission` when that cannot be.
 */
export function planMode(wanted: Mode | undefined, given: Circumstances): ModePlan {
  if (wanted === undefined) return byDefault(given);
  refuseImpossible(wanted, given);
  return { mode: wanted, reason: 'as asked' };
}

function byDefault({ rights, writable, ...given }: Circumstances): ModePlan {
  if (given.private) return { mode: 'overlay', reason: 'the command has a namespace of its own' };
  if (rights.full) return { mode: 'kernel', reason: 'root may mount it' };
  if (rights.mayMount) return { mode: 'overlay', reason: 'this is root of a user namespace' };
  if (writable) {
    throw new MountError(
      'permission',
      'upperdir: without root an image is writable in a namespace only: take `varve run`, or run this inside "unshare -Urm"',
    );
  }
  return { mode: 'follow', reason: 'without root nothing else is seen outside of a namespace' };
}

function refuseImpossible(wanted: Mode, { rights, writable }: Circumstances): void {
  if (wanted === 'follow' && writable) {
    throw new MountError(
      'option',
      'mode=follow: it is read-only: leave upperdir out, or take --mode=overlay',
    );
  }
  if (wanted === 'kernel' && !rights.full) {
    throw new MountError(
      'permission',
      'mode=kernel: only root may have the kernel mount an image: take --mode=follow, or --mode=overlay in a namespace (`varve run`)',
    );
  }
  if (wanted === 'overlay' && !rights.mayMount) {
    throw new MountError(
      'permission',
      'mode=overlay: mounting is not permitted here: take `varve run`, run this inside "unshare -Urm", or take --mode=follow',
    );
  }
}
