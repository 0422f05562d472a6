// Mounts a file again that was mounted before, through a loop device.
// Used by tests that unmount an image and mount it once more; the first mount of a new file needs no care.
// Follows: mount(8) on `-o loop`, which takes the loop device that the file still has; fs/super.c, get_tree_bdev_flags().

import { execFileSync } from 'node:child_process';

/** Milliseconds until another holder is believed to stay. */
const PATIENCE = 60_000;

/**
 * Mounts `image` at `at`, with a superblock of its own: the one before may live on for a while after umount(8), for a mount
 * namespace that another test made has a copy of every mount, and a server that ends has its private ones. Sharing it would
 * fail (EBUSY, where the filesystem made itself read-only) or hide that nothing was read from the image.
 * @param options as mount(8) takes them after `-o`, `loop` not named
 */
export function mountLoop(image: string, at: string, options = ''): void {
  waitUntilUnused(image);
  execFileSync('mount', ['-o', options === '' ? 'loop' : `loop,${options}`, image, at]);
}

/** Returns when no loop device has the file. @throws Error after `patience` milliseconds. */
export function waitUntilUnused(image: string, patience = PATIENCE): void {
  const until = Date.now() + patience;
  for (;;) {
    const devices = execFileSync('losetup', ['--associated', image], { encoding: 'utf8' });
    if (devices === '') return;
    if (Date.now() >= until) throw new Error(`somebody still holds a mount of it: ${devices}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}
