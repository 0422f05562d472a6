// How long a mount takes for few and for many objects: `npm run numbers -- --mount-time`.
// Turns are taken, and the minimum of each is what counts.
// The time is that of mountStack(): from the request to the first answer of the mount.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { run } from '../overlay/stack.js';
import { fill } from './matrix.js';

export interface Timed {
  readonly objects: number;
  readonly fastestMs: number;
}

/** @param sizes objects of each stack: two lowers on an ext4 of their own. */
export async function timeMounts(
  base: string,
  sizes: readonly number[],
  rounds: number,
): Promise<Timed[]> {
  const stacks = sizes.map((objects) => {
    const disk = join(base, `disk${objects}`);
    mkdirSync(disk);
    run('truncate', ['-s', `${256 + Math.ceil(objects / 100)}M`, `${disk}.img`]);
    run('mkfs.ext4', ['-q', '-m', '0', '-N', String(objects + 65_536), `${disk}.img`]);
    run('mount', ['-o', 'loop', `${disk}.img`, disk]);
    for (const i of [0, 1]) {
      mkdirSync(join(disk, `l${i}`));
      fill(join(disk, `l${i}`), i, objects / 2);
    }
    return { objects, options: `lowerdir=${disk}/l0:${disk}/l1`, fastestMs: Infinity };
  });
  const mountpoint = join(base, 'mnt');
  mkdirSync(mountpoint);
  for (let round = 0; round < rounds; round++) {
    for (const stack of stacks) {
      const options = parseOptions([stack.options], { defaults: 'allow_other' });
      const started = performance.now();
      const { served } = await mountStack(options, mountpoint, 'fuse');
      stack.fastestMs = Math.min(stack.fastestMs, performance.now() - started);
      served?.supervisor.close();
      await unmount(mountpoint, { lazy: false, force: false });
    }
  }
  return stacks;
}
