// What a prefix and what lies below it have both changed: a list in the prefix that stays until somebody has decided.
// Made by move.ts and materialise.ts, worked off by resolve.ts. In every conflict the prefix's side is in place meanwhile.
// P/.varve/conflicts.json is the list; P/.varve/conflicts/N has both other versions of files, and theirs of the registry.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clash } from '../../ops/rebase/three-way.js';
import { MountError } from '../../stack/errors.js';
import { pathsOf } from '../prefix/places.js';
import { validPlace } from '../prefix/publishing.js';
import { readIfThere } from '../prefix/registry-source.js';
import type { RegistryDelta } from '../registry/delta.js';
import { fold, type HiveName, parentOf } from '../registry/hive.js';
import { isNoise } from '../registry/noise.js';
import type { RegistryConflict } from '../registry/three-way.js';
import type { FileClash } from './rebase-files.js';

export const LIST_FILE = 'conflicts.json';
export const COPIES = 'conflicts';

interface Common {
  /** By which a person names it; never given twice while the list has anything in it. */
  readonly id: number;
  /** The layer whose side is in place; absent: the prefix's own. */
  readonly layer?: string;
  /** The bases that the prefix stood on before and afterwards, `NAME@N`; absent: another layer was changed. */
  readonly from?: string;
  readonly to?: string;
  /** Folder of COPIES that has the other sides. */
  readonly copies: string;
  /** Decided, ours: kept so that the same is not asked again. */
  readonly settled?: true;
}

export interface FileConflict extends Common {
  readonly kind: 'file';
  /** In drive_c, latin1. */
  readonly path: string;
  /** Where the layers below have it, when it was renamed here. */
  readonly source?: string;
  readonly clashes: readonly Clash[];
}

export interface KeyConflict extends Common {
  readonly kind: 'registry';
  readonly hive: HiveName;
  readonly path: string;
  /** Name of the value; absent: the key itself. */
  readonly value?: string;
  readonly what: RegistryConflict['kind'];
  /** Data as a registry file has it; absent: there is none. */
  readonly old?: string;
  readonly ours?: string;
  readonly theirs?: string;
}

export type Conflict = FileConflict | KeyConflict;

/** As they are found, before they have a place in the list. */
export interface Found {
  readonly from?: string;
  readonly to?: string;
  readonly files: readonly (FileClash & { readonly layer?: string })[];
  readonly keys: readonly (RegistryConflict & { readonly layer?: string })[];
}

interface List {
  readonly version: 1;
  readonly conflicts: readonly Conflict[];
}

/** All that a prefix has, settled ones included. @throws MountError of kind `layer`. */
export function readConflicts(folder: string): Conflict[] {
  const path = join(pathsOf(folder).state, LIST_FILE);
  const bytes = readIfThere(validPlace(folder, LIST_FILE)) ?? readIfThere(path);
  if (bytes === undefined) return [];
  try {
    const list = JSON.parse(bytes.toString()) as List;
    if (list.version === 1 && Array.isArray(list.conflicts)) return [...list.conflicts];
  } catch {
    // Said below.
  }
  throw new MountError(
    'layer',
    `${path}: is damaged: remove it, and with it the list of conflicts`,
  );
}

/** Those that nobody has decided yet. @throws MountError of kind `layer`. */
export const openConflicts = (folder: string): Conflict[] => readConflicts(folder).filter(isOpen);

export const isOpen = ({ settled }: Conflict): boolean => settled === undefined;

export function listText(conflicts: readonly Conflict[]): string {
  const list: List = { version: 1, conflicts };
  return `${JSON.stringify(list, undefined, 1)}\n`;
}

/** What it is about: two with the same are one conflict at two times. */
export function subjectOf(conflict: Conflict): string {
  const { layer = '' } = conflict;
  if (conflict.kind === 'file') return `file\0${layer}\0${conflict.path}`;
  const { hive, path, value } = conflict;
  const name = value === undefined ? '' : `=${fold(value)}`;
  return `registry\0${layer}\0${hive}\0${fold(path)}\0${name}`;
}

export interface Merged {
  /** The whole list. */
  readonly conflicts: Conflict[];
  /** What of it is new and not decided. */
  readonly added: Conflict[];
}

/**
 * Puts what was found into the list. What was decided for the same two bases is not asked again, and a way back to where the
 * prefix came from undoes its conflicts.
 * @param isOver whether an older one is no conflict any more.
 * @param copies folder that the sides of new conflicts of files will be in.
 */
export function mergeConflicts(
  known: readonly Conflict[],
  found: Found,
  copies: string,
  isOver: (conflict: Conflict) => boolean,
): Merged {
  const { from, to } = found;
  /** Of the step that is undone now. */
  const undone = known.filter((one) => from !== undefined && one.from === to && one.to === from);
  const bySubject = new Map<string, Conflict>();
  for (const conflict of known) {
    const ends = isOver(conflict) || (isOpen(conflict) && undone.includes(conflict));
    if (!ends) bySubject.set(subjectOf(conflict), conflict);
  }
  let next = 1 + Math.max(0, ...known.filter(isOpen).map(({ id }) => id));
  const added: Conflict[] = [];
  for (const item of itemsOf(found, copies)) {
    const one: Conflict = { ...item, id: 0 };
    if (undone.some((before) => isSameMatter(before, one))) continue;
    const subject = subjectOf(one);
    const before = bySubject.get(subject);
    const again = before?.from === from && before?.to === to && from !== undefined;
    if (before?.settled && again) continue;
    const conflict = { ...one, id: before === undefined || before.settled ? next++ : before.id };
    bySubject.set(subject, conflict);
    added.push(conflict);
  }
  return { conflicts: [...bySubject.values()], added };
}

/** Whether a conflict of the registry has ended: the prefix itself says nothing there. */
export function isOverInDelta(conflict: Conflict, delta: RegistryDelta): boolean {
  if (conflict.layer !== undefined || conflict.kind === 'file') return false;
  const { hive, path } = conflict;
  for (let at: string | undefined = fold(path); at !== undefined; at = parentOf(at)) {
    const entry = delta[hive].get(at);
    if (entry !== undefined && (at === fold(path) || entry.deleted)) return false;
  }
  return true;
}

/** Name of a folder for the sides of conflicts that is not there yet. */
export function freeCopies(folder: string): string {
  const { state } = pathsOf(folder);
  for (let n = 1; ; n++) if (!existsSync(join(state, COPIES, String(n)))) return String(n);
}

/** Whether two are about the same; a conflict of a whole key is about all its values. */
function isSameMatter(one: Conflict, other: Conflict): boolean {
  if (
    one.kind === 'file' ||
    other.kind === 'file' ||
    (one.value !== undefined && other.value !== undefined)
  ) {
    return subjectOf(one) === subjectOf(other);
  }
  const [a, b] = [one, other].map((key) => subjectOf({ ...key, value: undefined }));
  return a === b && (one.value === undefined || other.value === undefined);
}

/** What every session writes anew has nobody changed. */
const isWorthTelling = ({ hive, path, value }: RegistryConflict): boolean =>
  isNoise(hive, path, value) === undefined;

type Item = Omit<FileConflict, 'id'> | Omit<KeyConflict, 'id'>;

function itemsOf({ files, keys, from, to }: Found, copies: string): Item[] {
  const bases = { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
  const common = { ...bases, copies };
  return [
    ...files.map((clash): Item => ({ kind: 'file', ...clash, ...common })),
    ...keys
      .filter(isWorthTelling)
      .map(({ kind, ...rest }): Item => ({ kind: 'registry', what: kind, ...rest, ...common })),
  ];
}
