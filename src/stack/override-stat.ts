// Which attribute has owner and mode of an object where the option xattr_permissions is given.
// Used by open.ts for the server and by ops/ for reading layers without one.
// Follows: fuse-overlayfs(1), xattr_permissions.

import type { MountSpec } from './spec.js';

/** @returns undefined: inodes have their own. */
export function overrideStatOf(permissions: MountSpec['xattrPermissions']): string | undefined {
  if (permissions === 1) return 'security.fuseoverlayfs.override_stat';
  return permissions === 2 ? 'user.fuseoverlayfs.override_stat' : undefined;
}
