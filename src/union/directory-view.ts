// A folder on disk as a layer view: a statx and a listxattr an object that is asked for.
// Made for uppers and for lowers that are directories; directories on the way stay open for a while.
// Follows: openat2(2) RESOLVE_NO_SYMLINKS, name_to_handle_at(2); see tree/read-node.ts for the objects.

import { closeSync, openSync } from 'node:fs';
import { O } from '../linux/constants.js';
import { type EntryCallback, readEntries } from '../linux/dirents.js';
import { E, SysError } from '../linux/errno.js';
import { close, emptyPath, Statx, statAt, statBuffer, statFd } from '../linux/files.js';
import { filesystemUuid, nameToHandle, openByHandle } from '../linux/handles.js';
import { getBytes, mapMemory, putBytes, scratch, u8, u32 } from '../linux/memory.js';
import { openBelow } from '../tree/below.js';
import { NodeReader, type Place } from '../tree/read-node.js';
import { isDirectory, show } from '../tree/tree.js';
import type { Handle, LayerView, MarkPrefix, Seen } from './view.js';

// Parts of this thread's scratch that read-node.ts leaves: directory entries, a name, a file handle.
const DENTS_AT = 0x20000;
const DENTS_SIZE = 0x8000;
const NAME_AT = 0x28000;
const HANDLE_AT = 0x28200;

/** d_type of getdents64(2). */
const DT = { UNKNOWN: 0, DIR: 4 } as const;

/** Directories that stay open; each is found by its path the next time. */
const OPEN_DIRS = 32;

/** What lookups meet when an object is not there, or not there any more. */
const GONE: ReadonlySet<number> = new Set([-E.NOENT, -E.NOTDIR, -E.LOOP, -E.STALE]);

/** @param path as Node has it; a symlink there is followed. @throws the error of open(2). */
export function viewDirectory(path: string, marks: MarkPrefix): LayerView {
  mapMemory();
  return new DirectoryView(path, openSync(path, O.RDONLY | O.DIRECTORY), marks);
}

class DirectoryView implements LayerView {
  readonly label: string;
  readonly marks: MarkPrefix;
  readonly #rootFd: number;
  readonly #reader: NodeReader;
  #uuid: Uint8Array | undefined;
  /** Path to O_PATH descriptor, the one that was used longest ago first. */
  readonly #dirs = new Map<string, number>();

  constructor(label: string, rootFd: number, marks: MarkPrefix) {
    this.label = label;
    this.marks = marks;
    this.#rootFd = rootFd;
    this.#reader = new NodeReader(rootFd);
  }

  look(path: string): Seen | undefined {
    const [fd, name] = this.#place(path);
    if (fd < 0) return undefined;
    const mode = name === emptyPath() ? statFd(fd) : statAt(fd, name);
    if (GONE.has(mode)) return undefined;
    if (mode < 0) throw new SysError('stat', mode, show(path));
    const k = statBuffer() >>> 2;
    const links = u32[k + (Statx.nlink >>> 2)] as number;
    const id = statId();
    try {
      return { node: this.#reader.node(mode, fd, name, placeOf(path)), id, links };
    } catch (error) {
      if (statAt(fd, name) < 0) return undefined;
      throw error;
    }
  }

  list(path: string): string[] {
    const names: string[] = [];
    this.#read(path, (name, length) => {
      names.push(getBytes(name, length));
    });
    return names.sort();
  }

  handle(path: string): Handle | undefined {
    const [fd, name] = this.#place(path);
    if (fd < 0) return undefined;
    const size = nameToHandle(fd, name, scratch + HANDLE_AT);
    if (size < 0) return undefined;
    const at = scratch + HANDLE_AT;
    const type = u32[(at >>> 2) + 1] as number;
    const bytes = u8.slice(at + 8, at + 8 + size);
    this.#uuid ??= filesystemUuid(this.#rootFd) ?? new Uint8Array(16);
    return { type, bytes, uuid: this.#uuid };
  }

  named({ type, bytes }: Handle): string | undefined {
    const at = scratch + HANDLE_AT;
    u32[at >>> 2] = bytes.length;
    u32[(at >>> 2) + 1] = type;
    u8.set(bytes, at + 8);
    const fd = openByHandle(this.#rootFd, at, O.PATH);
    if (fd < 0) return undefined;
    const r = statFd(fd);
    const id = r < 0 ? undefined : statId();
    close(fd);
    return id;
  }

  namesOf(ids: ReadonlySet<string>): Map<string, string[]> {
    const found = new Map<string, string[]>();
    const numbers = new Set([...ids].map((id) => id.split(':', 2).join(':')));
    const pending = [''];
    for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
      const maybe: string[] = [];
      const prefix = dir === '' ? '' : `${dir}/`;
      this.#read(dir, (name, length, low, high, type) => {
        if (type === DT.DIR) pending.push(prefix + getBytes(name, length));
        // Where the kernel does not say the type, each is looked at.
        else if (type === DT.UNKNOWN || numbers.has(`${low}:${high}`)) {
          maybe.push(prefix + getBytes(name, length));
        }
      });
      for (const path of maybe) {
        const seen = this.look(path);
        if (seen !== undefined && isDirectory(seen.node)) pending.push(path);
        else if (seen !== undefined && ids.has(seen.id)) {
          found.set(seen.id, [...(found.get(seen.id) ?? []), path]);
        }
      }
    }
    return found;
  }

  close(): void {
    for (const fd of this.#dirs.values()) close(fd);
    this.#dirs.clear();
    closeSync(this.#rootFd);
  }

  /** The entries of a directory; none when it is gone. */
  #read(path: string, entry: EntryCallback): void {
    const fd = openBelow(this.#rootFd, path, O.RDONLY | O.DIRECTORY);
    if (GONE.has(fd)) return;
    if (fd < 0) throw new SysError('open', fd, show(path));
    try {
      const r = readEntries(fd, scratch + DENTS_AT, DENTS_SIZE, entry);
      if (r < 0 && !GONE.has(r)) throw new SysError('read', r, show(path));
    } finally {
      close(fd);
    }
  }

  /** @returns the descriptor of the directory that has `path`, or -errno where it is gone; and the arena offset of the name. */
  #place(path: string): [fd: number, name: number] {
    if (path === '') return [this.#rootFd, emptyPath()];
    const cut = path.lastIndexOf('/');
    const fd = cut < 0 ? this.#rootFd : this.#directory(path.slice(0, cut));
    if (fd < 0) return [fd, 0];
    putBytes(scratch + NAME_AT, path.slice(cut + 1));
    return [fd, scratch + NAME_AT];
  }

  #directory(path: string): number {
    let fd = this.#dirs.get(path);
    if (fd !== undefined) {
      this.#dirs.delete(path);
    } else {
      fd = openBelow(this.#rootFd, path, O.PATH | O.DIRECTORY);
      if (fd < 0) {
        if (GONE.has(fd)) return fd;
        throw new SysError('open', fd, show(path));
      }
      for (const [oldest, open] of this.#dirs) {
        if (this.#dirs.size < OPEN_DIRS) break;
        close(open);
        this.#dirs.delete(oldest);
      }
    }
    this.#dirs.set(path, fd);
    return fd;
  }
}

/** The id of what statBuffer() describes. */
function statId(): string {
  const k = statBuffer() >>> 2;
  return [Statx.ino, Statx.ino + 4, Statx.dev_major, Statx.dev_minor]
    .map((field) => u32[k + (field >>> 2)])
    .join(':');
}

function placeOf(path: string): Place {
  let place: Place = { parent: undefined, name: '' };
  if (path !== '') for (const name of path.split('/')) place = { parent: place, name };
  return place;
}
