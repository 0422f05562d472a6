// A new upper takes the place of the old one by one rename, and the old one is kept beside it; the same way back.
// Called by rebase.ts with the upper locked. Everything is made in a folder UPPER.before-rebase-TIME first, and recorded there.
// Follows: renameat2(2) RENAME_EXCHANGE. A filled index is a second rename: until it is done, no mount takes the upper.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AT, O, RENAME } from '../../linux/constants.js';
import { E, SysError } from '../../linux/errno.js';
import { close, emptyPath, linkAt, openAt, renameAt, syncfs } from '../../linux/files.js';
import { putBytes, scratch } from '../../linux/memory.js';
import { removexattrAt } from '../../linux/xattr.js';
import { MountError } from '../../stack/errors.js';
import { openBelow } from '../../tree/below.js';
import { type ExtractWarning, extractTree } from '../../tree/extract.js';
import { removeTree } from '../../tree/remove-tree.js';
import { type TreeNode, walk } from '../../tree/tree.js';
import type { MarkPrefix } from '../../union/view.js';

// This thread's scratch: two names or paths, and the name of an xattr.
const ONE_AT = 0x2000;
const OTHER_AT = 0x3100;
const ATTR_AT = 0xc00;

/** The two directories of a stack that a rebase replaces parts of: absolute paths. */
export interface Writable {
  readonly upper: string;
  readonly work: string;
}

/** What a folder of a rebase says about it, in `rebase.json`. */
interface Record {
  readonly version: 1;
  readonly upperdir: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
  /** When it was begun: ISO 8601. */
  readonly time: string;
  /** Inode numbers of the old upper, of the new one, and of the index that goes with the new one, if that is exchanged. */
  readonly old: number;
  readonly new?: number;
  readonly index?: number;
}

const RECORD = 'rebase.json';
const UPPER = 'upper';
const INDEX = 'index';

/** What keeps every mount from an upper whose index is not its own: overlayfs refuses what it does not know there. */
const PENDING = join('work', 'incompat', 'rebase');

export interface NewUpper {
  readonly root: TreeNode;
  /** Objects that the index is to have, by the names of their entries. */
  readonly indexed: ReadonlyMap<TreeNode, string>;
  readonly prefix: MarkPrefix;
  readonly from: readonly string[];
  readonly to: readonly string[];
}

export interface Published {
  /** Where the old upper is now; undefined: removed. */
  readonly kept: string | undefined;
  readonly warnings: readonly ExtractWarning[];
}

/**
 * Writes the new upper and puts it in the old one's place.
 * @param onProgress told how many names are written.
 * @throws MountError, SysError, TreeError; the old upper is then where it was.
 */
export function publish(
  at: Writable,
  made: NewUpper,
  discard: boolean,
  onProgress: (names: number) => void,
): Published {
  const folder = makeFolder(at.upper);
  let isPublished = false;
  try {
    const before: Record = {
      version: 1,
      upperdir: at.upper,
      from: made.from,
      to: made.to,
      time: new Date().toISOString(),
      old: statSync(at.upper).ino,
    };
    writeRecord(folder, before);
    const warnings = extractTree(made.root, join(folder, UPPER), { onProgress });
    refuseLosses(warnings);
    const index = makeIndex(at, folder, made);
    const record = { ...before, new: statSync(join(folder, UPPER)).ino, index };
    writeRecord(folder, record);
    syncAround(folder);
    if (index === undefined) detachIndex(at, made.prefix);
    else announce(at);
    exchange(at.upper, join(folder, UPPER));
    isPublished = true;
    finish(at, folder, record);
    if (discard) removeFolder(folder);
    return { kept: discard ? undefined : join(folder, UPPER), warnings };
  } catch (error) {
    if (!isPublished) {
      removeFolder(folder);
      withdraw(at);
    }
    throw error;
  }
}

/**
 * Puts the upper back that the last rebase has replaced; what it is now is kept in its turn.
 * @returns where that lies; undefined: removed. @throws MountError `absent` when there is nothing to undo.
 */
export function undo(at: Writable, prefix: MarkPrefix, discard: boolean): string | undefined {
  const { ino } = statSync(at.upper);
  const found = foldersOf(at.upper).findLast(({ record, isDone }) => isDone && record.new === ino);
  if (found === undefined) {
    throw new MountError(
      'absent',
      `upperdir: ${at.upper}: nothing to undo: no ${basename(at.upper)}.before-rebase-* beside it belongs to what is there now`,
    );
  }
  const { folder, record } = found;
  if (record.index === undefined) detachIndex(at, prefix);
  else announce(at);
  exchange(at.upper, join(folder, UPPER));
  if (record.index !== undefined) {
    exchange(join(at.work, INDEX), join(folder, INDEX));
    withdraw(at);
  }
  if (discard) {
    removeFolder(folder);
    return undefined;
  }
  const kept = freeName(folder.replace('.before-rebase-', '.after-rebase-'));
  renameSync(folder, kept);
  return join(kept, UPPER);
}

/**
 * Finishes what a killed rebase has begun, where the new upper stands already, and clears away what it has left elsewhere.
 * @returns what was done, one line each.
 */
export function recover(at: Writable): string[] {
  const done: string[] = [];
  for (const { folder, record, isDone } of foldersOf(at.upper)) {
    if (isDone) {
      if (finish(at, folder, record)) done.push(`${folder}: finished`);
      continue;
    }
    removeFolder(folder);
    done.push(`${folder}: removed: it was not finished, and the upper is the old one`);
  }
  withdraw(at);
  return done;
}

/** What is left to do once the new upper stands. @returns whether there was something. */
function finish(at: Writable, folder: string, record: Record): boolean {
  if (record.index === undefined) return false;
  const isPending = inoOf(join(folder, INDEX)) === record.index;
  if (isPending) exchange(join(at.work, INDEX), join(folder, INDEX));
  withdraw(at);
  return isPending;
}

function makeFolder(upper: string): string {
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

function freeName(wanted: string): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`;
    if (!existsSync(name)) return name;
  }
}

interface Folder {
  readonly folder: string;
  readonly record: Record;
  /** The upper that it has is the old one. */
  readonly isDone: boolean;
}

/** The folders of rebases beside an upper, the oldest first. */
function foldersOf(upper: string): Folder[] {
  const parent = dirname(upper);
  const begin = `${basename(upper)}.before-rebase-`;
  const found: Folder[] = [];
  for (const name of readdirSync(parent)
    .filter((entry) => entry.startsWith(begin))
    .sort()) {
    const folder = join(parent, name);
    const record = readRecord(folder);
    if (record === undefined || record.upperdir !== upper) continue;
    found.push({ folder, record, isDone: inoOf(join(folder, UPPER)) === record.old });
  }
  return found.sort((a, b) => (a.record.time < b.record.time ? -1 : 1));
}

function readRecord(folder: string): Record | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as Record;
    return record.version === 1 ? record : undefined;
  } catch (error) {
    // Killed before it had a record: nothing is in it.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      try {
        rmdirSync(folder);
      } catch {
        // Somebody else's.
      }
    }
    return undefined;
  }
}

function writeRecord(folder: string, record: Record): void {
  const temporary = join(folder, `.${RECORD}`);
  writeFileSync(temporary, `${JSON.stringify(record, undefined, 2)}\n`);
  renameSync(temporary, join(folder, RECORD));
}

function inoOf(path: string): number | undefined {
  const stat: Stats | undefined = statSync(path, { throwIfNoEntry: false });
  return stat?.ino;
}

/** What an upper cannot do without must have been written. */
function refuseLosses(warnings: readonly ExtractWarning[]): void {
  const lost = warnings.find(({ problem }) => /devices|"(?:user|trusted)\.\*"/.test(problem));
  if (lost === undefined) return;
  throw new MountError(
    'permission',
    `${lost.path}: ${lost.problem}: run it as the user whose mounts have written the upper`,
  );
}

/**
 * The index of the new upper, where the old one has entries or the new one needs them.
 * @returns its inode number; undefined: the index stays empty.
 */
function makeIndex(at: Writable, folder: string, { root, indexed }: NewUpper): number | undefined {
  const old = join(at.work, INDEX);
  if (!existsSync(old)) return undefined;
  // The kernel stages there as well: `#` and a number.
  const isEmpty = readdirSync(old).every((name) => name.startsWith('#'));
  if (indexed.size === 0 && isEmpty) return undefined;
  const path = join(folder, INDEX);
  mkdirSync(path, { mode: 0o700 });
  const from = openPath(join(folder, UPPER));
  const to = openPath(path);
  try {
    const done = new Set<TreeNode>();
    walk(root, (name, node) => {
      const entry = indexed.get(node);
      if (entry === undefined || done.has(node)) return;
      done.add(node);
      linkEntry(from, name.slice(1), to, entry);
    });
  } finally {
    close(from);
    close(to);
  }
  return statSync(path).ino;
}

function linkEntry(from: number, path: string, to: number, entry: string): void {
  const cut = path.lastIndexOf('/');
  const dir = openBelow(from, path.slice(0, Math.max(cut, 0)), O.PATH | O.DIRECTORY);
  if (dir < 0) throw new SysError('open', dir, path);
  putBytes(scratch + ONE_AT, path.slice(cut + 1));
  putBytes(scratch + OTHER_AT, entry);
  const r = linkAt(dir, scratch + ONE_AT, to, scratch + OTHER_AT);
  close(dir);
  // Two names of one object of NEW that were decided apart: the first has it.
  if (r < 0 && r !== -E.EXIST) throw new SysError('link', r, entry);
}

/** An index belongs to an upper by a mark of the kernel's; without it the next mount takes it over. */
function detachIndex(at: Writable, prefix: MarkPrefix): void {
  const index = join(at.work, INDEX);
  if (!existsSync(index)) return;
  const fd = openPath(index);
  putBytes(scratch + ATTR_AT, `${prefix}upper`);
  removexattrAt(fd, emptyPath(), scratch + ATTR_AT);
  close(fd);
}

function announce(at: Writable): void {
  mkdirSync(join(at.work, PENDING), { recursive: true, mode: 0o700 });
  syncAround(join(at.work, PENDING));
}

function withdraw(at: Writable): void {
  for (const path of [PENDING, dirname(PENDING)]) {
    try {
      rmdirSync(join(at.work, path));
    } catch {
      // It is not there, or has other marks.
    }
  }
}

/** Swaps two directories in one step. @throws MountError, SysError. */
function exchange(one: string, other: string): void {
  putBytes(scratch + ONE_AT, Buffer.from(one).toString('latin1'));
  putBytes(scratch + OTHER_AT, Buffer.from(other).toString('latin1'));
  const at = AT.FDCWD;
  const r = renameAt(at, scratch + ONE_AT, at, scratch + OTHER_AT, RENAME.EXCHANGE);
  if (r === -E.INVAL || r === -E.NOSYS) {
    throw new MountError(
      'layer',
      `${one}: its filesystem cannot exchange two directories: move the upper to another one`,
    );
  }
  if (r === -E.BUSY) {
    throw new MountError(
      'busy',
      `${one}: it is a mount point, and cannot be replaced: name the directory that is mounted there`,
    );
  }
  if (r < 0) throw new SysError('rename', r, one);
  for (const parent of new Set([dirname(one), dirname(other)])) syncDirectory(parent);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, O.RDONLY | O.DIRECTORY);
  syncfs(fd);
  closeSync(fd);
}

/** Everything on the filesystem of `path`, before a rename makes it count. */
function syncAround(path: string): void {
  syncDirectory(path);
}

function openPath(path: string): number {
  putBytes(scratch + ONE_AT, Buffer.from(path).toString('latin1'));
  const fd = openAt(AT.FDCWD, scratch + ONE_AT, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw new SysError('open', fd, path);
  return fd;
}

function removeFolder(folder: string): void {
  const parent = openPath(dirname(folder));
  removeTree(parent, Buffer.from(basename(folder)).toString('latin1'));
  close(parent);
}
