// What of an upper must not become part of a frozen layer as it is: files that are open for writing, and objects of the
// index some of whose names lie in lowers only. They stay in the upper; the layer gets copies.
// Made by freeze.ts while nobody serves. The index: fs/overlayfs/super.c; overlay.nlink: fs/overlayfs/inode.c.

import { DT, O } from '../linux/constants.js';
import { close, hasWriter } from '../linux/files.js';
import {
  type Facts,
  getXattr,
  isDirectory,
  isWhiteout,
  listNames,
  look,
  openPath,
} from '../linux/named.js';

/** A file of the upper, by a path that may be right. */
export interface Wanted {
  readonly paths: readonly string[];
  /** st_ino as the mount shows it, in two halves. */
  readonly ino: readonly [number, number];
  /** Only if somebody has it mapped for writing. */
  readonly perhaps?: true;
}

/** An object that stays in the upper. */
export interface Staying {
  readonly facts: Facts;
  /** Its names in the upper, latin1 paths without a leading slash; all of them. */
  readonly paths: string[];
  /** st_ino as the mount shows it; undefined: nobody has looked it up. */
  readonly ino: readonly [number, number] | undefined;
  /** Its index entry stays, too. */
  readonly indexed: boolean;
  /** It has names in lowers only: the layer's copy will not be the file that these lead to. */
  readonly parted: boolean;
}

export interface FreezePlan {
  readonly staying: readonly Staying[];
  /** Names in the index that mean objects which go: they are not to be found by it any more. */
  readonly settled: readonly string[];
}

/** An index entry, from its mark. */
interface Indexed {
  readonly name: string;
  readonly facts: Facts;
  /** Every name that the union has lies in the upper. */
  readonly covered: boolean;
}

/** @param prefix `trusted.overlay.` or `user.overlay.`. @param index a descriptor, or -1. @throws SysError. */
export function planFreeze(
  upper: number,
  index: number,
  prefix: string,
  open: readonly Wanted[],
): FreezePlan {
  const entries = index < 0 ? [] : readIndex(index, prefix);
  const indexed = new Map(entries.map((entry) => [entry.facts.ino, entry]));
  const staying = new Map<bigint, Staying>();
  for (const { paths, ino, perhaps } of open) {
    if (perhaps && !paths.some((path) => isMapped(upper, path))) continue;
    for (const path of paths) addName(staying, indexed, upper, path, ino);
  }
  for (const { facts, covered } of entries) {
    if (covered || staying.has(facts.ino)) continue;
    staying.set(facts.ino, { facts, paths: [], ino: undefined, indexed: true, parted: true });
  }
  findNames(upper, staying);
  const settled = entries.filter((entry) => entry.covered && !staying.has(entry.facts.ino));
  return { staying: [...staying.values()], settled: settled.map(({ name }) => name) };
}

function addName(
  staying: Map<bigint, Staying>,
  indexed: ReadonlyMap<bigint, Indexed>,
  upper: number,
  path: string,
  ino: readonly [number, number],
): void {
  const facts = lookAt(upper, path);
  if (facts === undefined || isDirectory(facts) || isWhiteout(facts)) return;
  const known = staying.get(facts.ino);
  if (known === undefined) {
    const entry = indexed.get(facts.ino);
    const parted = entry !== undefined && !entry.covered;
    staying.set(facts.ino, { facts, paths: [path], ino, indexed: entry !== undefined, parted });
  } else if (!known.paths.includes(path)) {
    known.paths.push(path);
  }
}

function isMapped(upper: number, path: string): boolean {
  const fd = openPath(upper, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd === undefined) return false;
  const mapped = hasWriter(fd);
  close(fd);
  return mapped;
}

/** What lies at a path of any length below `root`. */
function lookAt(root: number, path: string): Facts | undefined {
  const slash = path.lastIndexOf('/');
  if (slash < 0) return look(root, path);
  const dir = openPath(root, path.slice(0, slash), O.PATH | O.DIRECTORY);
  if (dir === undefined) return undefined;
  try {
    return look(dir, path.slice(slash + 1));
  } finally {
    close(dir);
  }
}

function readIndex(index: number, prefix: string): Indexed[] {
  const found: Indexed[] = [];
  for (const { name } of listNames(index)) {
    const facts = look(index, name);
    if (facts === undefined || isDirectory(facts) || isWhiteout(facts)) continue;
    const mark = getXattr(index, name, `${prefix}nlink`);
    found.push({ name, facts, covered: isCovered(mark, facts) });
  }
  return found;
}

/** `U-1`: the union has as many names as the inode, but for the one in the index. */
function isCovered(mark: Uint8Array | undefined, facts: Facts): boolean {
  if (mark === undefined) return false;
  const text = Buffer.from(mark).toString('latin1');
  return facts.nlink > 1 && text === 'U-1';
}

/** How many names of it lie in the upper. */
const namesOf = ({ facts, indexed }: Staying): number => facts.nlink - (indexed ? 1 : 0);

/** Objects with names that nobody has looked up: the upper is walked for them, which is rare. */
function findNames(upper: number, staying: ReadonlyMap<bigint, Staying>): void {
  const lacking = new Set<bigint>();
  for (const [ino, one] of staying) if (one.paths.length < namesOf(one)) lacking.add(ino);
  if (lacking.size === 0) return;
  walkNames(upper, (ino, path) => {
    if (lacking.has(ino)) noteName(staying.get(ino) as Staying, path, lacking);
    return lacking.size > 0;
  });
}

/** Tells every name that is no directory's; until `each` says false, at the end of a directory. */
function walkNames(upper: number, each: (ino: bigint, path: string) => boolean): void {
  const directories = [''];
  for (const path of directories) {
    const dir = openPath(upper, path, O.PATH | O.DIRECTORY);
    if (dir === undefined) continue;
    let goOn = true;
    for (const { name, ino, type } of listNames(dir)) {
      const below = path === '' ? name : `${path}/${name}`;
      if (type === DT.DIR) directories.push(below);
      else goOn = each(ino, below);
    }
    close(dir);
    if (!goOn) return;
  }
}

/**
 * Objects of the index of which a name is concerned: all their names in the upper, and their entries.
 * @param isNamed whether a path is.
 */
export function namesOfIndexed(
  upper: number,
  index: number,
  isNamed: (path: string) => boolean,
): { readonly names: readonly string[]; readonly entries: readonly string[] } {
  const listed = index < 0 ? [] : listNames(index);
  if (listed.length === 0) return { names: [], entries: [] };
  const byIno = new Map(listed.map(({ ino }) => [ino, [] as string[]]));
  walkNames(upper, (ino, path) => {
    byIno.get(ino)?.push(path);
    return true;
  });
  const concerned = listed.filter(({ ino }) => byIno.get(ino)?.some(isNamed));
  return {
    names: concerned.flatMap(({ ino }) => byIno.get(ino) ?? []),
    entries: concerned.map(({ name }) => name),
  };
}

function noteName(one: Staying, path: string, lacking: Set<bigint>): void {
  if (!one.paths.includes(path)) one.paths.push(path);
  if (one.paths.length >= namesOf(one)) lacking.delete(one.facts.ino);
}
