// Brings a boot filesystem in order after somebody was killed: unfinished files go, each record names one state again.
// The first thing that every install and remove does, under the lock; without a killed call before it changes nothing.
// The initramfs decides: the loader starts what lies under its name, so that state counts, and only what no state names goes.

import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { O } from '../../linux/constants.js';
import { E } from '../../linux/errno.js';
import { mapMemory } from '../../linux/memory.js';
import { lockFileSoon } from '../../linux/peer.js';
import { MountError } from '../../stack/errors.js';
import { digestIfThere } from '../digest.js';
import { type Disk, sweepUnfinished, takeAway } from './publish.js';
import {
  type BootRecord,
  FOLDER,
  filesOf,
  type Installed,
  type InstalledFile,
  readRecords,
  recordName,
  writeRecord,
} from './record.js';

/** Entries of the Boot Loader Specification. */
export const ENTRIES = 'loader/entries';

/** Works alone in a boot filesystem; the lock ends with the process. @throws MountError of kind `busy`. */
export async function alone<T>(folder: string, work: () => Promise<T>): Promise<T> {
  mapMemory();
  const fd = openSync(folder, O.RDONLY | O.DIRECTORY);
  try {
    const r = lockFileSoon(fd);
    if (r === -E.AGAIN) {
      throw new MountError(
        'busy',
        `${folder}: another install or remove is at work: try again later`,
      );
    }
    return await work();
  } finally {
    closeSync(fd);
  }
}

/** @returns the records, each with `now` alone; those of which nothing is there are gone. */
export function settle(folder: string, disk: Disk): BootRecord[] {
  const records = readRecords(folder);
  const folders = new Set([FOLDER, ENTRIES, '.']);
  for (const { now, next } of records) {
    for (const { path } of [...filesOf(now), ...filesOf(next)]) folders.add(dirname(path));
  }
  for (const each of folders) sweepUnfinished(join(folder, each), disk);
  return records.flatMap((record) => decide(folder, record, records, disk) ?? []);
}

/**
 * Ends a change: what only the state that is over has goes, then the record names the other one alone. In this order, for
 * whoever is killed in between decides the same again.
 * @param records all that there are. @returns undefined: nothing was there before, and nothing is there now.
 */
export function decide(
  folder: string,
  record: BootRecord,
  records: readonly BootRecord[],
  disk: Disk,
): BootRecord | undefined {
  const { release, now, next } = record;
  if (next === undefined) return record;
  const isNext = isUnchanged(folder, next.initramfs);
  const stays = isNext ? withoutLostEntry(folder, next, now) : now;
  const others = records.filter((other) => other.release !== release);
  const result: BootRecord = { version: 1, release, ...(stays && { now: stays }) };
  dropUnnamed(folder, filesOf(isNext ? now : next), [...others, result], disk);
  if (stays === undefined) {
    takeAway(join(folder, recordName(release)), disk);
    return undefined;
  }
  writeRecord(folder, result, disk);
  return result;
}

/** The entry comes last: where it did not come, the one before still is what a loader shows. */
function withoutLostEntry(folder: string, next: Installed, now: Installed | undefined): Installed {
  const { entry, ...rest } = next;
  if (entry === undefined || isUnchanged(folder, entry)) return next;
  const former = now?.entry;
  const isStill =
    former !== undefined &&
    isUnchanged(folder, former) &&
    now?.initramfs.path === next.initramfs.path;
  return isStill ? { ...rest, entry: former } : rest;
}

/** Takes away files that no record names, unless somebody has changed them. @returns those. */
export function dropUnnamed(
  folder: string,
  files: readonly InstalledFile[],
  records: readonly BootRecord[],
  disk: Disk,
  force = false,
): InstalledFile[] {
  const named = new Set(
    records.flatMap(({ now, next }) => [...filesOf(now), ...filesOf(next)]).map(({ path }) => path),
  );
  const left: InstalledFile[] = [];
  for (const file of files) {
    if (named.has(file.path)) continue;
    const path = join(folder, file.path);
    const digest = digestIfThere(path);
    if (digest === undefined) continue;
    if (digest === file.sha256 || force) takeAway(path, disk);
    else left.push(file);
  }
  return left;
}

export function isUnchanged(folder: string, file: InstalledFile): boolean {
  return digestIfThere(join(folder, file.path)) === file.sha256;
}
