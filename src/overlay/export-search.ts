// From a number that nobody has looked up yet to its node: by what was known before, by the layers, by reading every directory.
// Asked by export.ts when a file handle is opened; what each way says is looked up name by name like any path, and counts only
// if the object there has the number. So a handle never leads past a whiteout, an opaque directory or a copy.
// Follows: "NFS export" in Documentation/filesystems/overlayfs.rst for what a handle of an overlay promises.

import { DT } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { putBytes, u32 } from '../linux/memory.js';
import { type Deferred, PARKED } from '../vfs/filesystem.js';
import { F, FLAG, get, hasFlag, ROOT, rec } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { forget, freeUnused } from './forget.js';
import { lookupChild } from './lookup.js';
import { halvesOf, keyOf, type NumberKey, NumberTable } from './number-table.js';
import { isDir, nodeByIno } from './places.js';
import { listAll, snapshotOf } from './readdir.js';
import { LISTED_NAME, RECORD } from './work.js';

/** Objects remembered after the kernel has forgotten them, before the directories have been read. */
const REMEMBERED = 64 * 1024;

/** Directories above each other. */
const DEPTH_MAX = 2048;

/** Milliseconds that reading the directories goes on between two requests. */
const PORTION = 1;

/** A directory that is being read, referenced as by the kernel, and the directories in it that are not read yet. */
interface Frame {
  readonly slot: number;
  readonly names: string[];
}

export class Search {
  readonly #o: Overlay;
  readonly #table = new NumberTable();
  /** Every directory has been read once; from then on those that get names are read again. */
  #complete = false;
  #reading = false;
  readonly #frames: Frame[] = [];
  readonly #read = new Set<NumberKey>();
  readonly #changed = new Set<NumberKey>();
  readonly #waiting = new Map<NumberKey, Deferred[]>();
  /** Numbers that were waited for, and that no directory has. */
  readonly #missing = new Set<NumberKey>();

  constructor(o: Overlay) {
    this.#o = o;
  }

  /** The node with this number. @returns its slot, PARKED while the directories are read, or -ESTALE. */
  find(lo: number, hi: number): number {
    const slot = this.#reach(lo, hi, 0);
    if (slot !== 0) return slot;
    const key = keyOf(lo, hi);
    if (this.#missing.delete(key)) return -E.STALE;
    if (this.#complete && !this.#reading && this.#changed.size === 0) return -E.STALE;
    const waiting = this.#waiting.get(key) ?? [];
    waiting.push(this.#o.host.defer());
    this.#waiting.set(key, waiting);
    if (!this.#reading) this.#readAll();
    return PARKED;
  }

  nameAdded(dir: number): void {
    if (this.#complete || this.#reading) {
      this.#changed.add(keyOf(get(dir, F.inoLo), get(dir, F.inoHi)));
    }
  }

  forgotten(slot: number): void {
    const parent = get(slot, F.parent);
    if (parent === 0 || hasFlag(slot, FLAG.OWN_ID)) return;
    const table = this.#table;
    if (table.size >= REMEMBERED && !this.#complete && !this.#reading) table.clear();
    const parentLo = get(parent, F.inoLo);
    table.set(get(slot, F.inoLo), get(slot, F.inoHi), parentLo, get(parent, F.inoHi));
  }

  /** @returns the node's slot, 0 where no way leads to it. */
  #reach(lo: number, hi: number, depth: number): number {
    const known = nodeByIno(this.#o, lo, hi);
    if (known !== 0) return known;
    if (depth > DEPTH_MAX) return 0;
    for (const [parentLo, parentHi] of this.#table.find(lo, hi)) {
      const parent = this.#reach(parentLo, parentHi, depth + 1);
      if (parent === 0) continue;
      const slot = this.#inDirectory(parent, lo, hi);
      if (slot !== 0) return slot;
      freeUnused(this.#o, parent);
    }
    return this.#byLayers(lo, hi);
  }

  /** The entry of a directory that has the number, or 0. */
  #inDirectory(dir: number, lo: number, hi: number): number {
    const o = this.#o;
    if (!isDir(dir) || hasFlag(dir, FLAG.ORPHAN)) return 0;
    const snapshot = snapshotOf(o, dir, true);
    if (typeof snapshot === 'number') return 0;
    for (let i = 0; i < snapshot.count; i++) {
      const at = snapshot.added(i);
      if (snapshot.inoLo(at) !== lo || snapshot.inoHi(at) !== hi) continue;
      snapshot.putName(at, LISTED_NAME);
      const slot = lookupChild(o, dir, LISTED_NAME, snapshot.nameLength(at), RECORD);
      if (slot <= 0) continue;
      if (isNumbered(slot, lo, hi)) return slot;
      freeUnused(o, slot);
    }
    return 0;
  }

  /** Asks each layer where it has the number. */
  #byLayers(lo: number, hi: number): number {
    const o = this.#o;
    const tried = new Set<string>();
    for (let i = 0; i <= o.bottom; i++) {
      const layer = o.layers[i];
      if (layer?.pathOf === undefined) continue;
      // See number() of numbers.ts: the key goes as it came.
      const path = layer.pathOf(lo, (hi ^ layer.key) >>> 0);
      if (path === undefined || tried.has(path)) continue;
      tried.add(path);
      const slot = this.#walk(path);
      if (slot <= 0) continue;
      if (isNumbered(slot, lo, hi)) return slot;
      freeUnused(o, slot);
    }
    return 0;
  }

  /** @returns the slot at a path of the union, or a negative number. */
  #walk(path: string): number {
    const o = this.#o;
    let slot = ROOT;
    if (path === '') return slot;
    for (const name of path.split('/')) {
      if (!isDir(slot) || name.length > 255) {
        freeUnused(o, slot);
        return -E.NOENT;
      }
      const child = lookupChild(o, slot, LISTED_NAME, putBytes(LISTED_NAME, name), RECORD);
      if (child < 0) {
        freeUnused(o, slot);
        return child;
      }
      slot = child;
    }
    return slot;
  }

  #readAll(): void {
    this.#reading = true;
    this.#missing.clear();
    if (!this.#complete) {
      this.#table.clear();
      this.#readDirectory(ROOT);
    }
    this.#o.host.errand(() => this.#step());
  }

  #step(): boolean {
    const until = performance.now() + PORTION;
    do {
      if (this.#advance()) continue;
      this.#end();
      return false;
    } while (performance.now() < until);
    return true;
  }

  /** Reads one more directory. @returns false when there is none left. */
  #advance(): boolean {
    const o = this.#o;
    const frame = this.#frames.at(-1);
    if (frame === undefined) {
      for (const key of this.#changed) {
        this.#changed.delete(key);
        const dir = this.#reach(...halvesOf(key), 0);
        if (dir !== 0 && isDir(dir)) this.#readDirectory(dir);
        return true;
      }
      return false;
    }
    const name = frame.names.pop();
    if (name === undefined) {
      this.#frames.pop();
      forget(o, frame.slot, 1);
      return true;
    }
    const slot = lookupChild(o, frame.slot, LISTED_NAME, putBytes(LISTED_NAME, name), RECORD);
    if (slot <= 0) return true;
    if (isDir(slot)) this.#readDirectory(slot);
    else freeUnused(o, slot);
    return true;
  }

  /** Notes what a directory has; the directories in it come next. What cannot be read has no handles. */
  #readDirectory(slot: number): void {
    const count = rec(slot) + F.nlookup;
    u32[count] = (u32[count] as number) + 1;
    const names: string[] = [];
    this.#frames.push({ slot, names });
    const dirLo = get(slot, F.inoLo);
    const dirHi = get(slot, F.inoHi);
    this.#read.add(keyOf(dirLo, dirHi));
    const snapshot = hasFlag(slot, FLAG.ORPHAN) ? -E.NOENT : listAll(this.#o, slot);
    if (typeof snapshot === 'number') return;
    for (let i = 0; i < snapshot.count; i++) {
      const at = snapshot.added(i);
      const lo = snapshot.inoLo(at);
      const hi = snapshot.inoHi(at);
      this.#table.set(lo, hi, dirLo, dirHi);
      if (snapshot.type(at) === DT.DIR && !this.#read.has(keyOf(lo, hi)))
        names.push(snapshot.name(at));
      if (this.#waiting.size > 0) this.#wake(keyOf(lo, hi));
    }
  }

  /** Lets those go on who wait for a number. */
  #wake(key: NumberKey): void {
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) return;
    this.#waiting.delete(key);
    for (const saved of waiting) this.#o.host.resume(saved);
  }

  #end(): void {
    this.#reading = false;
    this.#complete = true;
    for (const key of [...this.#waiting.keys()]) {
      this.#missing.add(key);
      this.#wake(key);
    }
  }
}

/** Whether a node is known by this number: one with a number that is another's is not. */
function isNumbered(slot: number, lo: number, hi: number): boolean {
  return get(slot, F.inoLo) === lo && get(slot, F.inoHi) === hi && !hasFlag(slot, FLAG.OWN_ID);
}
