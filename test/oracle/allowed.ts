// The differences between a mount and kernel overlayfs that are no failure, each with its reason.
// Asked by campaign.ts for every operation whose answers differ; trees have no such list.
// Follows: "Non-standard behavior" of Documentation/filesystems/overlayfs.rst; limits of fs/fuse.

import type { Op } from './op.js';

/** Operations on a descriptor; campaign.ts closes it after a difference, for the two sides go on differing. */
const onDescriptor = new Set(['fchmod', 'fchown', 'futimens', 'fsetxattr', 'fremovexattr']);

/** @returns why the answers may differ, or undefined when they may not */
export function allowed(op: Op, ours: string, theirs: string): string | undefined {
  if (
    onDescriptor.has(op.kind) &&
    /^(EEXIST|ENOENT|ENOTEMPTY|ESTALE|EIO)$/.test(theirs) &&
    ours === '0'
  ) {
    return 'the kernel cannot copy up a lower object that is open and has lost its name';
  }
  if (op.kind === 'fstat' && ours !== theirs && ours.replace('nlink=0', 'nlink=1') === theirs) {
    return 'the kernel shows the link count of the lower object, which keeps its name';
  }
  return undefined;
}
