// Where the files of share/boot lie: scripts that go into a mini-initramfs, or into the system.
// Used by everything in boot/ that installs one of them.
// This file stays at this depth: as a module and in the bundle the root of the package is three folders up.

import { fileURLToPath } from 'node:url';

/** The path of a file of share/boot. */
export function shared(name: string): string {
  return fileURLToPath(new URL(`../../../share/boot/${name}`, import.meta.url));
}
