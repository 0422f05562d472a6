// The drive of a prefix: its changes moved aside, the union mounted in their place, and all of that back again.
// Called by session.ts, stop.ts and standing.ts, under the prefix's lock. Each step is one rename or one mount.
// Layers are portable between backends: no redirects, no metacopy files, no index (overlayfs.rst).

import { chmodSync, lstatSync, mkdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { MNT } from '../../linux/constants.js';
import { E, errnoName } from '../../linux/errno.js';
import { umount2 } from '../../linux/mount.js';
import { mountAt } from '../../linux/mountinfo.js';
import { KernelRefusal, MountError } from '../../stack/errors.js';
import { mountStack } from '../../stack/mount.js';
import type { MountOptions } from '../../stack/option-table.js';
import { parseOptions } from '../../stack/options.js';
import { privilege } from '../../stack/privilege.js';
import { unmount } from '../../stack/unmount.js';
import type { Below } from './below.js';
import type { Process, SessionBackend, SessionRecord } from './layout.js';
import { endHolder, startHolder } from './namespace.js';
import type { PrefixPaths } from './places.js';

/** What every drive is mounted with. */
const PORTABLE = 'redirect_dir=follow,metacopy=off,index=off';

/** Puts the prefix's own changes aside and an empty directory in their place. */
export function moveAside(paths: PrefixPaths): void {
  renameSync(paths.driveC, paths.upper);
  // fusermount3 wants a mount point that its user may write to.
  mkdirSync(paths.driveC, { mode: 0o700 });
  emptyWork(paths.work);
}

/** The kernel leaves a directory there that nobody may enter. */
export function emptyWork(work: string): void {
  try {
    chmodSync(`${work}/work`, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { mode: 0o700 });
}

/**
 * The reverse; repeating it does no harm.
 * @returns where something was put that had been written beside the mount.
 */
export function moveBack(paths: PrefixPaths): string | undefined {
  if (lstatSync(paths.upper, { throwIfNoEntry: false }) === undefined) return undefined;
  const stray = clear(paths);
  renameSync(paths.upper, paths.driveC);
  return stray;
}

function clear({ driveC, state }: PrefixPaths): string | undefined {
  try {
    rmdirSync(driveC);
    return undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return undefined;
    if (code !== 'ENOTEMPTY' && code !== 'ENOTDIR') throw error;
  }
  for (let n = 1; ; n++) {
    const stray = `${state}/found-${n}`;
    if (lstatSync(stray, { throwIfNoEntry: false }) !== undefined) continue;
    renameSync(driveC, stray);
    return stray;
  }
}

/** What mountDrive() made. */
export interface Drive {
  readonly backend: SessionBackend;
  readonly holder?: Process;
  /** What mount(8) is told to make the same mount again; absent where that does not do it. */
  readonly mountOptions?: string;
}

/**
 * Mounts the union at drive_c. @param below topmost first.
 * @throws MountError; then nothing is mounted.
 */
export async function mountDrive(
  paths: PrefixPaths,
  below: readonly Below[],
  backend: 'fuse' | 'kernel' | 'auto',
  env: NodeJS.ProcessEnv,
): Promise<Drive> {
  const options: MountOptions = {
    ...parseOptions(['lowerdir=/'], { defaults: PORTABLE }),
    lowerdirs: below.map(({ driveC }) => driveC),
    datadirs: below.flatMap(({ data }) => data),
    upperdir: paths.upper,
    workdir: paths.work,
    fsname: 'varve',
    readOnly: false,
  };
  const rights = privilege();
  if (backend === 'kernel' && !rights.mayMount) {
    return { backend: 'namespace', holder: await startHolder(paths, below, env) };
  }
  if (backend === 'kernel' || (backend === 'auto' && rights.mayMount)) {
    try {
      const { spec } = await mountStack(options, paths.driveC, 'kernel');
      // Images are mounted themselves first, for the moment.
      if (below.some(({ isImage }) => isImage)) return { backend: 'kernel' };
      const { mountWords } = await import('../../stack/kernel-mount.js');
      return { backend: 'kernel', mountOptions: mountWords(spec, options.verity) };
    } catch (error) {
      // A server does what the kernel does not: an image that it will not trust, too many layers, an upper on overlayfs.
      if (backend === 'kernel' || !(error instanceof KernelRefusal)) throw error;
    }
  }
  const { served } = await mountStack({ ...options, ...ownedByUser() }, paths.driveC, 'fuse');
  served?.supervisor.close();
  return { backend: 'fuse' };
}

/** Layers that somebody else has made, images above all, are a plain user's to change: Wine writes everywhere. */
function ownedByUser(): Pick<MountOptions, 'squashUid' | 'squashGid'> {
  const uid = process.geteuid?.() ?? 0;
  return uid === 0 ? {} : { squashUid: uid, squashGid: process.getegid?.() ?? 0 };
}

/**
 * Unmounts, when everything is stored.
 * @throws MountError: `busy` while something is open there; then everything is as it was.
 */
export async function unmountDrive(paths: PrefixPaths, session: SessionRecord): Promise<void> {
  if (session.backend === 'namespace') return endHolder(paths, session.holder as Process);
  const entry = mountAt(paths.driveC);
  if (entry === undefined) return;
  if (entry.type === 'overlay') {
    const r = umount2(paths.driveC, MNT.NOFOLLOW);
    if (r >= 0) return;
    throw new MountError(
      r === -E.BUSY ? 'busy' : 'permission',
      `${paths.driveC}: cannot be unmounted: ${errnoName(r)}`,
    );
  }
  await unmount(paths.driveC, { lazy: false, force: false });
}
