// What was installed in a boot filesystem: one file a kernel in its folder `varve`, so that exactly this is removed again.
// Written by install.ts before and after the initramfs changes, read by everything here.
// A record names both states while one takes the place of the other: whoever is killed in between leaves nothing unknown.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type Disk, MODE, namesIn, publish, writeBeside } from './publish.js';

/** Below the folder of the boot filesystem; everything in it is varve's. */
export const FOLDER = 'varve';
const SUFFIX = '.installed.json';

export interface InstalledFile {
  /** Below the folder of the boot filesystem. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string;
}

/** Everything that one boot needs. */
export interface Installed {
  readonly initramfs: InstalledFile;
  /** Images, and what stands beside them: signed root hashes. */
  readonly images: readonly InstalledFile[];
  /** Images of the state before, for a unified kernel image that still names them. */
  readonly former?: readonly InstalledFile[];
  readonly entry?: InstalledFile;
  /** The complete initramfs that had the name before, to be put back; in the meantime the fallback. */
  readonly full?: InstalledFile;
}

export interface BootRecord {
  readonly version: 1;
  readonly release: string;
  /** What the loader finds; undefined: nothing of ours yet. */
  readonly now?: Installed;
  /** What takes its place: not yet known to have happened. */
  readonly next?: Installed;
}

const pathOf = (folder: string, release: string): string =>
  join(folder, FOLDER, `${release}${SUFFIX}`);

/** Path of a kernel's record below the folder of the boot filesystem. */
export const recordName = (release: string): string => join(FOLDER, `${release}${SUFFIX}`);

/** @throws MountError of kind `layer` for a file that is no record. */
export function readRecords(folder: string): BootRecord[] {
  return namesIn(join(folder, FOLDER))
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => {
      const path = join(folder, FOLDER, name);
      let record: BootRecord;
      try {
        record = JSON.parse(readFileSync(path, 'utf8')) as BootRecord;
      } catch (error) {
        throw damaged(path, (error as Error).message);
      }
      if (record.version !== 1) throw damaged(path, `version ${record.version} is not known`);
      if (`${record.release}${SUFFIX}` !== name)
        throw damaged(path, 'it is that of another kernel');
      return record;
    });
}

const damaged = (path: string, why: string): MountError =>
  new MountError('layer', `${path}: ${why}: mend it, or remove it and the files it names`);

export function writeRecord(folder: string, record: BootRecord, disk: Disk): void {
  const bytes = Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
  publish(writeBeside(pathOf(folder, record.release), [bytes], MODE.text, disk), disk);
}

/** Every file that a state names, in the order in which a loader comes to them: they go in this order, too. */
export function filesOf(state: Installed | undefined): InstalledFile[] {
  if (state === undefined) return [];
  const { initramfs, images, former = [], entry, full } = state;
  return [entry, initramfs, ...images, ...former, full].filter((file) => file !== undefined);
}
