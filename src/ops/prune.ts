// Takes out of an upper what the union would show without it, too: identical copies, empty copies of directories, whiteouts of nothing.
// Called by `varve diff --prune`; the upper must be held (hold-upper.ts), and the changes be those that were read since.
// Every step is one unlink or rmdir that leaves the union as it is, so that a killed run has simply done less.

import { AT, O } from '../linux/constants.js';
import { E, SysError } from '../linux/errno.js';
import * as files from '../linux/files.js';
import { i32, mapMemory, putBytes, scratch, u32 } from '../linux/memory.js';
import { openBelow } from '../tree/below.js';
import { join, nameOf, parentOf } from '../tree/path.js';
import { isDirectory, isWhiteout, show } from '../tree/tree.js';
import type { Change } from '../union/change.js';
import type { Stack } from '../union/changes.js';
import { marksOf } from '../union/marks.js';
import type { Seen } from '../union/view.js';

/** This thread's scratch: a name. Paths are put at 0x1000 by tree/below.ts. */
const NAME_AT = 0x800;

export type DroppedKind = 'file' | 'directory' | 'whiteout';

export interface Dropped {
  /** Of the union, latin1. */
  readonly path: string;
  readonly kind: DroppedKind;
  /** That the upper had of it. */
  readonly bytes: number;
}

/** Why something that equals what lies below stays. */
export type KeptReason =
  /** It has several names, or what lies below has. */
  | 'links'
  /** A directory above it hides what lies below. */
  | 'opaque'
  /** Its time differs, and times are to be kept. */
  | 'time';

export interface PruneOptions {
  /** What differs in its mtime stays. */
  readonly keepTimes?: boolean;
  /** Which paths (latin1) may be dropped at all; default all. */
  readonly within?: (path: string) => boolean;
  /** Told of everything that was dropped. */
  readonly onDrop?: (dropped: Dropped) => void;
}

export interface Pruned {
  readonly files: number;
  readonly directories: number;
  readonly whiteouts: number;
  readonly bytes: number;
  /** Identical all the same, by reason. */
  readonly kept: Readonly<Record<KeptReason, number>>;
}

/**
 * @param changes all of readChanges(). @param upperFd of the upper's directory; undefined: nothing is removed.
 * @throws SysError when something cannot be removed; what was dropped before stays so.
 */
export function prune(
  stack: Stack,
  changes: readonly Change[],
  upperFd: number | undefined,
  options: PruneOptions = {},
): Pruned {
  mapMemory();
  const { candidates, kept } = choose(stack, changes, options);
  const counts = { file: 0, directory: 0, whiteout: 0 };
  let bytes = 0;
  const names = upperFd === undefined ? undefined : new Names(upperFd);
  /** Of a dry run: how many names of a directory would be gone. */
  const fewer = new Map<string, number>();
  try {
    // What is in a directory before the directory.
    for (const candidate of candidates.reverse()) {
      const { at, kind } = candidate;
      if (kind === 'directory') {
        const left = stack.upper.list(at).length - (fewer.get(at) ?? 0);
        if (left > 0) continue;
      }
      if (names === undefined) {
        const parent = parentOf(at);
        fewer.set(parent, (fewer.get(parent) ?? 0) + 1);
      } else if (!names.drop(at, kind === 'directory')) continue;
      counts[kind]++;
      bytes += candidate.bytes;
      options.onDrop?.({ path: candidate.path, kind, bytes: candidate.bytes });
    }
  } finally {
    names?.close();
  }
  const { file, directory, whiteout } = counts;
  return { files: file, directories: directory, whiteouts: whiteout, bytes, kept };
}

interface Candidate extends Dropped {
  /** Path in the upper. */
  readonly at: string;
}

function choose(
  stack: Stack,
  changes: readonly Change[],
  { keepTimes, within = () => true }: PruneOptions,
): { candidates: Candidate[]; kept: Record<KeptReason, number> } {
  const candidates: Candidate[] = [];
  const kept: Record<KeptReason, number> = { links: 0, opaque: 0, time: 0 };
  /** A directory through which nothing of the lowers is seen. */
  let closed: string | undefined;
  for (const change of changes) {
    const { path, status, before, after } = change;
    if (closed !== undefined && !path.startsWith(`${closed}/`)) closed = undefined;
    // What is not asked for is looked at nevertheless: it may close a directory.
    const isMeant = status === '=' && within(path);
    if (isMeant && after === undefined) {
      const at = whiteoutAt(stack, path);
      if (at !== undefined) candidates.push({ path, at, kind: 'whiteout', bytes: 0 });
    } else if (isMeant && path !== '' && before !== undefined && after !== undefined) {
      const reason = reasonToKeep(stack, change, closed !== undefined, keepTimes === true);
      const kind = isDirectory(after) ? 'directory' : 'file';
      if (reason === undefined) candidates.push({ path, at: path, kind, bytes: change.stored });
      // A directory that holds something else is not what anybody would want to drop.
      else if (kind === 'file') kept[reason]++;
    }
    if (change.opaque === true && closed === undefined) closed = path;
  }
  return { candidates, kept };
}

function reasonToKeep(
  { before, upper }: Stack,
  change: Change,
  isClosed: boolean,
  keepTimes: boolean,
): KeptReason | undefined {
  if (isClosed || change.opaque === true) return 'opaque';
  if (keepTimes && change.differs.time) return 'time';
  if (isDirectory(change.after as Change['after'] & object)) return undefined;
  // What lies below is found by the same way as it would be without the upper's object.
  const below = before.at(change.from ?? change.path);
  const own = upper.look(change.path);
  if (below === undefined) return 'opaque';
  // A name that the upper has through its index only.
  if (own === undefined) return 'links';
  return own.links > 1 || below.seen.links > 1 ? 'links' : undefined;
}

/** The name in the upper that hides `path`: a device, an empty file with an attribute, or a file of aufs. */
function whiteoutAt({ upper, aufs }: Stack, path: string): string | undefined {
  const seen = upper.look(path);
  if (seen !== undefined) return isHiding(seen, upper.marks) ? path : undefined;
  if (!aufs) return undefined;
  const at = join(parentOf(path), `.wh.${nameOf(path)}`);
  return upper.look(at) === undefined ? undefined : at;
}

function isHiding({ node }: Seen, prefix: Parameters<typeof marksOf>[1]): boolean {
  return isWhiteout(node) || marksOf(node, prefix).whiteout;
}

/** Removes names below a directory; the mtimes of the directories that had them stay as they were. */
class Names {
  readonly #root: number;
  #path: string | undefined;
  #fd = -1;

  constructor(root: number) {
    this.#root = root;
  }

  /** @returns false when a directory is not empty. */
  drop(path: string, isDir: boolean): boolean {
    const parent = parentOf(path);
    const fd = this.#open(parent);
    const mode = files.statFd(fd);
    if (mode < 0) throw new SysError('stat', mode, show(parent));
    const stat = files.statBuffer() + files.Statx.mtime;
    const [lo, hi, nsec] = [u32[stat >>> 2], i32[(stat >>> 2) + 1], u32[(stat >>> 2) + 2]];
    putBytes(scratch + NAME_AT, path.slice(path.lastIndexOf('/') + 1));
    const r = files.unlinkAt(fd, scratch + NAME_AT, isDir ? AT.REMOVEDIR : 0);
    if (r === -E.NOTEMPTY || r === -E.EXIST) return false;
    if (r < 0) throw new SysError('remove', r, show(path));
    // The union shows the directory, and with it this time.
    files.utimensAt(
      fd,
      files.emptyPath(),
      0,
      0,
      files.UTIME_OMIT,
      lo as number,
      (hi as number) >>> 0,
      nsec as number,
    );
    return true;
  }

  close(): void {
    if (this.#fd >= 0 && this.#fd !== this.#root) files.close(this.#fd);
    this.#fd = -1;
    this.#path = undefined;
  }

  #open(path: string): number {
    if (this.#path === path) return this.#fd;
    this.close();
    const fd = path === '' ? this.#root : openBelow(this.#root, path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) throw new SysError('open', fd, show(path));
    this.#path = path;
    this.#fd = fd;
    return fd;
  }
}
