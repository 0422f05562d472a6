// What create does for its prefixes, for one that begins to exist because somebody runs a program over layers in it.
// Called by `varve wine PROGRAM` before the first session of a prefix.
// Over a base that another user made: without a profile of their own programs find no folder for temporary files.

import { existsSync, mkdirSync } from 'node:fs';
import type { Below } from '../prefix/below.js';
import type { Lock } from '../prefix/locks.js';
import { materialise } from '../prefix/materialise.js';
import { pathsOf } from '../prefix/places.js';
import { holdPrefix, isUp } from '../prefix/standing.js';
import { giveProfile } from './profile.js';

/** Does nothing to a prefix that has files of its own. @throws MountError. */
export async function beginPrefix(
  folder: string,
  below: readonly Below[],
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const { driveC } = pathsOf(folder);
  if (existsSync(driveC) || isUp(folder)) return;
  const lock = await hold(folder);
  if (lock === undefined) return;
  try {
    if (existsSync(driveC)) return;
    mkdirSync(driveC);
    materialise(folder, below);
    await giveProfile(folder, below, env);
  } finally {
    lock.release();
  }
}

/** @returns undefined: somebody else has begun meanwhile. */
async function hold(folder: string): Promise<Lock | undefined> {
  try {
    return await holdPrefix(folder, 'start it');
  } catch (error) {
    if (isUp(folder)) return undefined;
    throw error;
  }
}
