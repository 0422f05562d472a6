// Fills the upper with everything that is seen through one lower, so that this one can be taken away: `varve detach --lower`.
// Started by filesystem.ts for a spec that says so; an errand between requests, large files copied by worker threads. What is done
// is seen in the upper alone, so a successor begins again and passes over it.
// Depth first. A directory that nothing is left below becomes opaque once all of it has arrived; until then the layer is needed.

import { isHiding, type Layer, layerOf } from '../layer/layer.js';
import { DT, S } from '../linux/constants.js';
import { E, errnoName } from '../linux/errno.js';
import { emptyPath, mknodAt, Statx, statBuffer, unlinkAt } from '../linux/files.js';
import { getBytes, getU64, putBytes } from '../linux/memory.js';
import { getxattrAt, removexattrAt } from '../linux/xattr.js';
import { add, Counter, count, FILL, set } from '../vfs/counters.js';
import { ABSENT, JOB, PARKED } from '../vfs/filesystem.js';
import { clearFlag, F, FLAG, get, hasFlag, nodesEnd, ROOT, setFlag } from '../vfs/nodes.js';
import type { Detaching } from './config.js';
import type { Filling, Overlay } from './context.js';
import {
  ensureNameUpper,
  ensureUpper,
  ensureUpperDir,
  keepingTimes,
  noteUpperName,
} from './copy-up.js';
import { dropEntriesOf, dropEntryOf } from './fill-index.js';
import {
  isSameProvider,
  isUntouched,
  lowersOf,
  namesToLookAt,
  providerIn,
  releaseView,
  type View,
  viewOfChild,
  viewOfRoot,
} from './fill-view.js';
import { freeUnused } from './forget.js';
import { isWhiteout, statNode } from './objects.js';
import { pathOf } from './open-files.js';
import { writeOwnNumber } from './own-number.js';
import { markOpaque } from './place-new.js';
import { isDir, locate, resolve, typeOfNode } from './places.js';
import { nameIsUpper, nameRecord } from './remove.js';
import { dropStack } from './stacks.js';
import { isXattrWhiteout } from './whiteouts.js';
import { FILL_NAME, XATTR_VALUE } from './work.js';

/** Milliseconds that one turn between two requests may take. */
const TURN = 0.5;

/** Copies on other threads at the same time; others want threads, too. */
const AT_ONCE = 3;

/** Passes over the tree while directories are renamed under it. */
const PASSES = 50;

/** A directory whose content is on its way. */
interface Frame {
  readonly slot: number;
  readonly above: Frame | undefined;
  readonly view: View;
  readonly names: readonly string[];
  next: number;
  /** Copies and directories in it that are not finished, and 1 while its names are gone through. */
  open: number;
}

/** A node as it was when something of it was begun. */
interface Known {
  readonly slot: number;
  readonly generation: number;
}

const known = (slot: number): Known => ({ slot, generation: get(slot, F.generation) });

const isStill = ({ slot, generation }: Known): boolean =>
  get(slot, F.generation) === generation && get(slot, F.flags) !== 0;

export class Fill implements Filling {
  readonly #o: Overlay;
  readonly #detaching: Detaching;
  /** The layer's index. */
  readonly #lower: number;
  #stack: Frame[] = [];
  /** Nodes that stay, and how often. */
  readonly #held = new Map<number, number>();
  /** Of those: objects with several names, until all of them were met. */
  #linked: number[] = [];
  #copying = 0;
  #asleep = true;
  #over = false;
  #filled = false;
  /** Of the first time; when it is no longer so, whoever takes the layer away sees it by the state. */
  #told = false;
  #passes = 0;
  /** Something was moved since the pass began. */
  #again = false;
  /** A directory shows less than what will lie below it: each name that goes needs another look. */
  #loose = false;

  constructor(o: Overlay, detaching: Detaching) {
    this.#o = o;
    this.#detaching = detaching;
    this.#lower = detaching.index;
  }

  begin(): void {
    this.#o.filling = this;
    for (const which of [Counter.fillObjects, Counter.fillBytes, Counter.fillBytes + 4]) {
      set(which, 0);
    }
    set(Counter.fillError, 0);
    set(Counter.fillState, FILL.GOES_ON);
    this.#beginPass();
    this.#wake();
  }

  holds(slot: number): boolean {
    return this.#held.has(slot);
  }

  moved(record: number): void {
    const slot = resolve(record);
    if (this.#loose || isDir(slot) || hasFlag(slot, FLAG.METACOPY)) this.#disturbed();
  }

  removed(): void {
    if (this.#loose) this.#disturbed();
  }

  #disturbed(): void {
    this.#again = true;
    if (!this.#filled) return;
    this.#filled = false;
    set(Counter.fillState, FILL.GOES_ON);
    this.#wake();
  }

  #wake(): void {
    if (!this.#asleep || this.#over) return;
    this.#asleep = false;
    this.#o.host.errand(() => this.#turn(), true);
  }

  /** @returns whether there is more to do now. */
  #turn(): boolean {
    const until = performance.now() + TURN;
    let goesOn = true;
    while (goesOn && performance.now() < until) goesOn = !this.#over && this.#step();
    this.#asleep = !goesOn;
    return goesOn;
  }

  /** One name, or the end of something. @returns false where it has to wait. */
  #step(): boolean {
    if (this.#copying >= AT_ONCE) return false;
    const frame = this.#stack.at(-1);
    if (frame === undefined) return this.#copying === 0 && this.#endPass();
    const name = frame.names[frame.next++];
    if (name === undefined || hasFlag(frame.slot, FLAG.ORPHAN)) {
      this.#stack.pop();
      this.#close(frame);
    } else {
      this.#look(frame, name);
    }
    return true;
  }

  // Passes

  #beginPass(): void {
    set(Counter.fillDirectories, 0);
    this.#again = false;
    this.#loose = false;
    this.#passes++;
    this.#enter(ROOT, undefined, viewOfRoot(ROOT, this.#lower));
  }

  /** Every directory is finished. @returns whether there is more to do. */
  #endPass(): boolean {
    for (const slot of this.#linked.splice(0)) {
      dropEntryOf(this.#o, slot);
      this.#letGo(slot);
    }
    if (this.#again) {
      if (this.#passes < PASSES) this.#beginPass();
      else this.#fail(-E.BUSY, '');
      return true;
    }
    this.#takeUnnamed();
    if (this.#over || this.#copying > 0) return false;
    const { config, host } = this.#o;
    if (config.fsync) {
      this.#copying++;
      host.jobs.run(JOB.SYNCFS, config.workFd, 0, 0, 0, 0, (r) => {
        this.#copying--;
        if (r < 0) this.#fail(r, '');
        else this.#finishAll();
      });
    } else {
      this.#finishAll();
    }
    // Where no thread could be had it is done already.
    return !this.#filled && this.#copying === 0;
  }

  #finishAll(): void {
    if (this.#over) return;
    if (this.#again) {
      this.#wake();
      return;
    }
    this.#passes = 0;
    dropEntriesOf(this.#o, this.#lower);
    this.#filled = true;
    set(Counter.fillState, FILL.DONE);
    if (!this.#told) this.#detaching.done();
    this.#told = true;
  }

  /** Files without a name that are in use, and lie in the layer. */
  #takeUnnamed(): void {
    const o = this.#o;
    const end = nodesEnd();
    for (let slot = ROOT + 1; slot < end && !this.#over; slot++) {
      const flags = get(slot, F.flags);
      if ((flags & FLAG.ORPHAN) === 0 || flags & FLAG.ALIAS || isDir(slot)) continue;
      if (o.settle(slot) === 0 || !this.#leansUnnamed(slot)) continue;
      this.#bring(undefined, slot, slot);
    }
  }

  #leansUnnamed(slot: number): boolean {
    const needsLower = !hasFlag(slot, FLAG.UPPER) || hasFlag(slot, FLAG.METACOPY);
    if (!needsLower || get(slot, F.lower) === 0) return false;
    const metadata = this.#o.metadata.get(slot);
    const dirs = [get(slot, F.lower), ...(metadata === undefined ? [] : [metadata.dir])];
    return dirs.some((dir) => layerOf(dir) === this.#lower);
  }

  // Directories

  #enter(slot: number, above: Frame | undefined, view: View): void {
    const names = namesToLookAt(this.#o, this.#lower, slot, view);
    if (typeof names === 'number') {
      releaseView(this.#o, view);
      this.#fail(names, pathOf(slot) ?? '');
      return;
    }
    if (view.laidBare.length > 0 && !view.alone) this.#loose = true;
    this.#hold(slot);
    if (above !== undefined) above.open++;
    this.#stack.push({ slot, above, view, names, next: 0, open: 1 });
    count(Counter.fillDirectories);
  }

  /** Something of the directory is finished; perhaps all. */
  #close(frame: Frame): void {
    frame.open--;
    if (frame.open > 0) return;
    const { slot, view, above } = frame;
    if (!this.#over && !hasFlag(slot, FLAG.ORPHAN)) {
      const r = view.alone ? this.#standAlone(slot) : this.#keepNumber(slot, view);
      if (r < 0) this.#fail(r, pathOf(slot) ?? '');
    }
    releaseView(this.#o, view);
    this.#letGo(slot);
    if (above !== undefined) this.#close(above);
  }

  /** All that the directory shows is in the upper: from now on nothing else counts. @returns 0 or -errno. */
  #standAlone(slot: number): number {
    const o = this.#o;
    const upper = o.upper as NonNullable<Overlay['upper']>;
    if (get(slot, F.upper) === 0) return 0;
    const fd = upper.fd(get(slot, F.upper));
    if (fd < 0) return fd;
    if (!hasFlag(slot, FLAG.OPAQUE)) {
      const r = markOpaque(o, fd, emptyPath());
      if (r < 0) return r;
      setFlag(slot, FLAG.OPAQUE);
    }
    if (hasFlag(slot, FLAG.REDIRECT)) {
      removexattrAt(fd, emptyPath(), o.marks.redirect);
      clearFlag(slot, FLAG.REDIRECT);
    }
    const cleared = keepingTimes(fd, () => dropWhiteouts(o, upper, get(slot, F.upper), fd));
    if (cleared < 0) return cleared;
    clearFlag(slot, FLAG.WHITEOUTS);
    dropStack(o, slot);
    o.indexes.delete(slot);
    o.misses.delete(slot);
    const listing = o.snapshots.get(slot);
    if (listing !== undefined) listing.stale = true;
    return 0;
  }

  /**
   * A directory that was copied from the layer and merges others still: its number must be told by itself, for an origin that
   * none of these is looks like a stack that does not fit.
   */
  #keepNumber(slot: number, { before }: View): number {
    const o = this.#o;
    const [top] = before;
    if (slot === ROOT || top === undefined || layerOf(top) !== this.#lower) return 0;
    if (get(slot, F.upper) === 0) return 0;
    const fd = (o.upper as NonNullable<Overlay['upper']>).fd(get(slot, F.upper));
    if (fd < 0) return fd;
    if (getxattrAt(fd, emptyPath(), o.marks.origin, XATTR_VALUE, 256) < 0) return 0;
    if (writeOwnNumber(o, slot, 0, fd, emptyPath()) >= 0) {
      removexattrAt(fd, emptyPath(), o.marks.origin);
    }
    return 0;
  }

  // Names

  #look(frame: Frame, name: string): void {
    const o = this.#o;
    const length = putBytes(FILL_NAME, name);
    const record = nameRecord(o, frame.slot, FILL_NAME, length);
    let r = 0;
    if (record === ABSENT) {
      r = this.#hide(frame);
    } else if (record < 0) {
      r = record;
    } else if (isDir(resolve(record))) {
      r = this.#directory(frame, record, length);
    } else {
      r = this.#file(frame, record);
    }
    if (r < 0) this.#fail(r, pathIn(frame.slot, name));
  }

  /** The name at FILL_NAME shows nothing now: it must not show anything afterwards. */
  #hide({ slot, view }: Frame): number {
    const o = this.#o;
    if (view.alone) return 0;
    const upper = o.upper as NonNullable<Overlay['upper']>;
    const dir = get(slot, F.upper);
    if (dir !== 0 && upper.stat(dir, FILL_NAME) >= 0) return 0;
    const provider = providerIn(o, view.after, FILL_NAME);
    if (provider <= 0) return provider;
    const r = ensureUpperDir(o, slot);
    if (r < 0) return r;
    const fd = upper.fd(get(slot, F.upper));
    const made = keepingTimes(fd, () => mknodAt(fd, FILL_NAME, S.IFCHR, 0));
    if (made < 0) return made;
    setFlag(slot, FLAG.WHITEOUTS);
    noteUpperName(o, slot, FILL_NAME);
    return 0;
  }

  /** @param length of the name at FILL_NAME. */
  #directory(frame: Frame, slot: number, length: number): number {
    const o = this.#o;
    const lower = this.#lower;
    const parent = frame.view.alone ? [] : frame.view.after;
    const view = viewOfChild(o, lower, parent, slot, FILL_NAME, length);
    if (typeof view === 'number') return view;
    const [top] = view.before;
    if (get(slot, F.upper) === 0 && top !== undefined) {
      if (isUntouched(view, lower)) {
        releaseView(o, view);
        freeUnused(o, slot);
        return 0;
      }
      const stays = layerOf(top) !== lower && isSameProvider(view.after[0] ?? 0, top);
      if (!stays) {
        const r = ensureUpperDir(o, slot);
        if (r < 0) {
          releaseView(o, view);
          return r;
        }
        count(Counter.fillObjects);
      }
    }
    this.#enter(slot, frame, view);
    return 0;
  }

  #file(frame: Frame, record: number): number {
    const o = this.#o;
    const target = resolve(record);
    const wanted = this.#isWanted(frame, record, target);
    if (typeof wanted === 'number') return wanted;
    const r = wanted ? this.#bring(frame, target, record) : 0;
    freeUnused(o, target);
    return r;
  }

  /** Whether the name at FILL_NAME, or its data, would be missing, or another's. Or -errno. */
  #isWanted({ slot, view }: Frame, record: number, target: number): boolean | number {
    const o = this.#o;
    if (nameIsUpper(record)) return this.#leans(view, target);
    const provider = providerIn(o, lowersOf(slot), FILL_NAME);
    if (provider < 0) return provider;
    const layer = provider === 0 ? this.#lower : layerOf(provider);
    if (layer === this.#lower) return true;
    if (layer < this.#lower) return this.#leans(view, target);
    const after = view.alone ? 0 : providerIn(o, view.after, FILL_NAME);
    return after < 0 ? after : !isSameProvider(after, provider);
  }

  /** Whether the data of a metacopy file may be found in another place without the layer: rather once too often. */
  #leans({ before, lost, laidBare }: View, target: number): boolean {
    const o = this.#o;
    const data = get(target, F.lower);
    if (!hasFlag(target, FLAG.METACOPY) || data === 0) return false;
    if (layerOf(data) <= this.#lower) return layerOf(data) === this.#lower;
    if (lost.length > 0 || laidBare.length > 0) return true;
    const own = before.find((dir) => layerOf(dir) === this.#lower);
    if (own !== undefined && o.layer(this.#lower).stat(own, FILL_NAME) !== -E.NOENT) return true;
    const place = locate(o, target);
    const n =
      place.fd >= 0
        ? getxattrAt(place.fd, emptyPath(), o.marks.redirect, XATTR_VALUE, 4096)
        : (place.layer?.getxattr(place.dir, place.name, o.marks.redirect, XATTR_VALUE, 4096) ?? 0);
    return n > 0;
  }

  /** Has a file copied up with its data, and the name `record` of it. @returns 0 or -errno. */
  #bring(frame: Frame | undefined, target: number, record: number): number {
    const o = this.#o;
    const pending = o.copies.get(target);
    if (pending === undefined) {
      const before = hasFlag(target, FLAG.UPPER) && !hasFlag(target, FLAG.METACOPY);
      o.unasked = true;
      const r = ensureUpper(o, target, 'data');
      o.unasked = false;
      if (r >= 0) {
        if (!before) this.#counted(target);
        return this.#name(target, record);
      }
      if (r !== PARKED) return r;
      if (!o.copies.has(target)) return this.#copiedHere(target, record);
    }
    this.#await(frame, target, record);
    return 0;
  }

  /** No thread could be had: the copy is made, or has failed. */
  #copiedHere(target: number, record: number): number {
    if (!hasFlag(target, FLAG.UPPER) || hasFlag(target, FLAG.METACOPY)) return -E.IO;
    this.#counted(target);
    return this.#name(target, record);
  }

  /** The copy is going on, for whomever; then it is looked at again. */
  #await(frame: Frame | undefined, target: number, record: number): void {
    const copy = this.#o.copies.get(target);
    if (copy === undefined) return;
    const [node, name] = [known(target), known(record)];
    this.#hold(target);
    this.#copying++;
    if (frame !== undefined) frame.open++;
    const others = copy.after;
    copy.after = (result) => {
      others?.(result);
      this.#copying--;
      if (!this.#over) {
        const path = pathOf(target) ?? '';
        if (result < 0 && isStill(node)) this.#fail(result, path);
        else if (isStill(node) && isStill(name)) {
          this.#counted(target);
          const r = this.#bring(frame, target, record);
          if (r < 0) this.#fail(r, path);
        }
      }
      this.#letGo(target);
      if (frame !== undefined) this.#close(frame);
      this.#wake();
    };
  }

  /** The object is in the upper: so must be this very name. */
  #name(target: number, record: number): number {
    const o = this.#o;
    if (hasFlag(target, FLAG.ORPHAN)) return 0;
    if (hasFlag(target, FLAG.HASHED_INO) && !this.#linked.includes(target)) {
      // Without an index only the node knows which names are the same file.
      this.#linked.push(target);
      this.#hold(target);
    }
    return nameIsUpper(record) ? 0 : ensureNameUpper(o, record);
  }

  #counted(slot: number): void {
    count(Counter.fillObjects);
    if (typeOfNode(slot) !== DT.REG || statNode(this.#o, slot) < 0) return;
    add(Counter.fillBytes, getU64(statBuffer() + Statx.size));
  }

  // What stays, and the end

  #hold(slot: number): void {
    this.#held.set(slot, (this.#held.get(slot) ?? 0) + 1);
  }

  #letGo(slot: number): void {
    const left = (this.#held.get(slot) ?? 0) - 1;
    if (left > 0) {
      this.#held.set(slot, left);
      return;
    }
    this.#held.delete(slot);
    if (slot !== ROOT) freeUnused(this.#o, slot);
  }

  /** Nothing of what was done is taken back: it is as good as what lies below. */
  #fail(error: number, path: string): void {
    if (this.#over) return;
    this.#over = true;
    console.error(`varve: detach: /${path}: ${errnoName(error)}: given up`);
    for (let frame = this.#stack.pop(); frame !== undefined; frame = this.#stack.pop()) {
      this.#close(frame);
    }
    for (const slot of this.#linked.splice(0)) this.#letGo(slot);
    set(Counter.fillError, -error);
    set(Counter.fillState, FILL.FAILED);
  }
}

/** What hid names of layers that count no more. Kernel overlayfs lists it, where nothing is merged. @returns 0 or -errno. */
function dropWhiteouts(o: Overlay, upper: Layer, dir: number, fd: number): number {
  const names: string[] = [];
  const types: readonly number[] = isHiding(dir)
    ? [DT.CHR, DT.UNKNOWN, DT.REG]
    : [DT.CHR, DT.UNKNOWN];
  const r = upper.list(dir, (name, length, _lo, _hi, type) => {
    if (types.includes(type)) names.push(getBytes(name, length));
  });
  for (const name of names) {
    putBytes(FILL_NAME, name);
    const mode = upper.stat(dir, FILL_NAME);
    if (mode < 0) continue;
    if (!isWhiteout(mode) && !isXattrWhiteout(o, upper, dir, FILL_NAME, mode)) continue;
    unlinkAt(fd, FILL_NAME);
  }
  return r;
}

function pathIn(slot: number, name: string): string {
  const folder = slot === ROOT ? '' : pathOf(slot);
  return folder ? `${folder}/${name}` : name;
}
