// The differences between a mount and kernel overlayfs that are no failure, each with its reason.
// Asked by campaign.ts for every operation whose answers differ; trees have no such list.
// Follows: "Non-standard behavior" of Documentation/filesystems/overlayfs.rst; limits of fs/fuse.

import { AT, S, stat, sys } from '../support/sys.js';
import type { Op } from './op.js';
import type { World } from './world.js';

/** Operations on a descriptor; campaign.ts closes it after a difference, for the two sides go on differing. */
const onDescriptor = new Set(['fchmod', 'fchown', 'futimens', 'fsetxattr', 'fremovexattr']);

/** @returns why the answers may differ, or undefined when they may not */
export function allowed(op: Op, ours: string, theirs: string): string | undefined {
  if (onDescriptor.has(op.kind) && /^(EEXIST|ENOENT|ESTALE|EIO)$/.test(theirs) && ours === '0') {
    return 'the kernel cannot copy up a lower object that is open and has lost its name';
  }
  if (op.kind === 'fstat' && ours !== theirs && ours.replace('nlink=0', 'nlink=1') === theirs) {
    return 'the kernel shows the link count of the lower object, which keeps its name';
  }
  return undefined;
}

/**
 * @param kernel the side of kernel overlayfs
 * @returns why neither side is asked for this, or undefined
 */
export function spared(op: Op, kernel: World): string | undefined {
  if (op.slot === undefined || !onDescriptor.has(op.kind)) return undefined;
  const fd = kernel.fd(op.slot);
  const st = stat(fd, '');
  // The copy of a regular file is linked to its place, and EEXIST; that of anything else is renamed there.
  if (typeof st === 'number' || (st.mode & S.IFMT) === S.IFREG) return undefined;
  const path = sys.readlink(AT.FDCWD, `/proc/self/fd/${fd}`);
  const gone =
    typeof path === 'number' ? null : /^(.*) \(deleted\)$/s.exec(path.toString('latin1'));
  if (gone === null || typeof stat(AT.FDCWD, gone[1] ?? '', AT.SYMLINK_NOFOLLOW) === 'number') {
    return undefined;
  }
  return 'the kernel copies up a removed lower object over what has taken its name';
}
