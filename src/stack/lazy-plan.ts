// Whether the kernel can mount layers whose content is still to come.
// Asked by plan.ts before anything is loaded that does it (lazy-kernel.ts).
// Follows: fanotify_mark(2), FAN_PRE_ACCESS.

import { release } from 'node:os';
import type { Privilege } from './privilege.js';

/** The kernel that has pre-content events. */
const KERNEL = [6, 14] as const;

/** Why the kernel cannot mount layers that are not complete; undefined: it can. @param kernel as uname(2) says. */
export function lazyKernelLacks(rights: Privilege, kernel = release()): string | undefined {
  if (!rights.full) return 'fanotify is for root of the initial user namespace alone';
  const [major = 0, minor = 0] = kernel.split('.').map(Number);
  const isNew = major > KERNEL[0] || (major === KERNEL[0] && minor >= KERNEL[1]);
  return isNew ? undefined : `fanotify of Linux ${kernel} has no pre-content events`;
}
