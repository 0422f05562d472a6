// Does what a journal says, or takes it back: every step once, whatever was done before somebody was killed.
// Called by apply.ts with a published journal; the markers tell which parts are complete, the objects themselves the rest.
// Each step is one rename, or sets attributes that can be set again. What is replaced is kept until all is done.

import { RENAME } from '../../linux/constants.js';
import { E, SysError } from '../../linux/errno.js';
import { show } from '../../tree/tree.js';
import { removeMarks, setAttributes } from '../attributes.js';
import { type Held, isDirectoryMode } from '../held.js';
import { type Journal, MARKERS, type Marker, PARTS, type Put, type Setting } from './journal.js';

/** Told before each step, for progress; what it throws ends the work there. */
export type OnStep = (done: number, of: number) => void;

export class Steps {
  readonly #target: Held;
  readonly #stage: Held;
  readonly #journal: Journal;
  readonly #onStep: OnStep | undefined;
  readonly #marked = new Set<Marker>();
  #done = 0;

  constructor(target: Held, stage: Held, journal: Journal, onStep?: OnStep) {
    this.#target = target;
    this.#stage = stage;
    this.#journal = journal;
    this.#onStep = onStep;
    for (const marker of MARKERS) {
      if (stage.look(marker) !== undefined) this.#marked.add(marker);
    }
  }

  /** Whether it is being taken back: then there is no way forward. */
  get isUndone(): boolean {
    return this.#marked.has('undo');
  }

  /** Whether all is done but for the cleaning up: then there is no way back. */
  get isDone(): boolean {
    return this.#marked.has('done');
  }

  /** @throws SysError when a step cannot be done; undo() is possible then. */
  finish(): void {
    const { takes, puts, sets } = this.#journal;
    if (this.isDone) return;
    this.#part('taken', () => {
      this.#open();
      takes.forEach(({ path, id }, i) => {
        this.#step();
        const to = `${PARTS.held}/${i}`;
        if (this.#stage.look(to) !== undefined) return;
        // Whoever put something else there since the journal was written is not robbed of it.
        if (this.#target.look(path)?.id !== id) throw this.#error('rename', E.STALE, path);
        this.#target.rename(path, this.#stage, to);
      });
    });
    this.#part('put', () => {
      puts.forEach((put, i) => {
        this.#step();
        this.#put(put, i);
      });
    });
    for (const setting of sets) this.#set(setting);
    this.#mark('done');
  }

  /** Takes everything back. @throws SysError when a step cannot be done; it may be tried again. */
  undo(): void {
    const { takes, puts, restores } = this.#journal;
    this.#mark('undo');
    this.#part('unput', () => {
      for (let i = puts.length - 1; i >= 0; i--) {
        this.#step();
        this.#unput(puts[i] as Put, i);
      }
    });
    for (let i = takes.length - 1; i >= 0; i--) {
      this.#step();
      const from = `${PARTS.held}/${i}`;
      const path = (takes[i] as { path: string }).path;
      if (this.#stage.look(from) === undefined) continue;
      this.#move(this.#stage, from, this.#target, path);
    }
    for (const setting of restores) this.#set(setting);
  }

  /** Marks of the upper that came along; only once there is no way back. */
  unmark(): void {
    for (const path of this.#journal.unmark) {
      this.#step();
      if (this.#target.look(path) !== undefined) removeMarks(this.#target, path);
    }
  }

  #part(marker: Marker, work: () => void): void {
    if (this.#marked.has(marker)) return;
    work();
    this.#mark(marker);
  }

  /** After it, nobody looks at what the part before has done. */
  #mark(marker: Marker): void {
    if (this.#marked.has(marker)) return;
    this.#step();
    this.#stage.syncNames();
    this.#stage.mkdir(marker);
    this.#stage.syncNames();
    this.#marked.add(marker);
  }

  #step(): void {
    const { takes, puts, sets } = this.#journal;
    this.#onStep?.(this.#done++, takes.length + puts.length + sets.length);
  }

  /** Directories whose owner may not write to them: sets and restores give them their mode. */
  #open(): void {
    for (const path of this.#journal.opened) {
      const met = this.#target.look(path);
      if (met === undefined || !isDirectoryMode(met.mode)) continue;
      this.#step();
      this.#target.chmod(path, met.mode | 0o700);
    }
  }

  #put(put: Put, i: number): void {
    const name = put.from.startsWith('=') ? this.#linkFor(put, i) : put.from;
    const id = this.#idOf(put);
    // Gone: it was put. Another object: it was exchanged for that.
    if (name === undefined || this.#stage.look(name)?.id !== id) return;
    if (put.over) this.#replace(name, put.path, i);
    else this.#move(this.#stage, name, this.#target, put.path);
  }

  /** What is at the place of `put` when it is done. */
  #idOf({ from, id }: Put): string {
    if (!from.startsWith('=')) return id as string;
    const original = this.#target.look(from.slice(1));
    if (original === undefined) throw this.#error('stat', E.NOENT, from.slice(1));
    return original.id;
  }

  /** @returns the name in the stage of one more link, undefined when it has been put. */
  #linkFor({ path, from }: Put, i: number): string | undefined {
    const original = from.slice(1);
    const id = this.#target.look(original)?.id;
    if (this.#target.look(path)?.id === id) return undefined;
    const name = linkName(i);
    this.#target.link(original, this.#stage, name);
    if (this.#stage.look(name)?.id !== id) throw this.#error('link', E.MLINK, original);
    return name;
  }

  /** Puts `name` of the stage in the place of what is at `path`, which becomes `name`. */
  #replace(name: string, path: string, i: number): void {
    const old = oldName(i);
    if (this.#stage.look(old) === undefined) {
      try {
        this.#stage.rename(name, this.#target, path, RENAME.EXCHANGE);
        return;
      } catch (error) {
        if (!isUnknownFlag(error)) throw error;
      }
      // A filesystem that cannot exchange: nothing is there for a moment.
      this.#target.rename(path, this.#stage, old);
    }
    this.#move(this.#stage, name, this.#target, path);
  }

  #unput(put: Put, i: number): void {
    const isLink = put.from.startsWith('=');
    const name = isLink ? linkName(i) : put.from;
    const id = isLink ? this.#target.look(put.from.slice(1))?.id : put.id;
    const isThere = this.#target.look(put.path)?.id === id;
    if (put.over) {
      const old = oldName(i);
      if (this.#stage.look(old) !== undefined) {
        if (isThere) this.#move(this.#target, put.path, this.#stage, name);
        this.#move(this.#stage, old, this.#target, put.path);
      } else if (isThere && this.#stage.look(name) !== undefined) {
        this.#stage.rename(name, this.#target, put.path, RENAME.EXCHANGE);
      }
    } else if (isThere) {
      if (isLink) this.#target.unlink(put.path);
      else this.#move(this.#target, put.path, this.#stage, name);
    }
  }

  /** A rename to where nothing is. */
  #move(from: Held, path: string, to: Held, toPath: string): void {
    try {
      from.rename(path, to, toPath, RENAME.NOREPLACE);
    } catch (error) {
      if (!isUnknownFlag(error)) throw error;
      if (to.look(toPath) !== undefined) throw this.#error('rename to', E.EXIST, toPath);
      from.rename(path, to, toPath);
    }
  }

  #set({ path, attributes }: Setting): void {
    this.#step();
    setAttributes(this.#target, path, attributes);
  }

  #error(op: string, errno: number, path: string): SysError {
    return new SysError(op, errno, `${this.#target.label}/${show(path).slice(1, -1)}`);
  }
}

/** What a filesystem answers that does not know a flag of renameat2(2). */
function isUnknownFlag(error: unknown): boolean {
  const { errno } = error as SysError;
  return errno === E.INVAL || errno === E.NOSYS || errno === E.OPNOTSUPP;
}

function linkName(i: number): string {
  return `${PARTS.news}/link-${i}`;
}

/** What was replaced by rename alone. */
function oldName(i: number): string {
  return `${PARTS.held}/old-${i}`;
}
