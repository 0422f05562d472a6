// Takes out of the boot filesystem exactly what was put in: the loader's entry first, the images last.
// Called by cli/boot-remove.ts and by what runs when a kernel is removed. Files that somebody has changed stay.
// Killed in between, the next call goes on: the record goes last.

import { rmdirSync } from 'node:fs';
import { release as runningRelease } from 'node:os';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { digestIfThere } from '../digest.js';
import { bootPlace } from './places.js';
import { type Disk, moveInto, REAL_DISK, takeAway } from './publish.js';
import { type BootRecord, FOLDER, filesOf, type Installed, recordName } from './record.js';
import { alone, dropUnnamed, settle } from './settle.js';

export interface RemoveRequest {
  readonly boot: string;
  readonly root: string;
  /** undefined: the only one that there is. */
  readonly release?: string;
  /** Also that of the running kernel, and files that were changed. */
  readonly force: boolean;
  readonly disk?: Disk;
}

export interface RemoveResult {
  readonly release: string;
  readonly folder: string;
  /** Below the folder. */
  readonly removed: readonly string[];
  /** Files that were changed since, and stay. */
  readonly left: readonly string[];
  /** The complete initramfs was put back under its name. */
  readonly restored?: string;
}

/** @throws MountError: kind `absent` where nothing is installed, `busy` for the running kernel. */
export async function removeInstalled(request: RemoveRequest): Promise<RemoveResult> {
  const disk = request.disk ?? REAL_DISK;
  const { folder } = bootPlace(request.boot);
  return alone(folder, async () => {
    const records = settle(folder, disk);
    const record = meant(records, request.release, folder);
    const { release } = record;
    if (!request.force && request.root === '/' && release === runningRelease()) {
      throw new MountError(
        'busy',
        `${release}: is the running kernel: say --force to remove its boot images`,
      );
    }
    const others = records.filter((other) => other.release !== release);
    const { now } = record;
    const before = present(folder, now);
    const restored = now === undefined ? undefined : putBack(folder, now, disk);
    const files = filesOf(now).filter(({ path }) => path !== restored);
    const left = dropUnnamed(folder, files, others, disk, request.force).map(({ path }) => path);
    takeAway(join(folder, recordName(release)), disk);
    dropFolder(folder);
    const removed = before.filter((path) => !left.includes(path) && path !== restored);
    return { release, folder, removed, left, ...(restored !== undefined && { restored }) };
  });
}

function meant(
  records: readonly BootRecord[],
  release: string | undefined,
  folder: string,
): BootRecord {
  const found =
    release === undefined && records.length === 1
      ? records[0]
      : records.find((record) => record.release === release);
  if (found !== undefined) return found;
  const names = records.map((record) => record.release).join(', ');
  if (release === undefined && records.length > 1) {
    throw new MountError('option', `${folder}: has boot images of ${names}: name one by --kver`);
  }
  throw new MountError(
    'absent',
    `${release ?? folder}: no boot image is installed in ${folder}${names === '' ? '' : `, only those of ${names}`}`,
  );
}

/** The entry goes, then the complete initramfs takes its name again. @returns the name; undefined: nothing to put back. */
function putBack(
  folder: string,
  { entry, initramfs, full }: Installed,
  disk: Disk,
): string | undefined {
  if (full === undefined) return undefined;
  const there = digestIfThere(join(folder, initramfs.path));
  // A call that was killed has done it.
  if (there === full.sha256) return initramfs.path;
  const isOurs = there === undefined || there === initramfs.sha256;
  if (!isOurs || digestIfThere(join(folder, full.path)) !== full.sha256) return undefined;
  if (entry !== undefined && digestIfThere(join(folder, entry.path)) === entry.sha256) {
    takeAway(join(folder, entry.path), disk);
  }
  moveInto(join(folder, full.path), join(folder, initramfs.path), disk);
  return initramfs.path;
}

function present(folder: string, state: Installed | undefined): string[] {
  const paths = filesOf(state).map(({ path }) => path);
  return paths.filter((path) => digestIfThere(join(folder, path)) !== undefined);
}

/** Unless something is in it. */
function dropFolder(folder: string): void {
  try {
    rmdirSync(join(folder, FOLDER));
  } catch {
    // It is needed.
  }
}
