// What an apply is going to do, as a file: who finds it can finish the work, or take it back.
// Written by stage.ts when all new content lies beside it, executed by steps.ts, removed at the end.
// Everything is in one folder of the target (stack/pending-apply.ts), so on its filesystem, wherever the target is moved to.

import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { readIfThere } from '../../linux/read-if-there.js';
import { MountError } from '../../stack/errors.js';
import { APPLY_JOURNAL } from '../../stack/pending-apply.js';
import type { Attributes } from '../attributes.js';
import type { Held } from '../held.js';

/** Names in the folder. Objects in `new` and `held` are called by their number. */
export const PARTS = {
  /** There from the moment at which the whole work is certain to be done, or taken back. */
  journal: APPLY_JOURNAL,
  unpublished: 'journal.new',
  /** What is put into the target; afterwards, what it replaced. */
  news: 'new',
  /** What was taken out of it. */
  held: 'held',
} as const;

/** Empty folders, made when a part of the work is complete: nothing of it need be looked at again. */
export const MARKERS = ['taken', 'put', 'undo', 'unput', 'done'] as const;
export type Marker = (typeof MARKERS)[number];

/** Something leaves its place, for another one or for good. It becomes `held/NUMBER`. */
export interface Take {
  /** Before anything was done; deepest first. */
  readonly path: string;
  readonly id: string;
}

/** Something gets a place. */
export interface Put {
  /** When all is done; parents first. */
  readonly path: string;
  /**
   * `new/NUMBER`, `held/NUMBER`, or `=PATH`: another name of what is at PATH by then.
   */
  readonly from: string;
  /** Of what is put, where it is not another name. */
  readonly id?: string;
  /** Something is replaced, which takes the place of what is put. */
  readonly over: boolean;
}

/** What objects of the target are to have, by their path when all is done or before anything was. */
export interface Setting {
  readonly path: string;
  readonly attributes: Attributes;
}

export interface Journal {
  readonly version: 1;
  /** Directories of this user that forbid their owner what must be done in them: opened for the time, by the path before. */
  readonly opened: readonly string[];
  readonly takes: readonly Take[];
  readonly puts: readonly Put[];
  /** Deepest first, so that no time is touched again. */
  readonly sets: readonly Setting[];
  /** For the way back; deepest first. */
  readonly restores: readonly Setting[];
  /** Files whose marks of overlayfs go at the end: they were the upper's own. */
  readonly unmark: readonly string[];
  /** Directories that are emptied when all is done: the upper, and its index. */
  readonly emptied: readonly { readonly path: string; readonly id: string }[];
}

/** Writes the journal, for good. @param folder its path. @throws the error of node:fs, SysError. */
export function publishJournal(stage: Held, folder: string, journal: Journal): void {
  const fd = openSync(join(folder, PARTS.unpublished), 'wx', 0o600);
  try {
    const bytes = Buffer.from(JSON.stringify(journal));
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  // What it speaks of is on disk before itself.
  stage.sync();
  stage.rename(PARTS.unpublished, stage, PARTS.journal);
  stage.syncNames();
}

/** @returns undefined when there is none: nothing has been done to the target. @throws MountError. */
export function readJournal(folder: string): Journal | undefined {
  const text = readIfThere(join(folder, PARTS.journal))?.toString();
  if (text === undefined) return undefined;
  const damaged = (cause?: unknown): MountError =>
    new MountError(
      'layer',
      `${join(folder, PARTS.journal)}: is no journal that this version of varve understands: recover with the version that wrote it`,
      { cause },
    );
  let journal: Journal;
  try {
    journal = JSON.parse(text) as Journal;
  } catch (cause) {
    throw damaged(cause);
  }
  if (journal.version !== 1) throw damaged();
  return journal;
}
