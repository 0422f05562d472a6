// What a mount's layers are to become, as data: sent by who asks for it (ops/), through the supervisor, to the server that does it.
// Read by change-layers.ts; what it tells goes the same way back.
// Plain JSON.

/** Why a mount gets other layers, and what is to be done with its upper before. */
export type LayerChange = FreezeChange | DiscardChange | RespecChange | DropChange;

/** The upper becomes a layer; the next one takes its name. */
export interface FreezeChange {
  readonly kind: 'freeze';
  /** Absolute; an empty directory on the upper's mount, which takes the upper's place and gets its content. */
  readonly frozen: string;
}

/** The content of the upper goes, whole or below some paths; the spec stays. */
export interface DiscardChange {
  readonly kind: 'discard';
  /** Absolute: a directory in the workdir. Whole: an empty one, which takes the upper's place and gets its content. */
  readonly trash: string;
  /** Latin1, without a leading slash; absent: everything. They go to the directory `trash`. */
  readonly paths?: readonly string[];
}

/** The layers stay; what is done with them is another (MountSpec.detaching). */
export interface RespecChange {
  readonly kind: 'respec';
}

/** A lower goes, of which the server has said that all of it is in the upper. */
export interface DropChange {
  readonly kind: 'drop';
  /** Its index. */
  readonly index: number;
}

/** What became of it. */
export interface ChangeTold {
  /** Paths, latin1, of the files in use that stay in the upper, of which the layer has copies. */
  readonly copied: readonly string[];
  /** Those of them whose copy is from before the last write. */
  readonly changing: readonly string[];
  /** Those of them that have further names in lowers, which the layer has not. */
  readonly parted: readonly string[];
  /** Nothing was done: these are to be copied before, each to its place in the work directory. */
  readonly wanted: readonly { readonly path: string; readonly copy: string }[];
  /** Nothing was done, and another attempt will do: the old server died in the middle of a request. */
  readonly again: boolean;
  /** Paths, latin1, that went beside those that were named: other names of the same files. */
  readonly beside: readonly string[];
}

export const NOTHING_TOLD: ChangeTold = {
  copied: [],
  changing: [],
  parted: [],
  wanted: [],
  again: false,
  beside: [],
};

/** Bytes that a server copies while everybody waits, where blocks cannot be shared. */
export const COPY_BUDGET = 64 << 20;
