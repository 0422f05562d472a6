// Which rows of the mount table were made by varve.
// Used by umount, status and why, also when no supervisor knows of a mount (kernel backend, a supervisor that died).
// The marks are set by linux/mount.ts (type fuse.varve) and kernel-mount.ts (source varve).

import type { MountEntry } from '../linux/mountinfo.js';

/** A mount of our server, or of the kernel's overlayfs on our behalf. */
export function isOurs(entry: MountEntry): boolean {
  return entry.type === 'fuse.varve' || (entry.type === 'overlay' && entry.source === 'varve');
}
