// Freezes an upper: it becomes a layer by one rename, which puts an empty directory in its place at the same time.
// Called while nobody serves the stack: by a server that takes a mount over (change-layers.ts), or for one that is not mounted.
// What has to stay in the upper (freeze-plan.ts) goes over as the inode that it is, the layer gets a copy of it.
// Order: copies, the rename, then moves that are written down beforehand, so that whoever comes next can finish them.

import { AT, O, S } from '../linux/constants.js';
import { copyFile } from '../linux/copy.js';
import { encodeDevice } from '../linux/device.js';
import { check, E, SysError } from '../linux/errno.js';
import {
  chownAt,
  cloneFile,
  close,
  emptyPath,
  mknodAt,
  readlinkAt,
  symlinkAt,
} from '../linux/files.js';
import { getBytes, putBytes, scratch } from '../linux/memory.js';
import {
  dropXattr,
  type Facts,
  getXattr,
  isRegular,
  linkName,
  listNames,
  look,
  makeDirectory,
  openName,
  openOnMount,
  openPath,
  readWhole,
  renameName,
  sameObject,
  setFacts,
  setTimes,
  setXattr,
  unlinkName,
  writeWhole,
  xattrNames,
} from '../linux/named.js';
import { number, shown } from '../overlay/numbers.js';
import { announcement, ownNumberMark } from '../overlay/own-number.js';
import { openAllowing } from '../overlay/reopen.js';
import { type FreezePlan, planFreeze, type Staying, type Wanted } from './freeze-plan.js';

/** What is the same before and after: descriptors, and how the upper is marked. */
export interface WorkPlace {
  /** `work` of the workdir, and its `index`, or -1; in the same mount as the upper. */
  readonly work: number;
  readonly index: number;
  /** `trusted.overlay.` or `user.overlay.`. */
  readonly prefix: string;
  /** Of the upper's inode numbers (overlay/numbers.ts). */
  readonly key: number;
  /** Owners can be given away. */
  readonly privileged: boolean;
}

/** Where it happens: descriptors. */
export interface FreezePlace extends WorkPlace {
  /** The upper, O_PATH; it stays this directory when its name changes. */
  readonly upper: number;
  /** The directories that hold the upper and what takes its place, in one mount, and the two names. */
  readonly upperParent: number;
  readonly upperName: string;
  readonly frozenParent: number;
  readonly frozenName: string;
  /** The same as an absolute path, for who has to find it later. */
  readonly frozenPath: string;
  /** Opens what has the upper's name by now, in the mount of `work`. */
  openNew(): number;
}

/** What becomes of the files that are in use. */
export interface Frozen {
  /** Paths, latin1, of what stays in the upper and was copied. */
  readonly copied: readonly string[];
  /** Those of them that were written to while they were copied, and are too large to be copied again while everybody waits. */
  readonly changing: readonly string[];
  /** Those of them that have further names in lowers: in the layer these are another file, the old one. */
  readonly parted: readonly string[];
}

/** Files that take too long to be copied while everybody waits: they want to be copied before. Nothing was changed. */
export class TooMuch extends Error {
  readonly wanted: readonly Wanting[];
  constructor(wanted: readonly Wanting[]) {
    super(`${wanted.length} files in use are too large`);
    this.wanted = wanted;
  }
}

/** A file that is to be copied to its place in `work` beforehand. */
export interface Wanting {
  readonly path: string;
  /** Its place: a name in `work`. */
  readonly copy: string;
}

/** The list of moves, in `work`: written before the rename, gone when all is done. */
const LIST = '#freeze-list';

/** The name of an object's copy in `work`; and of the object itself while it has no other that lasts. */
export const copyName = (ino: bigint): string => `#copy-${ino}`;
const keepName = (ino: bigint): string => `#keep-${ino}`;

/** Whether the rename is still to be made; elsewhere: somebody else has renamed the upper. */
export function whereUpperIs(place: FreezePlace): 'before' | 'after' | 'elsewhere' {
  const upper = look(place.upper, '');
  if (sameObject(nameIn(place.upperParent, place.upperName), upper)) return 'before';
  return sameObject(nameIn(place.frozenParent, place.frozenName), upper) ? 'after' : 'elsewhere';
}

/** What a name that is no mount point leads to. */
function nameIn(dir: number, name: string): Facts | undefined {
  const fd = openOnMount(dir, name, O.PATH | O.DIRECTORY | O.NOFOLLOW);
  if (fd < 0) return undefined;
  const facts = look(fd, '');
  close(fd);
  return facts;
}

/**
 * Freezes the upper, whole.
 * @param open files that are in use. @param budget bytes that may be copied now, where blocks cannot be shared.
 * @throws TooMuch, SysError; then everything is as it was.
 */
export function freeze(place: FreezePlace, open: readonly Wanted[], budget: number): Frozen {
  const plan = planFreeze(place.upper, place.index, place.prefix, open);
  const changing = copyStaying(place, plan, budget);
  try {
    announce(place, place.upper);
    writeList(place, plan);
    publish(place);
  } catch (error) {
    unlinkName(place.work, LIST);
    throw error;
  }
  finishFreeze(place);
  const parted = plan.staying.filter((one) => one.parted).flatMap(({ paths }) => paths);
  return { copied: plan.staying.flatMap(({ paths }) => paths), changing, parted };
}

/**
 * Takes the whole content away: the same rename, and nothing stays. What was the upper is to be removed.
 * @throws SysError; then everything is as it was.
 */
export function takeAll(place: FreezePlace): void {
  const { index } = place;
  const settled = index < 0 ? [] : listNames(index).map(({ name }) => name);
  writeList(place, { staying: [], settled });
  try {
    publish(place);
  } catch (error) {
    unlinkName(place.work, LIST);
    throw error;
  }
  finishFreeze(place);
}

function publish({ upperParent, upperName, frozenParent, frozenName }: FreezePlace): void {
  check(renameName(upperParent, upperName, frozenParent, frozenName, 2), 'rename', upperName);
}

/** Objects in it have numbers of their own: lookups look for their marks. */
function announce(place: FreezePlace, root: number): void {
  const r = setXattr(root, '', `${place.prefix}varve.ino`, announcement());
  if (r < 0 && r !== -E.OPNOTSUPP) check(r, 'setxattr');
}

// Copies

function copyStaying(place: FreezePlace, plan: FreezePlan, budget: number): string[] {
  const changing: string[] = [];
  const wanted: Wanting[] = [];
  let left = budget;
  for (const one of plan.staying) {
    const [path] = one.paths;
    // Written through a name that lies in a lower, and in no directory of the upper: nothing of it is in the layer.
    if (path === undefined) continue;
    const copied = copyOne(place, one, path, left);
    if (copied === 'large') wanted.push({ path, copy: copyName(one.facts.ino) });
    else if (copied === 'old') changing.push(path);
    else left -= copied;
  }
  if (wanted.length > 0) throw new TooMuch(wanted);
  return changing;
}

/** @returns bytes that were copied; `old`: there is a copy from before the last change; `large`: there is none. */
function copyOne(
  place: FreezePlace,
  { facts, ino }: Staying,
  path: string,
  budget: number,
): number | 'old' | 'large' {
  const { dir, name } = enter(place.upper, path);
  try {
    if (!isRegular(facts)) {
      copySpecial(place, dir, name, facts);
      return 0;
    }
    const copy = copyName(facts.ino);
    const data = copyData(place, dir, name, facts, copy, budget);
    if (data === 'large') return data;
    const fd = check(openName(place.work, copy, O.PATH | O.NOFOLLOW), 'open', copy);
    dress(place, dir, name, look(dir, name) ?? facts, fd, ino);
    close(fd);
    return data;
  } finally {
    close(dir);
  }
}

/** The directory of a path below `root`, and the last name. */
function enter(root: number, path: string): { readonly dir: number; readonly name: string } {
  const slash = path.lastIndexOf('/');
  const parent = slash < 0 ? '' : path.slice(0, slash);
  const dir = openPath(root, parent, O.PATH | O.DIRECTORY);
  if (dir === undefined) throw new SysError('open', E.NOENT, path);
  return { dir, name: path.slice(slash + 1) };
}

function copyData(
  place: FreezePlace,
  dir: number,
  name: string,
  facts: Facts,
  copy: string,
  budget: number,
): number | 'old' | 'large' {
  const prepared = look(place.work, copy);
  if (prepared !== undefined && isFresh(prepared, facts)) return 0;
  const from = openToRead(dir, name);
  try {
    const temp = '#copy';
    unlinkName(place.work, temp);
    const to = check(openName(place.work, temp, O.RDWR | O.CREAT | O.EXCL, 0o600), 'create', temp);
    try {
      const shared = facts.size > 0 && cloneFile(to, from) >= 0;
      if (!shared && facts.stored > budget) {
        unlinkName(place.work, temp);
        return prepared === undefined ? 'large' : 'old';
      }
      if (!shared) check(copyFile(from, to, facts.size), 'copy', name);
    } finally {
      close(to);
    }
    check(renameName(place.work, temp, place.work, copy), 'rename', copy);
    return facts.stored;
  } finally {
    close(from);
  }
}

/** Whether a copy that was made before is still one: whoever made it gave it the time of what it had copied. */
function isFresh(copy: Facts, source: Facts): boolean {
  return copy.size === source.size && copy.mtime === source.mtime;
}

function openToRead(dir: number, name: string): number {
  const fd = openName(dir, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd !== -E.ACCES) return check(fd, 'open', name);
  const path = check(openName(dir, name, O.PATH | O.NOFOLLOW), 'open', name);
  const allowed = openAllowing(path, O.RDONLY | O.NONBLOCK);
  close(path);
  return check(allowed, 'open', name);
}

/** A symlink or a device: known by the index. */
function copySpecial(place: FreezePlace, dir: number, name: string, facts: Facts): void {
  const copy = copyName(facts.ino);
  unlinkName(place.work, copy);
  const at = scratch + 0x1000;
  const to = scratch + 0x4000;
  if ((facts.mode & S.IFMT) === S.IFLNK) {
    putBytes(at, name);
    const n = check(readlinkAt(dir, at, to, 4096), 'readlink', name);
    putBytes(to, getBytes(to, n));
    putBytes(at, copy);
    check(symlinkAt(to, place.work, at), 'symlink', copy);
  } else {
    putBytes(at, copy);
    const device = encodeDevice(facts.rdev[0], facts.rdev[1]);
    check(mknodAt(place.work, at, facts.mode & S.IFMT, device), 'mknod', copy);
  }
}

/** Gives a copy all that its original has but data: owner, attributes, marks, mode, times. */
function dress(
  place: FreezePlace,
  dir: number,
  name: string,
  facts: Facts,
  fd: number,
  ino: readonly [number, number] | undefined,
): void {
  // The owner first: chown(2) takes capabilities away.
  const r = chownAt(fd, emptyPath(), facts.uid, facts.gid);
  if (r < 0 && !(r === -E.PERM && !place.privileged)) check(r, 'chown', name);
  const { prefix } = place;
  const names = xattrNames(dir, name);
  for (const attr of names) {
    if (attr === `${prefix}nlink`) continue;
    const value = getXattr(dir, name, attr);
    if (value !== undefined) mustSet(place, fd, attr, value);
  }
  if (ino !== undefined && !names.includes(`${prefix}varve.ino`)) {
    if (!names.includes(`${prefix}origin`)) mustSet(place, fd, `${prefix}origin`, new Uint8Array());
    mustSet(place, fd, `${prefix}varve.ino`, ownNumberMark(ino[0], ino[1]));
  }
  setFacts(fd, facts, place.privileged);
}

/** As in a copy-up: what this process may not give is left out, what the filesystem does not take, too. */
function mustSet(place: FreezePlace, fd: number, attr: string, value: Uint8Array): void {
  const r = setXattr(fd, '', attr, value);
  const optional = r === -E.OPNOTSUPP || (r === -E.PERM && !place.privileged);
  if (r < 0 && !(optional && !attr.startsWith('security.'))) check(r, 'setxattr', attr);
}

// The list of moves

interface Move {
  readonly ino: string;
  readonly paths: readonly string[];
}

interface Moves {
  /** Where the layer is, and its inode number: before the rename the upper has that. */
  readonly frozen: string;
  readonly ino: string;
  readonly moves: readonly Move[];
  readonly settled: readonly string[];
}

function writeList(place: FreezePlace, { staying, settled }: FreezePlan): void {
  const { work, upper, frozenPath: frozen } = place;
  const moves: Move[] = staying
    .filter(({ paths }) => paths.length > 0)
    .map(({ facts, paths }) => ({ ino: String(facts.ino), paths }));
  const ino = String(look(upper, '')?.ino);
  const text = Buffer.from(JSON.stringify({ frozen, ino, moves, settled } satisfies Moves));
  unlinkName(work, LIST);
  writeWhole(work, LIST, text);
}

/**
 * Finishes what follows the rename: from the list, however far somebody else has come with it.
 * @throws SysError where it cannot be finished.
 */
export function finishFreeze(place: FreezePlace): void {
  const list = readList(place.work);
  const upper = place.openNew();
  try {
    if (list !== undefined) {
      const mirror = new Mirror(
        place,
        upper,
        list.moves.flatMap(({ paths }) => paths),
      );
      for (const move of list.moves) moveOne(place, upper, move, mirror);
      for (const name of list.settled) unindex(place, name);
      mirror.finish();
      unlinkName(place.work, LIST);
    }
    // It names the old upper; the kernel would refuse the new one.
    if (place.index >= 0) dropXattr(place.index, '', `${place.prefix}upper`);
  } finally {
    close(upper);
  }
}

/**
 * Finishes the freeze of a process that nobody came after: called before the work directory is emptied.
 * @param upper a descriptor of what has the upper's name. @throws SysError.
 */
export function finishInterrupted(common: WorkPlace, upper: number): void {
  const list = readList(common.work);
  if (list === undefined) return;
  const frozen = openName(
    AT.FDCWD,
    Buffer.from(list.frozen).toString('latin1'),
    O.PATH | O.DIRECTORY,
  );
  // The rename was never made, or what it made is somewhere else by now, and nothing there is in use.
  if (frozen < 0 || String(look(frozen, '')?.ino) !== list.ino) {
    if (frozen >= 0) close(frozen);
    unlinkName(common.work, LIST);
    return;
  }
  try {
    const [upperParent, frozenParent] = [-1, -1];
    finishFreeze({
      ...common,
      upper: frozen,
      ...{ upperParent, upperName: '', frozenParent, frozenName: '', frozenPath: list.frozen },
      openNew: () => check(openName(upper, '.', O.RDONLY | O.DIRECTORY), 'open', 'upperdir'),
    });
  } finally {
    close(frozen);
  }
}

function readList(work: number): Moves | undefined {
  const bytes = readWhole(work, LIST);
  return bytes === undefined ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as Moves);
}

/** The object goes to the new upper, its copy takes its place in the layer; at each moment it has a name that is its own. */
function moveOne(place: FreezePlace, upper: number, move: Move, mirror: Mirror): void {
  const ino = BigInt(move.ino);
  const keep = keepName(ino);
  const copy = copyName(ino);
  const [first, ...rest] = move.paths as [string, ...string[]];
  const { work } = place;
  if (look(work, keep) === undefined) {
    if (isThere(upper, move.paths)) return;
    const { dir, name } = enter(place.upper, first);
    const r = linkName(dir, name, work, keep);
    close(dir);
    check(r, 'link', first);
  }
  if (look(work, copy) !== undefined) {
    for (const path of rest) replace(place, path, copy, true);
    replace(place, first, copy, false);
  }
  for (const path of move.paths) {
    mirror.make(path);
    const { dir, name } = enter(upper, path);
    const r = linkName(work, keep, dir, name);
    close(dir);
    if (r !== -E.EXIST) check(r, 'link', path);
  }
  unlinkName(work, keep);
}

function isThere(upper: number, paths: readonly string[]): boolean {
  return paths.every((path) => {
    const slash = path.lastIndexOf('/');
    const dir = openPath(upper, slash < 0 ? '' : path.slice(0, slash), O.PATH | O.DIRECTORY);
    if (dir === undefined) return false;
    const found = look(dir, path.slice(slash + 1));
    close(dir);
    return found !== undefined;
  });
}

/** Puts a copy in the place of an object in the layer. @param again it is needed for another name. */
function replace(place: FreezePlace, path: string, copy: string, again: boolean): void {
  const { work } = place;
  const { dir, name } = enter(place.upper, path);
  try {
    let from = copy;
    if (again) {
      from = '#link';
      unlinkName(work, from);
      check(linkName(work, copy, work, from), 'link', path);
    }
    check(renameName(work, from, dir, name), 'rename', path);
    // Two names of one file: nothing happened.
    if (again) unlinkName(work, from);
  } finally {
    close(dir);
  }
}

/** The object has all its names in the layer: the index has nothing to tell of it. */
function unindex({ index, prefix }: FreezePlace, name: string): void {
  dropXattr(index, name, `${prefix}nlink`);
  unlinkName(index, name);
}

/** The directories of the layer in which something stays, made again in the new upper. */
class Mirror {
  readonly #place: FreezePlace;
  readonly #upper: number;
  /** Something stays. */
  readonly #holds: boolean;
  /** What they are in the layer, before anything was moved; parents first. */
  readonly #facts = new Map<string, Facts>();

  constructor(place: FreezePlace, upper: number, paths: readonly string[]) {
    this.#place = place;
    this.#upper = upper;
    this.#holds = paths.length > 0;
    this.#note('');
    for (const path of paths) {
      for (let i = path.indexOf('/'); i >= 0; i = path.indexOf('/', i + 1)) {
        this.#note(path.slice(0, i));
      }
    }
  }

  #note(path: string): void {
    if (this.#facts.has(path)) return;
    const fd = openPath(this.#place.upper, path, O.PATH | O.DIRECTORY);
    if (fd === undefined) throw new SysError('open', E.NOENT, path);
    this.#facts.set(path, look(fd, '') as Facts);
    close(fd);
  }

  /** Makes the directories of a path. */
  make(path: string): void {
    for (let i = path.indexOf('/'); i >= 0; i = path.indexOf('/', i + 1)) {
      const { dir, name } = enter(this.#upper, path.slice(0, i));
      const r = makeDirectory(dir, name, 0o700);
      close(dir);
      if (r !== -E.EXIST) check(r, 'mkdir', path);
    }
  }

  /** Gives them owner, mode, attributes and times: from the bottom, for what is made in one changes its times. */
  finish(): void {
    for (const [path, facts] of [...this.#facts].reverse()) {
      const from = openPath(this.#place.upper, path, O.PATH | O.DIRECTORY);
      const to = openPath(this.#upper, path, O.PATH | O.DIRECTORY);
      if (from !== undefined && to !== undefined) this.#dress(path, facts, from, to);
      for (const fd of [from, to]) if (fd !== undefined) close(fd);
    }
  }

  #dress(path: string, facts: Facts, from: number, to: number): void {
    const place = this.#place;
    const { prefix } = place;
    const r = chownAt(to, emptyPath(), facts.uid, facts.gid);
    if (r < 0 && !(r === -E.PERM && !place.privileged)) check(r, 'chown', path);
    const wanted = path === '' ? ['uuid'] : ['origin', 'varve.ino'];
    const marks = wanted.map((mark) => prefix + mark);
    for (const attr of xattrNames(from, '')) {
      if (isMark(attr, prefix) && !marks.includes(attr)) continue;
      const value = getXattr(from, '', attr);
      if (value !== undefined) mustSet(place, to, attr, value);
    }
    if (this.#holds) mustSet(place, to, `${prefix}impure`, Buffer.from('y'));
    if (path !== '') this.#number(facts, from, to);
    else if (this.#holds) announce(place, to);
    setFacts(to, facts, place.privileged);
    setTimes(from, facts);
  }

  /** A directory that was made in the old upper has its number from there. */
  #number(facts: Facts, from: number, to: number): void {
    const { prefix, key } = this.#place;
    const told = ['origin', 'varve.ino'].some((mark) => {
      const value = getXattr(from, '', prefix + mark);
      return value !== undefined && value.length > 0;
    });
    if (told) return;
    number(key, Number(facts.ino & 0xffff_ffffn), Number(facts.ino >> 32n));
    mustSet(this.#place, to, `${prefix}origin`, new Uint8Array());
    mustSet(this.#place, to, `${prefix}varve.ino`, ownNumberMark(shown.lo, shown.hi));
  }
}

/** The overlay's own, and no user's that was given such a name. */
function isMark(attr: string, prefix: string): boolean {
  return attr.startsWith(prefix) && !attr.startsWith(`${prefix}overlay.`);
}
