// Mounts a stack with the kernel's overlayfs: the options of a MountSpec in the kernel's words.
// Called by stack/mount.ts when the plan says so. Nothing of varve runs afterwards; the mount's source is `varve`.
// Follows ovl_parse_param(), fs/overlayfs/params.c (Linux 6.18); mount(2) takes one page of options.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { MS } from '../linux/constants.js';
import { E, errnoName } from '../linux/errno.js';
import { mount } from '../linux/mount.js';
import { KernelRefusal, MountError } from './errors.js';
import { type Asked, withMountedImages } from './kernel-images.js';
import type { MountOptions } from './option-table.js';
import { escapePath, joinLayers } from './option-text.js';
import type { MountSpec } from './spec.js';

const PAGE = 4096;

/**
 * The text that the kernel gets.
 * @param empty an empty directory: overlayfs wants two layers where there is no upper.
 */
export function kernelOptions(
  spec: MountSpec,
  verity: MountOptions['verity'],
  empty: string,
): string {
  const single =
    spec.upperdir === undefined && spec.lowerdirs.length === 1 && spec.datadirs.length === 0;
  const lowers = single ? [...spec.lowerdirs, empty] : spec.lowerdirs;
  const options = [`lowerdir=${joinLayers(lowers, spec.datadirs)}`];
  if (spec.upperdir !== undefined && spec.workdir !== undefined) {
    options.push(`upperdir=${escapePath(spec.upperdir)}`, `workdir=${escapePath(spec.workdir)}`);
    if (!spec.userxattr) options.push(`index=${spec.index ? 'on' : 'off'}`);
    if (spec.volatile || !spec.fsync) options.push('volatile');
  }
  if (spec.userxattr) {
    // Redirects and metacopy files are never trusted with user.* marks: the kernel refuses the options.
    options.push('userxattr');
  } else {
    options.push(`redirect_dir=${spec.redirectDir}`);
    if (spec.metacopy) options.push('metacopy=on');
  }
  // With the empty layer elsewhere, xino keeps one st_dev for all files.
  if (single && spec.xino === 'auto') options.push('xino=on');
  else if (spec.xino !== 'auto') options.push(`xino=${spec.xino}`);
  if (spec.uuid !== 'auto') options.push(`uuid=${spec.uuid}`);
  if (spec.nfsExport) options.push('nfs_export=on');
  if (verity !== 'off') options.push(`verity=${verity}`);
  if (spec.context !== undefined) options.push(`context="${spec.context}"`);
  return options.join(',');
}

/** Mount flags of a spec, bits of MS. */
export function mountFlags(spec: MountSpec): number {
  return (
    (spec.readOnly ? MS.RDONLY : 0) |
    (spec.nosuid ? MS.NOSUID : 0) |
    (spec.nodev ? MS.NODEV : 0) |
    (spec.noexec ? MS.NOEXEC : 0) |
    (spec.noatime ? MS.NOATIME : 0)
  );
}

/** The same for `mount -o`, flags included. Layers are directories, with a writable one on top. */
export function mountWords(spec: MountSpec, verity: MountOptions['verity']): string {
  const flags = (['nosuid', 'nodev', 'noexec', 'noatime'] as const).filter((name) => spec[name]);
  return [...flags, kernelOptions(spec, verity, '')].join(',');
}

/** What a kernel mount is besides its spec. */
export interface KernelMount {
  readonly verity: MountOptions['verity'];
  /** Where images are mounted meanwhile, and an empty directory is made. */
  readonly folder: string;
  /** First column of /proc/mounts; see ours.ts. */
  readonly source: string;
  readonly asked: Asked;
  /** Folders of layers that are not complete and whose blobs the loader has marked: only these may be mounted so. */
  readonly loaded?: ReadonlySet<string> | undefined;
}

/** For a stack of layers. */
export const BACKEND_KERNEL = { what: 'backend=kernel', instead: '--backend=fuse' } as const;

/**
 * Mounts.
 * @throws MountError that names the kernel's reason.
 */
export function mountByKernel(spec: MountSpec, how: KernelMount): void {
  const empty = join(how.folder, 'empty');
  mkdirSync(empty, { recursive: true, mode: 0o755 });
  const { folder, asked, loaded = new Set() } = how;
  withMountedImages(spec, { folder, asked, loaded }, (lowerdirs) => {
    mountOverlay({ ...spec, lowerdirs }, how, empty);
  });
}

function mountOverlay(spec: MountSpec, how: KernelMount, empty: string): void {
  const { asked, source } = how;
  const options = kernelOptions(spec, how.verity, empty);
  requirePage(options, asked);
  const r = mount(source, spec.mountpoint, 'overlay', mountFlags(spec), options);
  if (r >= 0) return;
  if (r === -E.PERM || r === -E.ACCES) {
    throw new KernelRefusal(
      'permission',
      `mount: ${spec.mountpoint}: the kernel refuses overlayfs here: take ${asked.instead}`,
    );
  }
  if (r === -E.BUSY) {
    throw new MountError(
      'busy',
      `mount: ${spec.mountpoint}: the upperdir or workdir is in use: unmount the other overlay`,
    );
  }
  throw new KernelRefusal(
    'server',
    `mount: ${spec.mountpoint}: overlayfs says ${errnoName(r)}: dmesg has the reason; ${asked.instead} may work`,
  );
}

/** @throws KernelRefusal of kind `option` for options that mount(2) would cut off. */
export function requirePage(options: string, asked: Asked): void {
  if (Buffer.byteLength(options) < PAGE) return;
  throw new KernelRefusal(
    'option',
    `${asked.what}: too many or too long layer names: take ${asked.instead}`,
  );
}
