// Folders of a stack for test/overlay/kernel.ts, on a tmpfs of their own.
// Used by test/overlay/succession*.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeTree, type Tree } from '../layer/tree.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { Kernel } from './kernel.js';

export interface Plan {
  /** Topmost first. */
  readonly lowers: readonly Tree[];
  readonly upper?: Tree;
  /** More options of `varve mount`, each with a leading comma. */
  readonly options?: string;
  /** Without an upper. */
  readonly readOnly?: boolean;
  readonly passthrough?: boolean;
}

interface Context {
  after(fn: () => void): void;
}

/** A tmpfs that lasts as long as the test. */
export function tmpfs(t: Context): string {
  const base = makeTempDir();
  t.after(() => removeTempDir(base));
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=755', 'tmpfs', base]);
  assert.equal(mount.status, 0);
  return base;
}

/** Makes the folders of the plan in `base`. */
export function makeFolders(base: string, plan: Plan): void {
  // An overlay in this process has set it to a client's.
  process.umask(0o022);
  for (const name of ['up', 'work', 'mnt']) mkdirSync(join(base, name));
  plan.lowers.forEach((tree, i) => {
    mkdirSync(join(base, `l${i}`));
    makeTree(join(base, `l${i}`), tree);
  });
  makeTree(join(base, 'up'), plan.upper ?? {});
}

/** Mounts the folders of the plan in `base`, as it were. */
export function open(base: string, plan: Plan): Kernel {
  const lowers = plan.lowers.map((_, i) => join(base, `l${i}`)).join(':');
  const side = plan.readOnly ? '' : `,upperdir=${base}/up,workdir=${base}/work`;
  const options = `lowerdir=${lowers}${side}${plan.options ?? ''}`;
  return new Kernel(options, join(base, 'mnt'), { passthrough: plan.passthrough ?? false });
}
