// The state of one mounted overlay that is not in the shared tables; every operation gets it as its first argument.
// Owned and changed by the server's thread alone.
// Follows the object model of fs/overlayfs/ovl_entry.h: an upper, a stack of lowers, a workdir.

import type { Layer, UpperLayer } from '../layer/layer.js';
import type { Deferred, Host } from '../vfs/filesystem.js';
import type { OverlayConfig } from './config.js';
import type { DirIndex } from './dir-index.js';
import { Marks } from './marks.js';
import type { Snapshot } from './snapshot.js';

/** A copy-up whose data another thread is copying; requests that need its result wait in `waiting`. */
export interface PendingCopy {
  readonly waiting: Deferred[];
  /** errno of the failure, for the waiters when they run again; 0 while it goes on. */
  error: number;
  /** Waiters that have yet to take the error. */
  failures: number;
  /** Called once it is over, with 0 or -errno: nobody's request. */
  after?: (result: number) => void;
}

/** What a lower layer that is being filled from (fill.ts) adds. */
export interface Filling {
  /** Whether a node stays that nobody else refers to. */
  holds(slot: number): boolean;
  /** A node or alias has got another name, or one more. */
  moved(record: number): void;
  /** A name has gone. */
  removed(): void;
}

/** What nfs_export=on adds (export.ts): nodeids that are numbers, and a way from a number to its object. */
export interface Exporting {
  /** Notes the birth of the object whose struct statx lies in statBuffer(): it tells objects apart that had one number. */
  born(): void;
  /** A copied-up object keeps what its original had. */
  copied(generation: number): void;
  /** Enters a new node, born last, under its number. @returns the node to go on with: another one that is the same object. */
  settle(slot: number, parent: number): number;
  /** A directory node has got another name in it. */
  nameAdded(dir: number): void;
  /** A node is about to be freed. */
  forgotten(slot: number): void;
}

export class Overlay {
  readonly config: OverlayConfig;
  readonly marks: Marks;
  /** By index: the upper (or undefined), the lowers, the data-only layers. */
  readonly layers: readonly (Layer | undefined)[];
  /** Index of the lowest layer that has names. */
  readonly bottom: number;
  readonly upper: UpperLayer | undefined;
  /** Set by start(). */
  host!: Host;
  /**
   * Finds the place of a node that a predecessor left (FLAG.INHERITED), or says that it has none any more.
   * @returns the slot, or 0. Set by succeed().
   */
  settle: (slot: number) => number = (slot) => slot;
  /** Name sets of merged directories, by node. */
  readonly indexes = new Map<number, DirIndex>();
  /** Lookups that had to ask the layers, by directory node, until an index is worth it. */
  readonly misses = new Map<number, number>();
  /** Listings of the directories read last, by node; oldest first. */
  readonly snapshots = new Map<number, Snapshot>();
  /** Union link counts of lower objects with several names, by node. */
  readonly links = new Map<number, number>();
  /**
   * All layers are images, and nothing is written: the kernel opens files without asking, so that READ names only the node,
   * and directories list in the order of the layers.
   */
  readonly immutable: boolean;
  /** Where it is immutable: contents of the files read last, by node, oldest first. */
  readonly contents = new Map<number, number>();
  /**
   * Where the metadata of metacopy files in lowers lies, by node, until they are copied up; what the node has of the lower is
   * the data. A directory record with one reference, and a name reference.
   */
  readonly metadata = new Map<number, { readonly dir: number; readonly name: number }>();
  /** The upper has objects with an own number: set by its root's mark, and by the first that is written. */
  ownNumbers = false;
  /** Indexes of lowers that were uppers: the marks of their objects tell numbers (their root has the own-number mark). */
  readonly tellers = new Set<number>();
  /** Copy-ups in flight, by node. */
  readonly copies = new Map<number, PendingCopy>();
  /** Numbers the temporary names in the workdir. */
  tempCounter = 0;
  /** With nfs_export=on. */
  exporting: Exporting | undefined;
  /** While a lower layer is being detached. */
  filling: Filling | undefined;
  /** What is copied up now is nobody's request. */
  unasked = false;
  /** umask of the process as last set. */
  umask = -1;

  constructor(config: OverlayConfig) {
    this.config = config;
    this.marks = new Marks(config.userxattr);
    this.upper = config.upper;
    this.layers = [config.upper, ...config.lowers, ...config.dataLayers];
    this.bottom = config.lowers.length;
    this.immutable =
      config.upper === undefined &&
      [...config.lowers, ...config.dataLayers].every((layer) => layer.contentOnly);
  }

  layer(index: number): Layer {
    return this.layers[index] as Layer;
  }
}
