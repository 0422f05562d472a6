// The folder beside an upper in which a rebase is made and in which the old upper is kept, and its record.
// Used by publish.ts. UPPER.before-rebase-TIME holds `upper`, perhaps `index`, and `rebase.json`; which of two uppers lies where
// is told by inode numbers, so that nothing has to be written once the rename is done.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AT, O } from '../../linux/constants.js';
import { SysError } from '../../linux/errno.js';
import { close, openAt } from '../../linux/files.js';
import { putBytes, scratch } from '../../linux/memory.js';
import { MountError } from '../../stack/errors.js';
import { removeTree } from '../../tree/remove-tree.js';

// This thread's scratch: a path.
const PATH_AT = 0x2000;

/** The layers below an upper: absolute, topmost first. */
export interface LayerPaths {
  readonly lowerdirs: readonly string[];
  /** Data-only layers. */
  readonly datadirs: readonly string[];
}

/** What a folder says about itself. */
export interface Record {
  readonly version: 1;
  readonly upperdir: string;
  readonly from: LayerPaths;
  readonly to: LayerPaths;
  /** When it was begun: ISO 8601. */
  readonly time: string;
  /** Inode number of the old upper. */
  readonly old: number;
  /** Of the new one; absent: it is not complete. */
  readonly new?: number;
  /** Of the index that goes with the new one, if that is exchanged as well. */
  readonly index?: number;
  /** Somebody is putting, or has put, the old one back. */
  readonly undone?: true;
}

const RECORD = 'rebase.json';
/** The record while it is written. */
const UNREAD = 'rebase.new';

export interface Folder {
  readonly path: string;
  readonly record: Record;
  /** Which upper lies in it. */
  readonly has: 'old' | 'new' | 'unfinished';
}

export const upperIn = (folder: string): string => join(folder, 'upper');
export const indexIn = (folder: string): string => join(folder, 'index');

/** A new, empty folder beside an upper. @throws MountError. */
export function makeFolder(upper: string): string {
  const stamp = new Date().toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  const folder = freeName(`${upper}.before-rebase-${stamp}`);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new MountError(
      'layer',
      `${dirname(upper)}: cannot be written (${reason}): the new upper is made beside the old one`,
    );
  }
  return folder;
}

/** Gives the folder of a rebase that was undone its other name. @returns the path. */
export function renameUndone(folder: string): string {
  const name = freeName(folder.replace('.before-rebase-', '.after-rebase-'));
  renameSync(folder, name);
  return name;
}

function freeName(wanted: string): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`;
    if (!existsSync(name)) return name;
  }
}

/** The folders of rebases of an upper, the oldest first. What was killed before it had a record is removed. */
export function foldersOf(upper: string): Folder[] {
  const parent = dirname(upper);
  const begin = `${basename(upper)}.before-rebase-`;
  const found: Folder[] = [];
  for (const name of readdirSync(parent).sort()) {
    if (!name.startsWith(begin)) continue;
    const path = join(parent, name);
    const record = readRecord(path);
    if (record === undefined || record.upperdir !== upper) continue;
    const ino = inoOf(upperIn(path));
    const has = ino === record.old ? 'old' : record.new === undefined ? 'unfinished' : 'new';
    found.push({ path, record, has });
  }
  return found.sort((a, b) => (a.record.time < b.record.time ? -1 : 1));
}

function readRecord(folder: string): Record | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as Record;
    return record.version === 1 ? record : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return undefined;
    // What has anything else in it is somebody else's.
    if (readdirSync(folder).every((name) => name === UNREAD)) removeFolder(folder);
    return undefined;
  }
}

export function writeRecord(folder: string, record: Record): void {
  const temporary = join(folder, UNREAD);
  writeFileSync(temporary, `${JSON.stringify(record, undefined, 2)}\n`);
  renameSync(temporary, join(folder, RECORD));
}

/** undefined: there is nothing. */
export function inoOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Takes a folder away, with what is in it. */
export function removeFolder(folder: string): void {
  const parent = openPath(dirname(folder));
  removeTree(parent, Buffer.from(basename(folder)).toString('latin1'));
  close(parent);
}

/** A readable descriptor of a directory. @throws SysError. */
export function openPath(path: string): number {
  putBytes(scratch + PATH_AT, Buffer.from(path).toString('latin1'));
  const fd = openAt(AT.FDCWD, scratch + PATH_AT, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw new SysError('open', fd, path);
  return fd;
}
