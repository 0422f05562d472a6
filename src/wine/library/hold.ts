// A prefix of the library that is down and stays so while it is changed, and what it says that it stands on.
// Taken by everything that changes a prefix from outside: put, take, commit, rm, export, and a recording on top of one.
// The lock is that of sessions; what a crash left is mended first (prefix/standing.ts).

import { existsSync } from 'node:fs';
import { MountError } from '../../stack/errors.js';
import { pathsOf, prefixFolder } from '../prefix/places.js';
import { type PrefixRecord, readRecord } from '../prefix/record.js';
import { holdPrefix } from '../prefix/standing.js';

export interface Held {
  /** Absolute. */
  readonly folder: string;
  readonly record: PrefixRecord;
  release(): void;
}

/** @param named a name or a path. @param doing for the message. @throws MountError: `absent`, `busy`, `layer`. */
export async function holdNamed(
  named: string,
  doing: string,
  env: NodeJS.ProcessEnv,
): Promise<Held> {
  const folder = requirePrefix(named, env);
  const lock = await holdPrefix(folder, doing);
  try {
    const record = readRecord(folder);
    if (record === undefined) throw noPrefix(named, folder);
    return { folder, record, release: () => lock.release() };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** The folder of a prefix that was made here. @throws MountError: `absent`. */
export function requirePrefix(named: string, env: NodeJS.ProcessEnv): string {
  const folder = prefixFolder(named, env);
  if (existsSync(pathsOf(folder).record)) return folder;
  throw noPrefix(named, folder);
}

function noPrefix(named: string, folder: string): MountError {
  const problem = existsSync(folder)
    ? 'is no prefix of varve: `varve wine create` makes one'
    : 'there is none: `varve wine ls` lists them';
  return new MountError('absent', `prefix ${named}: ${problem}`);
}
