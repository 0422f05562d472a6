// `varve image mount`: an image alone, read-only: `varve mount -o lowerdir=IMAGE` in other words.
// Run by main.ts; mount.ts does it.
// Manual: image-commands.ts.

import { escapeLayer } from '../stack/option-text.js';
import type { Arguments } from './args.js';
import { run as mount } from './mount.js';

export function run(given: Arguments): Promise<number> {
  const [image, mountpoint] = given.operands as [string, string];
  return mount({
    ...given,
    operands: [mountpoint],
    values: (name) =>
      name === 'options'
        ? [`lowerdir=${escapeLayer(image)}`, ...given.values('options')]
        : given.values(name),
  });
}
