// Stacks with a random history, as layer operations meet them: layers on disk, an upper that was written through a mount.
// Made by the operations of test/oracle, by varve and by the kernel; what a stack shows is read through the kernel.
// Used by the tests of test/ops; root only.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { scan } from '../../src/tree/scan.js';
import type { SourceTree } from '../../src/tree/tree.js';
import { newCase, runCase } from '../oracle/campaign.js';
import { makeLayers } from '../oracle/layers.js';
import { Random } from '../oracle/random.js';
import type { Filesystems } from '../oracle/stack.js';
import { kernel, type StackFolders, subjectNamed } from '../support/subjects.js';

/** Made by `makeStacks`: the same history twice. */
export interface Grown extends StackFolders {
  /** Who wrote the upper. */
  readonly by: 'varve' | 'kernel';
}

let runs = 0;

/**
 * @param lowers how many lower layers. @returns two stacks that show the same: written by varve, and by the kernel.
 */
export function growStacks(
  seed: number,
  lowers: number,
  ops: number,
  filesystems: Filesystems,
): Grown[] {
  const number = ++runs;
  const links = seed % 2 === 0;
  const random = new Random(seed);
  const one = { ...newCase(seed), layers: makeLayers(random, lowers, links) };
  const bench = { subject: subjectNamed('varve'), oracle: kernel(), filesystems };
  const { failure } = runCase(one, bench, number, ops, true);
  if (failure !== undefined) throw new Error(`${failure.stage}: ${failure.details.join('; ')}`);
  const own = filesystems[one.placement === 'ext4' ? 'ext4' : 'tmpfs'];
  const upperOn = filesystems[one.placement === 'tmpfs' ? 'tmpfs' : 'ext4'];
  return (['a', 'b'] as const).map((side) => {
    const base = join(own, `${number}${side}`);
    const ups = join(upperOn, `${number}${side}-up`);
    let last = 0;
    while (existsSync(join(ups, `u${last + 1}`))) last++;
    const older = Array.from({ length: last }, (_, i) => join(ups, `u${last - 1 - i}`));
    return {
      by: side === 'a' ? 'varve' : 'kernel',
      mountpoint: join(base, 'mnt'),
      lowers: [...older, ...one.layers.map((_, i) => join(base, `l${one.layers.length - 1 - i}`))],
      upper: join(ups, `u${last}`),
      work: join(ups, `w${last}`),
    };
  });
}

/** Calls `use` with the tree of a stack while the kernel has it mounted. */
export function throughKernel<T>(stack: StackFolders, use: (tree: SourceTree) => T): T {
  const subject = kernel();
  subject.mount(stack);
  try {
    const tree = scan(stack.mountpoint);
    try {
      return use(tree);
    } finally {
      tree.close();
    }
  } finally {
    subject.unmount(stack.mountpoint);
  }
}
