// What a server does to its upper before it uses it: makes sure that nobody else does, and that it can hold attributes.
// Called by stack/open.ts once the directories are open; the lock lasts as long as the mount.
// Follows ovl_make_workdir() and ovl_inuse_trylock(), fs/overlayfs/super.c and util.c (Linux 6.18).

import { O } from '../linux/constants.js';
import { check, E, errnoName } from '../linux/errno.js';
import { emptyPath, reopenFd } from '../linux/files.js';
import { putBytes, scratch } from '../linux/memory.js';
import { lockFileSoon } from '../linux/peer.js';
import { removexattrAt, setxattrAt } from '../linux/xattr.js';
import { keep } from '../supervisor/orders.js';
import { MountError } from './errors.js';
import type { MountSpec } from './spec.js';

// Scratch of this thread that no system call wrapper uses meanwhile: an attribute's name, its value.
const NAME_AT = 0x2e100;
const VALUE_AT = 0x2e180;

/**
 * Locks the upper and the work directory of a writable mount and tries to set a mark there.
 * @param upperFd, workdirFd descriptors of the two, O_PATH or other.
 * @throws MountError `busy` when another live mount has one of them, `layer` when the filesystem keeps no attributes.
 */
export function claimUpper(spec: MountSpec, upperFd: number, workdirFd: number): void {
  claim('upperdir', spec.upperdir as string, upperFd);
  const work = claim('workdir', spec.workdir as string, workdirFd);
  tryAttributes(spec, work);
}

/** The descriptor is never closed: it is the claim, and the supervisor's duplicate is while one server succeeds another. */
function claim(role: string, path: string, opened: number): number {
  const fd = keep(`claim of ${role}`, () =>
    check(reopenFd(opened, O.RDONLY | O.DIRECTORY), `opening ${role}`, path),
  );
  const r = lockFileSoon(fd);
  if (r === -E.AGAIN) {
    throw new MountError(
      'busy',
      `${role}: ${path}: in use by another mount: unmount that, or take another directory`,
    );
  }
  if (r < 0) {
    throw new MountError('layer', `${role}: ${path}: cannot be locked (${errnoName(r)})`);
  }
  return fd;
}

function tryAttributes(spec: MountSpec, work: number): void {
  const prefix = spec.userxattr ? 'user' : 'trusted';
  const name = scratch + NAME_AT;
  const value = scratch + VALUE_AT;
  putBytes(name, `${prefix}.overlay.varve-try`);
  putBytes(value, '0');
  const r = setxattrAt(work, emptyPath(), name, value, 1, 0);
  if (r < 0) {
    throw new MountError(
      r === -E.ROFS || r === -E.OPNOTSUPP ? 'layer' : 'permission',
      `upperdir: ${spec.upperdir}: its filesystem takes no ${prefix}.* attributes (${errnoName(r)}): take another one`,
    );
  }
  removexattrAt(work, emptyPath(), name);
}
