// Which rows of the mount table were made by varve.
// Used by umount, status and why, also when no supervisor knows of a mount (kernel backend, a supervisor that died).
// The marks are set by linux/mount.ts (type fuse.varve), kernel-mount.ts (source varve) and mount-image.ts (source varve:IMAGE).

import type { MountEntry } from '../linux/mountinfo.js';

/** What the mount table calls an image's mount: this and the image's path. */
const IMAGE_SOURCE = 'varve:';

export function sourceOfImage(image: string): string {
  return `${IMAGE_SOURCE}${image}`;
}

/** The image that a kernel mount was made of, when it is one of `varve mount --image`. */
export function imageOfMount(entry: MountEntry): string | undefined {
  const { type, source } = entry;
  return type === 'overlay' && source.startsWith(IMAGE_SOURCE)
    ? source.slice(IMAGE_SOURCE.length)
    : undefined;
}

/** A mount of our server, or of the kernel's overlayfs on our behalf. */
export function isOurs(entry: MountEntry): boolean {
  if (entry.type === 'fuse.varve') return true;
  return (
    entry.type === 'overlay' && (entry.source === 'varve' || imageOfMount(entry) !== undefined)
  );
}
