// Files that appear under their names whole, after a loss of power too: written beside, synced, renamed, the folder synced.
// Used by install.ts, remove.ts and record.ts for everything in the boot filesystem.
// Follows: rename(2), fsync(2); only what vfat can do (no hard links, no O_TMPFILE, no symlinks).

import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';

/** What ends so was being written when somebody was killed: nobody needs it. */
const UNFINISHED = '.varve-new';
const PIECE = 1024 * 1024;
/** Secrets may lie in an initramfs; what a loader shows does not. */
export const MODE = { image: 0o600, text: 0o644 } as const;

/** What a test varies. */
export interface Disk {
  /** Told before every change of the filesystem: a test ends the process at one of them. */
  readonly step: (what: string) => void;
  readonly sync: (fd: number) => void;
  /** Bytes that may be written below a folder. */
  readonly free: (folder: string) => number;
}

export const REAL_DISK: Disk = {
  step: () => {},
  sync: fsyncSync,
  free: (folder) => {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  },
};

/** A file that is complete and synced, but not yet under its name. */
export interface Beside {
  readonly path: string;
  readonly temporary: string;
  readonly size: number;
  readonly sha256: string;
}

/** Where the bytes of a file come from, one after the other. */
export type Bytes = Iterable<Uint8Array>;

export function* bytesOfFile(path: string): Bytes {
  const fd = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(PIECE);
    for (;;) {
      const n = readSync(fd, piece, 0, PIECE, null);
      if (n === 0) return;
      yield piece.subarray(0, n);
    }
  } finally {
    closeSync(fd);
  }
}

/** @throws MountError of kind `layer`; then there is nothing left of it. */
export function writeBeside(path: string, bytes: Bytes, mode: number, disk: Disk): Beside {
  const temporary = `${path}${UNFINISHED}`;
  try {
    makeFolder(dirname(path), disk);
    disk.step(`write ${temporary}`);
    const hash = createHash('sha256');
    let size = 0;
    const fd = openSync(temporary, 'w', mode);
    try {
      for (const piece of bytes) {
        hash.update(piece);
        for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
        size += piece.length;
      }
      disk.step(`sync ${temporary}`);
      disk.sync(fd);
    } finally {
      closeSync(fd);
    }
    return { path, temporary, size, sha256: hash.digest('hex') };
  } catch (error) {
    dropUnfinished(temporary, disk);
    throw cannotWrite(path, error);
  }
}

/** What cannot be taken away now will be by the next call. */
function dropUnfinished(path: string, disk: Disk): void {
  try {
    disk.step(`remove ${path}`);
    rmSync(path, { force: true });
  } catch {
    // The failure before it is what counts.
  }
}

/** Gives it its name, in the place of what had it. */
export function publish(file: Beside, disk: Disk): void {
  moveInto(file.temporary, file.path, disk);
}

/** One rename within a filesystem, on disk when this returns. */
export function moveInto(from: string, to: string, disk: Disk): void {
  try {
    disk.step(`rename ${from} ${to}`);
    renameSync(from, to);
    syncFolder(dirname(to), disk);
    if (dirname(from) !== dirname(to)) syncFolder(dirname(from), disk);
  } catch (error) {
    throw cannotWrite(to, error);
  }
}

/** Takes a file away, on disk when this returns. */
export function takeAway(path: string, disk: Disk): void {
  disk.step(`remove ${path}`);
  rmSync(path, { force: true });
  syncFolder(dirname(path), disk);
}

function makeFolder(path: string, disk: Disk): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  makeFolder(dirname(path), disk);
  disk.step(`make ${path}`);
  mkdirSync(path);
  syncFolder(dirname(path), disk);
}

function syncFolder(path: string, disk: Disk): void {
  disk.step(`sync ${path}`);
  const fd = openSync(path, 'r');
  try {
    disk.sync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Takes away what killed calls have left in a folder. @returns how many files. */
export function sweepUnfinished(folder: string, disk: Disk): number {
  const names = namesIn(folder).filter((name) => name.endsWith(UNFINISHED));
  for (const name of names) takeAway(join(folder, name), disk);
  return names.length;
}

/** Names in a folder; of one that is not there, none. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function cannotWrite(path: string, error: unknown): unknown {
  if (error instanceof MountError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const what = code === 'ENOSPC' ? 'no space left' : reasonOf(error);
  return new MountError(
    'layer',
    `${path}: cannot be written: ${what}: what is installed stays as it is`,
    {
      cause: error,
    },
  );
}
