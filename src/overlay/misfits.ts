// What of an upper no longer fits the layers below it, because they were changed while nothing was mounted.
// Called by stack/check-upper.ts over an overlay that nobody has mounted; reads the upper, and of the lowers only what it names.
// What a mount then shows follows Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems".

import { type Layer, layerOf } from '../layer/layer.js';
import { DT, S } from '../linux/constants.js';
import { readEntries } from '../linux/dirents.js';
import { E, errnoName } from '../linux/errno.js';
import { emptyPath, Statx, statAt, statBuffer } from '../linux/files.js';
import { getBytes, putBytes, u8, u32 } from '../linux/memory.js';
import { ABSENT } from '../vfs/filesystem.js';
import { LISTING, LISTING_SIZE } from '../vfs/layout.js';
import { F, FLAG, get, hasFlag, put, ROOT } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { setIndex } from './dir-index-cache.js';
import { freeUnused } from './forget.js';
import { lookupChild } from './lookup.js';
import { MARK } from './marks.js';
import { shown } from './numbers.js';
import { isWhiteout, numberFromStat } from './objects.js';
import { encodeOrigin, ORIGIN_HEADER } from './origin.js';
import { readOwnNumber } from './own-number.js';
import { isDir, locateLower } from './places.js';
import { stackAt, stackLength } from './stacks.js';
import { HANDLE, INDEX_NAME, LISTED_NAME, ORIGIN, RECORD, XATTR_VALUE } from './work.js';

export interface Misfit {
  /** Which mark does not fit, or what stands over nothing. */
  readonly kind: 'origin' | 'redirect' | 'metacopy' | 'index' | 'opaque' | 'whiteout';
  /** Path inside the mount, bytes as Latin-1; of an index entry its name in the work directory. */
  readonly path: string;
  /** What is wrong, and what the mount shows for it. */
  readonly message: string;
  /** Nothing is hidden or lost by it. */
  readonly harmless: boolean;
}

export interface Looked {
  /** Objects of the upper, whiteouts included. */
  readonly objects: number;
  /** Origins that this process, or this filesystem, gives no means to look for. */
  readonly unverified: number;
}

/** A directory of the upper whose entries are being looked at. */
interface Frame {
  readonly slot: number;
  /** With a slash at its end, but for the root, which is ''. */
  readonly path: string;
  readonly names: readonly string[];
  next: number;
}

class Examination {
  objects = 0;
  unverified = 0;
  found: Misfit[] = [];
  private readonly o: Overlay;
  private readonly upper: Layer;

  constructor(o: Overlay, upper: Layer) {
    this.o = o;
    this.upper = upper;
  }

  say(kind: Misfit['kind'], path: string, message: string, harmless = false): void {
    this.found.push({ kind, path, message, harmless });
  }

  /** Opens a directory node for looking at what it holds; it stays until close(). */
  open(slot: number, path: string): Frame {
    if (slot !== ROOT) put(slot, F.nlookup, 1);
    // The names of the lowers are not wanted: what is looked for is asked for.
    setIndex(this.o, slot, undefined);
    const names: string[] = [];
    const r = this.upper.list(get(slot, F.upper), (name, length) => {
      names.push(getBytes(name, length));
    });
    if (r < 0) this.say('origin', path || '/', `cannot be listed (${errnoName(r)})`);
    names.sort();
    return { slot, path, names, next: 0 };
  }

  close({ slot }: Frame): void {
    if (slot === ROOT) return;
    put(slot, F.nlookup, 0);
    freeUnused(this.o, slot);
  }

  /** Looks at one name of the upper. @returns its node when it is a directory. */
  look(frame: Frame, name: string): number | undefined {
    const { o } = this;
    const path = frame.path + name;
    if (o.config.aufsWhiteouts && name.startsWith('.wh.')) {
      const hidden = name.slice(4);
      if (name !== '.wh..wh..opq' && !this.isBelow(frame.slot, hidden)) this.whiteout(path);
      return undefined;
    }
    this.objects++;
    const length = putBytes(LISTED_NAME, name);
    const mode = this.upper.stat(get(frame.slot, F.upper), LISTED_NAME);
    if (mode < 0) return undefined;
    const slot = isWhiteout(mode)
      ? ABSENT
      : lookupChild(o, frame.slot, LISTED_NAME, length, RECORD);
    if (slot === ABSENT) {
      if (!this.isBelow(frame.slot, name)) this.whiteout(path);
      return undefined;
    }
    if (slot < 0) {
      this.refused(frame, name, path, slot);
      return undefined;
    }
    if (isDir(slot)) {
      this.directory(frame, slot, name, path);
      return slot;
    }
    this.file(frame, slot, name, path);
    freeUnused(o, slot);
    return undefined;
  }

  private whiteout(path: string): void {
    this.say('whiteout', path, 'a whiteout with nothing below that it could hide', true);
  }

  /** Whether a lower of the directory has something of this name. */
  private isBelow(parent: number, name: string): boolean {
    const count = stackLength(parent);
    for (let i = 0; i < count; i++) {
      const dir = stackAt(parent, i);
      putBytes(LISTED_NAME, name);
      const mode = this.layer(dir).stat(dir, LISTED_NAME);
      if (mode >= 0 && !isWhiteout(mode)) return true;
    }
    return false;
  }

  private layer(dir: number): Layer {
    return this.o.layer(layerOf(dir));
  }

  /** The lookup itself failed: so will every use of the path. */
  private refused(frame: Frame, name: string, path: string, error: number): void {
    const { o, upper } = this;
    putBytes(LISTED_NAME, name);
    const marks = Math.max(0, o.marks.read(upper, get(frame.slot, F.upper), LISTED_NAME));
    const what = errnoName(error);
    if (marks & MARK.METACOPY) {
      const why =
        error === -E.PERM
          ? 'metadata only, in a stack without metacopy=on'
          : 'a redirect to nowhere';
      this.say('metacopy', path, `${why}: cannot be used (${what})`);
    } else if (marks & MARK.REDIRECT) {
      const why =
        error === -E.PERM ? 'redirects are not followed here' : 'a redirect that no path is';
      this.say('redirect', path, `${why}: cannot be used (${what})`);
    } else {
      this.say('origin', path, `cannot be looked up (${what})`);
    }
  }

  private directory(frame: Frame, slot: number, name: string, path: string): void {
    const { o, upper } = this;
    const dir = get(slot, F.upper);
    const below = stackLength(slot);
    if (hasFlag(slot, FLAG.OPAQUE)) {
      if (!this.isBelow(frame.slot, name)) {
        this.say('opaque', path, 'an opaque directory with nothing below that it could hide', true);
      }
      return;
    }
    if (hasFlag(slot, FLAG.REDIRECT) && below === 0) {
      const n = upper.getxattr(dir, emptyPath(), o.marks.redirect, XATTR_VALUE, 4096);
      const target = n > 0 ? getBytes(XATTR_VALUE, n) : '?';
      const what = `renamed from ${target}, where no lower has a directory now`;
      this.say('redirect', path, `${what}: shows only what the upper has`);
      return;
    }
    const origin = this.originOf(dir, emptyPath());
    if (origin === undefined) return;
    if (below === 0) {
      const what = 'copied from a lower directory that is not there now';
      this.say('origin', path, `${what}: shows only what the upper has`);
      return;
    }
    let told = false;
    for (let i = 0; i < below; i++) {
      const lower = stackAt(slot, i);
      const same = this.isSame(origin, lower, emptyPath());
      if (same === true) return;
      if (same === false) told = true;
    }
    if (!told) {
      this.unverified++;
      return;
    }
    this.say('origin', path, 'merged with another directory than it was copied from');
  }

  private file(frame: Frame, slot: number, name: string, path: string): void {
    const dir = get(frame.slot, F.upper);
    putBytes(LISTED_NAME, name);
    const origin = this.originOf(dir, LISTED_NAME);
    if (hasFlag(slot, FLAG.METACOPY)) {
      if (get(slot, F.lower) === 0) {
        const what = 'metadata only, and the file that has its data is gone, or is another one now';
        this.say('metacopy', path, `${what}: opening it fails with EIO`);
        return;
      }
      const p = locateLower(this.o, slot);
      if (origin === undefined || this.isSame(origin, p.dir, p.name) === true) return;
    }
    if (origin === undefined) return;
    const count = stackLength(frame.slot);
    for (let i = 0; i < count; i++) {
      putBytes(LISTED_NAME, name);
      if (this.isSame(origin, stackAt(frame.slot, i), LISTED_NAME) === true) return;
    }
    // Not at its place: it was renamed on the mount, or the lower is not what it was.
    const there = this.isThere(origin);
    if (there === undefined) {
      this.unverified++;
    } else if (!there) {
      const covers = this.isBelow(frame.slot, name);
      const now = covers
        ? 'another one has its place, which this copy hides'
        : 'only the copy is left';
      this.say('origin', path, `copied from a lower file that is not there now: ${now}`);
    }
  }

  /** The marks of a copied-up object; undefined: it has none. */
  private originOf(dir: number, name: number): Origin | undefined {
    const { o, upper } = this;
    const n = upper.getxattr(dir, name, o.marks.origin, ORIGIN, 256);
    if (n < 0) return undefined;
    const handle = u8.slice(ORIGIN, ORIGIN + n);
    const own = readOwnNumber(o, upper, dir, name) ? { lo: shown.lo, hi: shown.hi } : undefined;
    return { handle, own };
  }

  /** Whether an object of a lower is the one that was copied; undefined: nobody can tell. */
  private isSame(origin: Origin, dir: number, name: number): boolean | undefined {
    const layer = this.layer(dir);
    if (origin.handle.length > ORIGIN_HEADER) {
      const length = encodeOrigin(layer, dir, name);
      if (length < 0) return length === -E.OPNOTSUPP ? undefined : false;
      return Buffer.compare(u8.subarray(ORIGIN, ORIGIN + length), origin.handle) === 0;
    }
    if (origin.own === undefined) return undefined;
    if (layer.stat(dir, name) < 0) return false;
    numberFromStat(layer);
    return shown.lo === origin.own.lo && shown.hi === origin.own.hi;
  }

  /** Whether a lower's filesystem still has the object, wherever; undefined: nobody can tell. */
  isThere({ handle }: Pick<Origin, 'handle'>): boolean | undefined {
    if (handle.length <= ORIGIN_HEADER) return undefined;
    const uuid = handle.subarray(ORIGIN_HEADER - 16, ORIGIN_HEADER);
    const layers = [...this.o.config.lowers, ...this.o.config.dataLayers];
    const candidates = layers.filter((layer) => Buffer.compare(layer.uuid, uuid) === 0);
    let unknown = false;
    for (const layer of candidates) {
      const size = handle.length - ORIGIN_HEADER;
      u32[HANDLE >>> 2] = size;
      u32[(HANDLE >>> 2) + 1] = handle[4] as number;
      u8.set(handle.subarray(ORIGIN_HEADER), HANDLE + 8);
      const r = layer.hasHandle(HANDLE);
      if (r === 1) return true;
      if (r < 0) unknown = true;
    }
    return unknown ? undefined : false;
  }
}

/** What a copied-up object was copied from: struct ovl_fb, empty where the filesystem has no handles; its own number. */
interface Origin {
  readonly handle: Uint8Array;
  readonly own: { readonly lo: number; readonly hi: number } | undefined;
}

/**
 * Looks at every object of the upper, and at the index.
 * @param o an overlay with an upper and its root node. @param indexFd of `workdir/index`, or -1.
 */
export function* findMisfits(o: Overlay, indexFd: number): Generator<Misfit, Looked> {
  const examination = new Examination(o, o.upper as Layer);
  const stack = [examination.open(ROOT, '')];
  for (;;) {
    const frame = stack.at(-1);
    if (frame === undefined) break;
    const name = frame.names[frame.next++];
    if (name === undefined) {
      examination.close(frame);
      stack.pop();
      continue;
    }
    const directory = examination.look(frame, name);
    if (directory !== undefined) {
      stack.push(examination.open(directory, `${frame.path}${name}/`));
    }
    yield* examination.found.splice(0);
  }
  if (indexFd >= 0) examineIndex(examination, indexFd);
  yield* examination.found.splice(0);
  return { objects: examination.objects, unverified: examination.unverified };
}

/** Entries of the index: each is a further name of an upper object, called by the handle of the lower one. */
function examineIndex(examination: Examination, indexFd: number): void {
  const names: string[] = [];
  const r = readEntries(indexFd, LISTING, LISTING_SIZE, (name, length, _lo, _hi, type) => {
    if (type === DT.REG || type === DT.LNK || type === DT.UNKNOWN)
      names.push(getBytes(name, length));
  });
  if (r < 0) examination.say('index', 'index', `cannot be listed (${errnoName(r)})`);
  for (const name of names.sort()) {
    if (!/^(?:[0-9a-f]{2}){22,}$/.test(name)) {
      examination.say('index', name, 'no index entry has such a name', true);
      continue;
    }
    putBytes(INDEX_NAME, name);
    const mode = statAt(indexFd, INDEX_NAME);
    if (mode < 0 || (mode & S.IFMT) === S.IFCHR) continue;
    const alone = u32[(statBuffer() + Statx.nlink) >>> 2] === 1;
    const there = examination.isThere({ handle: Buffer.from(name, 'hex') });
    if (there === undefined) examination.unverified++;
    if (there !== false) continue;
    const what = 'index entry of a lower file that is not there now';
    examination.say(
      'index',
      name,
      alone
        ? `${what}, and no name of the upper is left: it only takes space`
        : `${what}: its names in the upper stay`,
      alone,
    );
  }
}
