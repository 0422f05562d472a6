// What the `varve image` commands share: opening the image that is named, and showing what lies in it.
// Used by image-*.ts; opened images are read where they lie, nothing is mounted.
// Names are bytes: shown as UTF-8 where they are, escaped where they are not.

import { ErofsError } from '../erofs/errors.js';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { resolveInImage } from '../erofs/path.js';
import { S } from '../linux/constants.js';
import { majorOf, minorOf } from '../linux/device.js';
import { SysError } from '../linux/errno.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { openImage } from '../stack/image-open.js';
import { TreeError } from '../tree/errors.js';
import type { Arguments } from './args.js';

/** Opens the image of the first operand, with the devices given; closed when `work` ends. */
export async function withImage<T>(
  given: Arguments,
  work: (image: ErofsImage) => T | Promise<T>,
): Promise<T> {
  const path = given.operands[0] as string;
  const { image, close } = openImage(path, given.values('device'));
  try {
    return await work(image);
  } catch (error) {
    if (error instanceof ErofsError) {
      throw new MountError('layer', `${path}: ${error.message}: \`varve image check\` tells more`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    close();
  }
}

/** The inode at a path as a person types it. @throws MountError of kind `absent`. */
export function inodeAt(image: ErofsImage, path: string, follow = true): Inode {
  const inode = resolveInImage(image, Buffer.from(path, 'utf8').toString('latin1'), follow);
  if (inode === undefined) {
    throw new MountError('absent', `${path}: not in the image: see \`varve image ls\``);
  }
  return inode;
}

/** Bytes of a name (latin1) as text: what is not UTF-8 or not printable as \xNN. */
export function shown(name: string): string {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  const faithful = Buffer.from(text, 'utf8').equals(bytes);
  return (faithful ? text : name).replace(
    faithful ? /[\x00-\x1f\x7f\\]/g : /[\x00-\x1f\x7f-\xff\\]/g,
    (c) => (c === '\\' ? '\\\\' : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`),
  );
}

const TYPES: Readonly<Record<number, readonly [letter: string, word: string]>> = {
  [S.IFREG]: ['-', 'file'],
  [S.IFDIR]: ['d', 'directory'],
  [S.IFLNK]: ['l', 'symlink'],
  [S.IFCHR]: ['c', 'character device'],
  [S.IFBLK]: ['b', 'block device'],
  [S.IFIFO]: ['p', 'fifo'],
  [S.IFSOCK]: ['s', 'socket'],
};

export function typeWord(mode: number): string {
  return TYPES[mode & S.IFMT]?.[1] ?? 'unknown';
}

/** `-rwxr-sr-x`, as ls(1) writes it. */
export function modeText(mode: number): string {
  const bit = (mask: number, letter: string): string => ((mode & mask) === 0 ? '-' : letter);
  const run = (exec: number, special: number, both: string): string =>
    (mode & special) === 0 ? bit(exec, 'x') : (mode & exec) === 0 ? both.toUpperCase() : both;
  return [
    TYPES[mode & S.IFMT]?.[0] ?? '?',
    bit(0o400, 'r'),
    bit(0o200, 'w'),
    run(0o100, S.ISUID, 's'),
    bit(0o040, 'r'),
    bit(0o020, 'w'),
    run(0o010, S.ISGID, 's'),
    bit(0o004, 'r'),
    bit(0o002, 'w'),
    run(0o001, S.ISVTX, 't'),
  ].join('');
}

/** `8, 1`, as ls(1) writes a device. */
export function deviceText(rdev: number): string {
  return `${majorOf(rdev)}, ${minorOf(rdev)}`;
}

/**
 * A foreseen failure of reading or writing a tree, as one line with an exit code; what was not foreseen stays as it is.
 * @param path what to name where the error does not.
 */
export function asMountError(error: unknown, path: string): unknown {
  if (error instanceof TreeError) return new MountError('layer', error.message, { cause: error });
  if (error instanceof SysError) {
    return new MountError('layer', `${path}: ${error.message}`, { cause: error });
  }
  const { code, path: named = path } = error as NodeJS.ErrnoException;
  if (error instanceof Error && code !== undefined && /^E[A-Z]+$/.test(code)) {
    return new MountError('layer', `${named}: ${reasonOf(error)}: check the path`, {
      cause: error,
    });
  }
  return error;
}

/** A directory's entries but . and .., in the image's order (of bytes). */
export function entriesOf(image: ErofsImage, dir: Inode): [name: string, nid: number][] {
  const entries: [string, number][] = [];
  image.children(dir, (name, nid) => {
    entries.push([Buffer.from(name).toString('latin1'), nid]);
  });
  return entries;
}

export function isDir(inode: Inode): boolean {
  return (inode.mode & S.IFMT) === S.IFDIR;
}
