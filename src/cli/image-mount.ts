// `varve image mount`: an image alone, read-only and as it is: `varve mount -o lowerdir=IMAGE,raw` in other words.
// Run by main.ts; mount.ts does it.
// Manual: image-commands.ts.

import { escapePath, joinLayers } from '../stack/option-text.js';
import type { Arguments } from './args.js';
import { run as mount } from './mount.js';

export function run(given: Arguments): Promise<number> {
  const [image, mountpoint] = given.operands as [string, string];
  // The kernel mounts an image as a layer of its overlayfs.
  const raw = given.value('backend') === 'kernel' ? [] : ['raw'];
  const devices = given.values('device').map((path) => `device=${escapePath(path)}`);
  return mount({
    ...given,
    operands: [mountpoint],
    values: (name) =>
      name === 'options'
        ? [`lowerdir=${joinLayers([image])}`, ...raw, ...devices, ...given.values('options')]
        : given.values(name),
  });
}
