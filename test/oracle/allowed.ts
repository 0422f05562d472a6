// The differences between a mount and kernel overlayfs that are no failure, each with its reason.
// Asked by campaign.ts for every operation whose answers differ; trees have no such list.
// Follows: "Non-standard behavior" of Documentation/filesystems/overlayfs.rst; limits of fs/fuse.

import type { Op } from './op.js';

/** @returns why the answers may differ, or undefined when they may not */
export function allowed(_op: Op, _ours: string, _theirs: string): string | undefined {
  return undefined;
}
