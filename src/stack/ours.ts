// Which rows of the mount table were made by varve.
// Used by umount, status and why, also when no supervisor knows of a mount (kernel backend, a supervisor that died).
// The marks are set by linux/mount.ts (type fuse.varve), kernel-mount.ts (source varve, or varve-stack:LAYERS) and mount-image.ts (source varve:IMAGE).

import type { MountEntry } from '../linux/mountinfo.js';
import { joinLayers, splitLayers } from './option-text.js';

/** What the mount table calls an image's mount: this and the image's path. */
const IMAGE_SOURCE = 'varve:';

export function sourceOfImage(image: string): string {
  return `${IMAGE_SOURCE}${image}`;
}

/** What the mount table calls a kernel mount with images among its layers: this and the layers, as in lowerdir=. */
const STACK_SOURCE = 'varve-stack:';
/** Bytes that mount(2) takes as a source, with the NUL. */
const PAGE = 4096;

/** Source of a kernel mount: images are mounted elsewhere for a moment, and the mount table would tell of that place. */
export function sourceOfStack(lowerdirs: readonly string[]): string {
  const source = STACK_SOURCE + joinLayers(lowerdirs);
  return Buffer.byteLength(source) < PAGE ? source : 'varve';
}

/** The lowerdirs of a kernel mount with images among them; undefined: they are what its options say. */
export function stackOfMount({ type, source }: MountEntry): readonly string[] | undefined {
  if (type !== 'overlay' || !source.startsWith(STACK_SOURCE)) return undefined;
  const layers = splitLayers(source.slice(STACK_SOURCE.length));
  return typeof layers === 'string' ? undefined : layers.lowers;
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
    entry.type === 'overlay' &&
    (entry.source === 'varve' ||
      imageOfMount(entry) !== undefined ||
      stackOfMount(entry) !== undefined)
  );
}
