// Decides who does the union of a mount: the kernel's overlayfs or varve's FUSE server, and says why.
// Called by stack/mount.ts once the layers are known to exist.
// What the kernel can express: Documentation/filesystems/overlayfs.rst (Linux 6.18).

import { statSync } from 'node:fs';
import { MountError } from './errors.js';
import { incompleteLayersOf, isImage, layerFoldersOf } from './images.js';
import { lazyKernelLacks } from './lazy-plan.js';
import type { MountOptions } from './option-table.js';
import type { Privilege } from './privilege.js';
import type { MountSpec } from './spec.js';

export interface Plan {
  readonly backend: 'fuse' | 'kernel';
  /** Half a sentence: `read-only and on one filesystem`. */
  readonly reason: string;
}

/**
 * @param wanted the command line's wish. `kernel` is refused where it cannot do what the options ask.
 * @throws MountError of kind `option` or `permission`.
 */
export function planMount(
  options: MountOptions,
  spec: MountSpec,
  rights: Privilege,
  wanted: MountOptions['backend'],
): Plan {
  if (wanted === 'fuse') {
    refuseVerity(options);
    requireHandles(spec, rights);
    return { backend: 'fuse', reason: 'as asked' };
  }
  const unable = kernelLacks(spec);
  if (wanted === 'kernel') {
    if (unable !== undefined) {
      throw new MountError(
        'option',
        `backend=kernel: the kernel has no ${unable}: take --backend=fuse`,
      );
    }
    if (!rights.mayMount) {
      throw new MountError(
        'permission',
        'backend=kernel: only root, or root of a user namespace, may mount it: take --backend=fuse',
      );
    }
    return { backend: 'kernel', reason: 'as asked' };
  }
  const images = imagesByKernel(spec, rights, unable);
  if (images !== undefined) return { backend: 'kernel', reason: images };
  const why = whyFuse(spec, rights, unable);
  if (why === undefined) return { backend: 'kernel', reason: 'read-only and on one filesystem' };
  refuseVerity(options);
  requireHandles(spec, rights);
  return { backend: 'fuse', reason: why };
}

/**
 * Layers of an image store were checked when they were pulled, against digests that the manifest vouches for: the kernel
 * may have them from root, who need not ask for it. @returns the reason; undefined: not here.
 */
function imagesByKernel(
  spec: MountSpec,
  rights: Privilege,
  unable: string | undefined,
): string | undefined {
  // The kernel copies a file up, and so fetches it, when it is opened for writing alone: touch(1) does that.
  if (spec.upperdir !== undefined) return undefined;
  if (!rights.full || unable !== undefined || spec.trace || spec.nfsExport) return undefined;
  const layers = layerFoldersOf(spec);
  if (spec.datadirs.length > 0 || layers.length < spec.lowerdirs.length) return undefined;
  if (incompleteLayersOf(spec).length === 0) return 'root may mount layers of an image store';
  if (lazyKernelLacks(rights) !== undefined) return undefined;
  return 'root may mount layers whose content arrives on demand (fanotify)';
}

/** The first reason not to take the kernel, if there is one. */
function whyFuse(
  spec: MountSpec,
  rights: Privilege,
  unable: string | undefined,
): string | undefined {
  if (spec.upperdir !== undefined) return 'it is writable';
  if (!rights.mayMount) return 'mounting is not permitted here';
  if (unable !== undefined) return `the kernel has no ${unable}`;
  if (spec.trace) return 'requests are to be traced';
  if (spec.datadirs.length > 0) return 'it has data-only layers';
  // The kernel trusts an image that it mounts: only where somebody asks for it.
  if (spec.lowerdirs.some(isImage)) {
    if (incompleteLayersOf(spec).length === 0) return 'a layer is an image';
    const lacks = lazyKernelLacks(rights);
    return `content arrives on demand${lacks === undefined ? '' : `, and ${lacks}`}`;
  }
  const devices = new Set(spec.lowerdirs.map((path) => statSync(path).dev));
  if (devices.size > 1) return 'the layers are on several filesystems';
  return undefined;
}

/** The first thing asked for that kernel overlayfs does not know. */
export function kernelLacks(spec: MountSpec): string | undefined {
  if (spec.uidMapping.length > 0 || spec.gidMapping.length > 0) return 'uidmapping or gidmapping';
  if (spec.squashUid !== undefined || spec.squashGid !== undefined)
    return 'squash_to_uid or squash_to_gid';
  if (spec.whiteouts === 'aufs') return 'whiteouts=aufs';
  if (spec.ino32) return 'ino32';
  if (spec.staticNlink) return 'static_nlink';
  if (!spec.acl) return 'noacl';
  if (!spec.xattrs) return 'noxattrs';
  if (spec.xattrPermissions !== 0) return 'xattr_permissions';
  if (spec.raw) return 'raw';
  if (spec.userxattr && layerFoldersOf(spec).some(({ hasTrustedMarks }) => hasTrustedMarks)) {
    return 'userxattr over layers of container images, whose marks are trusted.*';
  }
  if (spec.datadirs.some(isImage)) return 'data-only layers that are images';
  return undefined;
}

/** Opening a file handle of a layer is a right of the initial user namespace alone. */
function requireHandles(spec: MountSpec, rights: Privilege): void {
  if (spec.nfsExport && !rights.full) {
    throw new MountError(
      'permission',
      'nfs_export=on: only root of the initial user namespace may open file handles of the layers: leave it out',
    );
  }
}

function refuseVerity(options: MountOptions): void {
  if (options.verity !== 'off') {
    throw new MountError(
      'option',
      `verity=${options.verity}: only the kernel checks fs-verity digests: take --backend=kernel`,
    );
  }
}
