// Images for the kernel's overlayfs: each is mounted for a moment, so that the overlay can take it as a layer.
// Used by kernel-mount.ts. The overlay keeps what it needs of the mounts; they are detached before this returns.
// Follows: fs/erofs/super.c (block devices; files since Linux 6.12), mount(2).

import { mkdirSync, mkdtempSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MNT, MS } from '../linux/constants.js';
import { E, errnoName } from '../linux/errno.js';
import { attachLoop, type LoopDevice } from '../linux/loop.js';
import { mount, umount2 } from '../linux/mount.js';
import { MountError } from './errors.js';
import { isImage } from './images.js';

/**
 * Calls `work` with the layers as directories: images are mounted below `folder` meanwhile.
 * @throws MountError of kind `permission` for an image that the kernel shall not trust, `layer` for one that it refuses.
 */
export function withMountedImages(
  lowerdirs: readonly string[],
  folder: string,
  work: (directories: readonly string[]) => void,
): void {
  if (!lowerdirs.some(isImage)) {
    work(lowerdirs);
    return;
  }
  for (const path of lowerdirs) if (isImage(path)) requireOwn(path);
  const base = mkdtempSync(join(folder, 'images-'));
  const mounted: string[] = [];
  try {
    const directories = lowerdirs.map((path, i) => {
      if (!isImage(path)) return path;
      const directory = join(base, String(i));
      mkdirSync(directory);
      mounted.push(directory);
      mountErofs(path, directory);
      return directory;
    });
    work(directories);
  } finally {
    for (const directory of mounted) {
      umount2(directory, MNT.DETACH);
      rmdirSync(directory);
    }
    rmdirSync(base);
  }
}

/** The kernel parses an image with its own rights: only one that nobody else could have written is given to it. */
function requireOwn(path: string): void {
  const { uid, mode } = statSync(path);
  if (uid === (process.geteuid?.() ?? 0) && (mode & 0o022) === 0) return;
  throw new MountError(
    'permission',
    `backend=kernel: ${path}: others could have written this image, and the kernel would trust it: take --backend=fuse, or make it your own (chown, chmod go-w)`,
  );
}

/**
 * Mounts one image, read-only: by a loop device, or from the file where there is none (in a container).
 * Not the other way round: reading a file-backed image on ext4 makes Linux 6.18 warn (ext4_check_map_extents_env).
 */
function mountErofs(path: string, directory: string): void {
  const flags = MS.RDONLY | MS.NODEV | MS.NOSUID;
  const loop = loopOf(path);
  const r = mount(loop?.path ?? path, directory, 'erofs', flags, '');
  loop?.close();
  if (r >= 0) return;
  const why = r === -E.NODEV ? 'it has no EROFS' : `${errnoName(r)}: dmesg has the reason`;
  throw new MountError(
    'layer',
    `backend=kernel: ${path}: the kernel cannot mount this image (${why}): take --backend=fuse`,
  );
}

function loopOf(path: string): LoopDevice | undefined {
  try {
    return attachLoop(path);
  } catch {
    return undefined;
  }
}
