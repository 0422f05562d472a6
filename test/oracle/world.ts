// One side of a campaign: a mounted stack, its open descriptors, and what an operation needs of them.
// The side under test and the oracle run the same operations (operations.ts) on their own world.
// Where the kernel's overlayfs is known not to be standard, the oracle is asked in another way.

import { AT, must, O, S, stat, sys } from '../support/sys.js';

export interface Slot {
  fd: number;
  /** Opened O_RDONLY. */
  readOnly: boolean;
  directory: boolean;
  path: string;
}

/** Descriptors that a campaign holds at once. */
export const slotCount = 6;

export class World {
  /** Kernel overlayfs, whose answers are the expectation. */
  readonly oracle: boolean;
  readonly mountpoint: string;
  /** Descriptor of the mount's root; -1 while it is not mounted. */
  root = -1;
  readonly slots: (Slot | undefined)[] = new Array(slotCount).fill(undefined);

  constructor(oracle: boolean, mountpoint: string) {
    this.oracle = oracle;
    this.mountpoint = mountpoint;
  }

  enter(): void {
    this.root = must(sys.open(AT.FDCWD, this.mountpoint, O.DIRECTORY));
  }

  /** Closes everything that would keep the mount busy. */
  leave(): void {
    for (let i = 0; i < slotCount; i++) this.close(i);
    if (this.root >= 0) sys.close(this.root);
    this.root = -1;
  }

  /** Puts a new descriptor in a slot; what was there is closed first. */
  put(index: number, fd: number, path: string, flags: number): void {
    this.close(index);
    const st = stat(fd, '');
    const directory = typeof st !== 'number' && (st.mode & S.IFMT) === S.IFDIR;
    const readOnly = (flags & 3) === O.RDONLY && (flags & O.PATH) === 0;
    this.slots[index] = { fd, readOnly, directory, path };
  }

  close(index: number): number {
    const slot = this.slots[index];
    if (slot === undefined) return -9;
    this.slots[index] = undefined;
    return sys.close(slot.fd);
  }

  /** The descriptor in a slot, or one that is never open: the call then answers EBADF. */
  fd(index: number): number {
    return this.slots[index]?.fd ?? -1;
  }

  /**
   * Runs a reading call. A read-only descriptor of kernel overlayfs goes on showing the lower file
   * after a copy-up (its documented non-standard behaviour), so there the file is opened anew.
   */
  reading<T>(index: number, use: (fd: number) => T): T {
    const slot = this.slots[index];
    if (!this.oracle || slot === undefined || !slot.readOnly || slot.directory) {
      return use(this.fd(index));
    }
    const fresh = sys.open(AT.FDCWD, `/proc/self/fd/${slot.fd}`, O.RDONLY | O.NONBLOCK);
    if (fresh < 0) return use(slot.fd);
    try {
      return use(fresh);
    } finally {
      sys.close(fresh);
    }
  }
}
