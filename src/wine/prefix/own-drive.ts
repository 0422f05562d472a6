// What may become the upper of a prefix: a folder that is its own, with files that have no name elsewhere.
// Asked before a prefix is mounted or changed. A union writes to its upper in place, so a drive_c that is a symlink to a
// base's, or files that are hard links of its files, would take every write there.
// Follows: overlayfs.rst, "Changes to underlying filesystems".

import { lstatSync, readdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { mountAt } from '../../linux/mountinfo.js';
import { MountError } from '../../stack/errors.js';
import { extractTree } from '../../tree/extract.js';
import { scan } from '../../tree/scan.js';
import type { PrefixPaths } from './places.js';
import { publishTogether, UPPER } from './publishing.js';

/** @throws MountError for a drive_c that is somebody else's: a symlink, or mounted by hand. Nothing of varve's is mounted. */
export function requireOwnDrive({ driveC }: PrefixPaths): void {
  const mounted = mountAt(driveC);
  if (mounted !== undefined) {
    throw new MountError(
      'busy',
      `${driveC}: ${mounted.source} is mounted there (${mounted.type}), and not by a session: unmount it first`,
    );
  }
  const found = lstatSync(driveC, { throwIfNoEntry: false });
  if (found === undefined || found.isDirectory()) return;
  throw new MountError(
    'layer',
    `${driveC}: is no folder but a ${found.isSymbolicLink() ? 'symlink' : 'file'}: put a folder in its place, what is written there must stay in the prefix`,
  );
}

/**
 * Gives a prefix that has never been mounted copies of the files that have names elsewhere as well (`cp -al`).
 * @returns whether there were any. @throws MountError, SysError; then nothing has changed.
 */
export function separate({ folder, driveC, work }: PrefixPaths): boolean {
  const isFirst = lstatSync(work, { throwIfNoEntry: false }) === undefined;
  if (!isFirst || !hasNamesElsewhere(driveC)) return false;
  publishTogether(folder, (stage) => {
    const copy = join(stage, 'copy');
    const tree = scan(driveC);
    try {
      const [warning] = extractTree(tree.root, copy);
      if (warning !== undefined) {
        throw new MountError('permission', `${driveC}: ${warning.path}: ${warning.problem}`);
      }
    } finally {
      tree.close();
    }
    renameSync(copy, join(stage, `${UPPER}${statSync(copy).ino}`));
  });
  return true;
}

function hasNamesElsewhere(folder: string): boolean {
  /** Names that are missing yet, by inode. */
  const missing = new Map<string, number>();
  const slash = Buffer.from('/');
  const folders = [Buffer.from(folder)];
  for (let at = folders.pop(); at !== undefined; at = folders.pop()) {
    for (const entry of readdirSync(at, { withFileTypes: true, encoding: 'buffer' })) {
      const path = Buffer.concat([at, slash, entry.name as unknown as Buffer]);
      if (entry.isDirectory()) folders.push(path);
      if (!entry.isFile()) continue;
      const { dev, ino, nlink } = lstatSync(path);
      if (nlink === 1) continue;
      const left = (missing.get(`${dev}:${ino}`) ?? nlink) - 1;
      if (left > 0) missing.set(`${dev}:${ino}`, left);
      else missing.delete(`${dev}:${ino}`);
    }
  }
  return missing.size > 0;
}
