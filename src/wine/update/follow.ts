// Before a prefix starts: whether its base has another current version, and the move to that.
// Called by whoever starts a session, with the prefix's lock, before anything is mounted.
// Where nothing is to be done it costs one readlink(2); the rest is loaded when it is needed.

import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { winePlaces } from '../prefix/places.js';
import { type PrefixRecord, readRecord } from '../prefix/record.js';
import type { MoveReport } from './move.js';

/** The version of its base that a prefix is to stand on: `NAME@N`; undefined: where it stands. */
export function newerBase(
  { base, follows }: PrefixRecord,
  env: NodeJS.ProcessEnv = process.env,
): string | undefined {
  if (!follows || base === undefined) return undefined;
  const [name = ''] = base.split('@', 1);
  const number = currentVersion(name, env);
  const current = `${name}@${number}`;
  return number === undefined || current === base ? undefined : current;
}

/** What `bases/NAME/current` says; undefined: nothing that is understood. */
function currentVersion(name: string, env: NodeJS.ProcessEnv): number | undefined {
  try {
    const target = readlinkSync(join(winePlaces(env).bases, name, 'current'));
    const [, digits] = /^([1-9][0-9]{0,8})(?:\.erofs)?$/.exec(target) ?? [];
    return digits === undefined ? undefined : Number(digits);
  } catch {
    // A prefix starts where it stands; `varve wine update` says what is wrong.
    return undefined;
  }
}

/**
 * Moves a prefix that follows its base to the current version.
 * @returns what was done; undefined: nothing was to be done. @throws MountError, then the prefix is what it was.
 */
export async function followBase(
  folder: string,
  record: PrefixRecord,
  env: NodeJS.ProcessEnv = process.env,
): Promise<MoveReport | undefined> {
  const to = newerBase(record, env);
  if (to === undefined) return undefined;
  const { movePrefix } = await import('./move.js');
  return movePrefix({ folder, record, to, follows: true, env });
}

/** The move in one line, for whoever started the prefix. */
export function moveLine({ folder, to, open }: MoveReport): string {
  const list = `\`varve wine update ${folder} --conflicts\` lists them`;
  const what = open === 1 ? '1 conflict' : `${open} conflicts`;
  return `${folder}: stands on ${to} now${open === 0 ? '' : `; ${what}: ${list}`}`;
}

/** As followBase(), with the prefix's lock taken for it; a prefix that is up stays where it stands. */
export async function followWhenDown(
  folder: string,
  record: PrefixRecord,
  env: NodeJS.ProcessEnv,
  remark: (text: string) => void,
): Promise<PrefixRecord> {
  if (newerBase(record, env) === undefined) return record;
  const { holdPrefix, isUp } = await import('../prefix/standing.js');
  if (isUp(folder)) return record;
  const lock = await holdPrefix(folder, 'start it');
  try {
    // Somebody may just have moved it.
    const now = readRecord(folder) ?? record;
    const report = await followBase(folder, now, env);
    if (report !== undefined) remark(moveLine(report));
    return readRecord(folder) ?? now;
  } finally {
    lock.release();
  }
}
