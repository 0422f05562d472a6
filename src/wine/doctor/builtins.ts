// Drops from a prefix's own files what the layers below have as well: the whole of Wine, where it ran without them.
// Called by fix.ts, with the prefix held; what differs stays, as a change of the prefix.
// ops/prune.ts decides and removes.

import { mkdirSync } from 'node:fs';
import { holdUpper } from '../../ops/hold-upper.js';
import { asStack, findStack, openLayers } from '../../ops/open-stack.js';
import { prune } from '../../ops/prune.js';
import { readChanges } from '../../union/changes.js';
import type { Below } from '../prefix/below.js';
import { pathsOf } from '../prefix/places.js';

/** @returns what was done, a line. @throws MountError, SysError. */
export async function dropBuiltins(folder: string, below: readonly Below[]): Promise<string[]> {
  if (below.length === 0) return [];
  const { driveC, work } = pathsOf(folder);
  mkdirSync(work, { recursive: true });
  const held = holdUpper(driveC, work, 'mend it');
  const opened = openLayers(
    await findStack({ layers: [driveC, ...below.map((layer) => layer.driveC)] }),
  );
  try {
    const stack = asStack(opened);
    const { files, bytes } = prune(stack, readChanges(stack), held.fd);
    const megabytes = Math.round(bytes / 1e6);
    return [`${driveC}: ${files} files that the layers have as well are dropped (${megabytes} MB)`];
  } finally {
    opened.close();
    held.release();
  }
}
