// Exchanges a server's mount for one of the kernel while it is in use: paths that are opened from then on are the kernel's.
// Called by `varve detach --swap` once every layer is complete; the server ends when the last file that it has open is closed.
// Follows: open_tree(2), move_mount(2) with MOVE_MOUNT_BENEATH (Linux 6.5), umount2(2) MNT_DETACH.

import { mkdirSync, mkdtempSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MNT } from '../linux/constants.js';
import { errnoName } from '../linux/errno.js';
import { close } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { umount2 } from '../linux/mount.js';
import { cloneMount, moveBeneath } from '../linux/mount-api.js';
import { mountAt, mountTable } from '../linux/mountinfo.js';
import { findSupervisor } from '../supervisor/client.js';
import { makeRuntime } from '../supervisor/folder.js';
import { MountError } from './errors.js';
import { mountByKernel } from './kernel-mount.js';
import { needsLoader } from './mount.js';
import { putPath } from './open-dirs.js';
import { sourceOfStack } from './ours.js';
import { kernelLacks } from './plan.js';
import { privilege } from './privilege.js';
import type { MountSpec } from './spec.js';

/** What programs may notice of an exchange. */
export interface Swapped {
  /** st_dev of the mount's root, before and after. */
  readonly before: number;
  readonly after: number;
}

const ASKED = { what: '--swap', instead: 'the mount as it is' } as const;

/**
 * @param mountpoint absolute, of a server's mount.
 * @throws MountError; then the mount is what it was.
 */
export async function swapMount(mountpoint: string): Promise<Swapped> {
  const spec = await specOf(mountpoint);
  requireSwappable(spec);
  mapMemory();
  const before = statSync(mountpoint).dev;
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  const aside = mkdtempSync(join(folder, 'swap-'));
  const place = join(aside, 'mount');
  try {
    mkdirSync(place);
    mountByKernel(
      { ...spec, mountpoint: place },
      { verity: 'off', folder, source: sourceOfStack(spec.lowerdirs), asked: ASKED },
    );
    try {
      const after = statSync(place).dev;
      putBeneath(place, mountpoint);
      return { before, after };
    } finally {
      umount2(place, MNT.DETACH);
    }
  } finally {
    // Never what is mounted: rmdir(2) takes no mount point.
    for (const path of [place, aside]) {
      try {
        rmdirSync(path);
      } catch {
        // What went wrong before is what is told.
      }
    }
  }
}

async function specOf(mountpoint: string): Promise<MountSpec> {
  const supervisor = await findSupervisor();
  try {
    const reply = await supervisor?.ask({ op: 'status', mountpoint });
    const status = reply?.mounts?.[0];
    const isServed = mountAt(mountpoint)?.type.startsWith('fuse') === true;
    if (status?.state !== 'mounted' || !isServed) {
      throw new MountError('absent', `${mountpoint}: no server of yours has it mounted`);
    }
    return status.spec as MountSpec;
  } finally {
    supervisor?.close();
  }
}

function requireSwappable(spec: MountSpec): void {
  const { mountpoint } = spec;
  if (!privilege().full) {
    throw new MountError('permission', '--swap: only root may give a mount to the kernel');
  }
  if (spec.upperdir !== undefined && !spec.readOnly) {
    // Files that are open now would be written through the server behind the kernel's back.
    throw new MountError(
      'option',
      `--swap: ${mountpoint} is writable, and an upper has one writer: unmount it and mount it with --backend=kernel`,
    );
  }
  if (needsLoader(spec)) {
    throw new MountError('busy', `--swap: ${mountpoint}: not everything is here: add --wait`);
  }
  const above = mountTable().find((one) => one.mountpoint.startsWith(`${mountpoint}/`));
  if (above !== undefined) {
    throw new MountError(
      'busy',
      `--swap: ${above.mountpoint} is mounted in it, and would go with the server's mount: unmount that first`,
    );
  }
  const unable = kernelLacks(spec);
  if (unable !== undefined) throw new MountError('option', `--swap: the kernel has no ${unable}`);
}

function putBeneath(place: string, mountpoint: string): void {
  const fd = cloneMount(putPath(place), false);
  const r = fd < 0 ? fd : moveBeneath(fd, putPath(mountpoint));
  if (fd >= 0) close(fd);
  const done = r < 0 ? r : umount2(mountpoint, MNT.DETACH | MNT.NOFOLLOW);
  if (done < 0) {
    throw new MountError(
      'server',
      `--swap: ${mountpoint}: the kernel takes no mount beneath it (${errnoName(done)}; Linux 6.5 is needed): it stays as it is`,
    );
  }
}
