// Looks at objects in their folders: which file it is, what the kernel enforces, and what its bytes give.
// Used by compare-objects.ts and its threads; each has its own.
// Opened as overlayfs looks data-only layers up: the first folder that has the path; no symlink is followed on the way.
// Never by node:fs, which warns of descriptors that a thread opened otherwise.

import { fstatSync } from 'node:fs';
import { AT, O } from '../linux/constants.js';
import { check, E } from '../linux/errno.js';
import { close, openAt, openBeneathOnMount, writeOutPages } from '../linux/files.js';
import { mapMemory, putBytes, scratch } from '../linux/memory.js';
import { measureVerity } from '../linux/verity.js';
import { verityDigestOfFd } from '../store/verity.js';
import type { NamedObject } from './image-objects.js';

/** Scratch for paths, above the fixed places of src/linux. */
const PATH_AT = 0x1000;
/** A fifo or a terminal must not hold up or take over its reader. */
const FLAGS = O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.NOCTTY;
/** Bytes of the longest path that is looked for (PATH_MAX). */
const LONGEST = 4096;

/** Milliseconds that a file must be old, for its times to tell whether it was changed since. */
const SETTLED = 2000;

/** What is known of an object without its bytes. */
export interface ObjectState {
  /** Device, inode, size and change time; undefined: there is none, or its times do not tell of changes yet. */
  readonly key: string | undefined;
  /** The digest that the kernel enforces, hex. */
  readonly enforced: string | undefined;
  readonly missing: boolean;
}

/** What an object's bytes are; undefined when there are none to read. */
export interface Comparison {
  readonly key: string | undefined;
  readonly digest: string | undefined;
}

export class ObjectComparer {
  readonly #folders: number[] = [];

  /** @param folders of objects, in the order in which they are asked. */
  constructor(folders: readonly string[]) {
    mapMemory();
    for (const folder of folders) {
      putBytes(scratch + PATH_AT, Buffer.from(folder).toString('latin1'));
      const fd = openAt(AT.FDCWD, scratch + PATH_AT, O.PATH | O.DIRECTORY);
      this.#folders.push(check(fd, 'open', folder));
    }
  }

  look(object: NamedObject): ObjectState {
    const fd = this.#open(object);
    if (fd < 0) return { key: undefined, enforced: undefined, missing: true };
    try {
      const measured = measureVerity(fd);
      const enforced = typeof measured === 'string' ? measured : undefined;
      return { key: keyOf(fd), enforced, missing: false };
    } finally {
      close(fd);
    }
  }

  /** Reads all of it. @throws SysError when it cannot be read. */
  read(object: NamedObject): Comparison {
    const fd = this.#open(object);
    if (fd < 0) return { key: undefined, digest: undefined };
    try {
      writeOutPages(fd);
      const before = keyOf(fd);
      const algorithm = object.digest?.length === 128 ? 'sha512' : 'sha256';
      const digest = verityDigestOfFd(fd, algorithm).toString('hex');
      return { key: before === keyOf(fd) ? before : undefined, digest };
    } finally {
      close(fd);
    }
  }

  /** @returns a descriptor of a regular file, or -errno. */
  #open({ path }: NamedObject): number {
    if (path.length >= LONGEST) return -E.NAMETOOLONG;
    let fd = -E.NOENT as number;
    for (const folder of this.#folders) {
      putBytes(scratch + PATH_AT, path);
      // The overlay looks at no mount below the folder: what is compared must be what it shows.
      fd = openBeneathOnMount(folder, scratch + PATH_AT, FLAGS);
      if (fd !== -E.NOENT) break;
    }
    if (fd < 0 || fstatSync(fd).isFile()) return fd;
    close(fd);
    return -E.INVAL;
  }

  close(): void {
    for (const fd of this.#folders) close(fd);
  }
}

function keyOf(fd: number): string | undefined {
  const stat = fstatSync(fd, { bigint: true });
  const settled = stat.ctimeMs + BigInt(SETTLED) < BigInt(Date.now());
  return settled ? `${stat.dev}:${stat.ino}:${stat.size}:${stat.ctimeNs}` : undefined;
}
