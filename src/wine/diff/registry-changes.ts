// What a registry delta changes, key by key, with what each value held before and holds then.
// Made of the delta of a layer and the registry below it; report/ shows it, as JSON, text and a page.
// Follows delta.ts: a deleted key goes with everything below it before anything is set.

import {
  isOwn,
  type KeyChange,
  type KeyData,
  type KeyStatus,
  type ValueChange,
} from '../../report/keys.js';
import type { HiveDelta, KeyDelta, RegistryDelta } from '../registry/delta.js';
import {
  fold,
  type Hive,
  type HiveName,
  hasKey,
  parentOf,
  type Registry,
  type RegistryKey,
  type RegistryValue,
} from '../registry/hive.js';
import { isNoise } from '../registry/noise.js';
import { decodeValue, isSameData, REG_DWORD, REG_LINK, REG_MULTI_SZ } from '../registry/value.js';

/** Names of the roots as regedit has them. */
const ROOTS: Readonly<Record<HiveName, string>> = {
  system: 'HKEY_LOCAL_MACHINE',
  user: 'HKEY_CURRENT_USER',
  userdef: 'HKEY_USERS\\.Default',
};

/** In the order of the tree. @param below undefined: nobody knows what lies below. */
export function registryChanges(below: Registry | undefined, delta: RegistryDelta): KeyChange[] {
  const order: readonly HiveName[] = ['user', 'system', 'userdef'];
  return order.flatMap((name) => hiveChanges(name, below?.[name], delta[name]));
}

/** One key that is touched, as it is and as it becomes. */
interface Touched {
  /** It stands nowhere itself, and is new because of what is new below it. */
  readonly isImplied?: true;
  readonly path: string;
  readonly before: RegistryKey | undefined;
  readonly delta: KeyDelta | undefined;
  /** Nothing of before stays. */
  readonly isReset: boolean;
}

function hiveChanges(name: HiveName, below: Hive | undefined, delta: HiveDelta): KeyChange[] {
  if (delta.size === 0) return [];
  const deleted = new Set<string>();
  for (const [folded, key] of delta) if (key.deleted === true) deleted.add(folded);
  const touched = touchedKeys(below, delta, deleted);
  const after = new Set<string>();
  for (const key of [...touched.values()]) {
    if (!isThereAfter(key)) continue;
    for (const folded of withParents(fold(key.path))) {
      if (after.has(folded)) break;
      after.add(folded);
      if (below === undefined || touched.has(folded)) continue;
      const path = key.path.slice(0, folded.length);
      if (hasKey(below, path)) continue;
      const nothing = { before: undefined, delta: undefined, isReset: false };
      touched.set(folded, { path, ...nothing, isImplied: true });
    }
  }
  const changes: MaybeImplied[] = [];
  for (const key of sorted([...touched.values()])) {
    const folded = fold(key.path);
    const wasThere = below === undefined ? isPresumed(key) : hasKey(below, key.path);
    const isThere = after.has(folded) || (wasThere && !key.isReset);
    // A tombstone of what nobody has below says nothing, unless nobody knows what is below.
    if (!wasThere && !isThere && below !== undefined) continue;
    const status: KeyStatus = !isThere ? 'D' : wasThere ? 'M' : 'A';
    const change = keyChange(name, key, status, below !== undefined);
    if (change !== undefined) changes.push(key.isImplied ? { ...change, isImplied: true } : change);
  }
  return quieted(changes);
}

type MaybeImplied = KeyChange & Pick<Touched, 'isImplied'>;

/** A key that is new for the sake of noise alone is noise. */
function quieted(changes: readonly MaybeImplied[]): KeyChange[] {
  // Folded paths of keys at or below which something is no noise; and why the others are.
  const loud = new Set<string>();
  const why = new Map<string, string>();
  const told: KeyChange[] = [];
  for (const { isImplied, ...change } of changes.toReversed()) {
    const folded = fold(change.path);
    const reason = change.noise ?? (isImplied === true ? why.get(folded) : undefined);
    const all = [...(isOwn(change) ? [reason] : []), ...change.values.map(({ noise }) => noise)];
    if (loud.has(folded) || all.includes(undefined)) loud.add(parentOf(folded) ?? '');
    const found = all.find((noise) => noise !== undefined) ?? reason;
    const parent = parentOf(folded);
    if (found !== undefined && parent !== undefined) why.set(parent, found);
    const isQuiet = isImplied === true && !loud.has(folded) && reason !== undefined;
    told.push(isQuiet ? { ...change, noise: reason } : change);
  }
  return told.reverse();
}

function* withParents(folded: string): Generator<string> {
  yield folded;
  for (let at = folded.lastIndexOf('\\'); at > 0; at = folded.lastIndexOf('\\', at - 1)) {
    yield folded.slice(0, at);
  }
}

/** Keys of the delta, and what is below of those that it deletes. */
function touchedKeys(
  below: Hive | undefined,
  delta: HiveDelta,
  deleted: ReadonlySet<string>,
): Map<string, Touched> {
  const isReset = (folded: string): boolean => {
    if (deleted.size === 0) return false;
    for (const each of withParents(folded)) if (deleted.has(each)) return true;
    return false;
  };
  const touched = new Map<string, Touched>();
  for (const [folded, own] of delta) {
    const before = below?.keys.get(folded);
    touched.set(folded, { path: own.path, before, delta: own, isReset: isReset(folded) });
  }
  if (deleted.size === 0) return touched;
  for (const [folded, before] of below?.keys ?? []) {
    if (touched.has(folded) || !isReset(folded)) continue;
    touched.set(folded, { path: before.path, before, delta: undefined, isReset: true });
  }
  return touched;
}

function isThereAfter({ before, delta, isReset }: Touched): boolean {
  if (before !== undefined && !isReset) return true;
  if (delta === undefined) return false;
  return delta.present === true || delta.set.size > 0 || delta.options !== undefined;
}

/** A key before what lies below it: a backslash comes before every other character. */
function sorted(keys: Touched[]): Touched[] {
  const places = new Map(keys.map((key) => [key, fold(key.path).replaceAll('\\', '\0')]));
  const placeOf = (key: Touched): string => places.get(key) as string;
  return keys.sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
}

/** Where nobody knows what is below: something is taken from a key that stays. */
function isPresumed({ delta, isReset }: Touched): boolean {
  return !isReset && delta !== undefined && delta.removed.size > 0;
}

/** @param isKnown what is below is known: a value that is not there was not there. */
function keyChange(
  hive: HiveName,
  key: Touched,
  status: KeyStatus,
  isKnown: boolean,
): KeyChange | undefined {
  const { path } = key;
  const values = valueChanges(hive, key, isKnown);
  const options = status === 'M' ? optionChange(key) : undefined;
  if (status === 'M' && values.length === 0 && options === undefined) return undefined;
  return {
    path: path === '' ? ROOTS[hive] : `${ROOTS[hive]}\\${path}`,
    status,
    ...noiseOf(hive, path, undefined),
    ...(options === undefined ? {} : { options }),
    values,
  };
}

function noiseOf(hive: HiveName, path: string, name: string | undefined): { noise?: string } {
  const noise = isNoise(hive, path, name);
  return noise === undefined ? {} : { noise };
}

/** What is no time of the key: `#class`, `#link`. */
function optionChange({ before, delta, isReset }: Touched): KeyChange['options'] {
  const lasting = (lines: readonly string[] | undefined): string[] =>
    (lines ?? []).filter((line) => !line.startsWith('#time='));
  if (delta?.options === undefined && !isReset) return undefined;
  const was = lasting(before?.options);
  const is = lasting(delta?.options);
  return was.join('\n') === is.join('\n') ? undefined : { before: was, after: is };
}

function valueChanges(
  hive: HiveName,
  { path, before, delta, isReset }: Touched,
  isKnown: boolean,
): ValueChange[] {
  const changes: ValueChange[] = [];
  const put = (
    was: RegistryValue | undefined,
    is: RegistryValue | undefined,
    name: string,
  ): void => {
    if (was !== undefined && is !== undefined && isSameData(was.data, is.data)) return;
    changes.push({
      name,
      status: is === undefined ? 'D' : was === undefined ? 'A' : 'M',
      ...noiseOf(hive, path, name),
      ...(was === undefined ? {} : { before: dataOf(was) }),
      ...(is === undefined ? {} : { after: dataOf(is) }),
    });
  };
  for (const [folded, is] of delta?.set ?? []) put(before?.values.get(folded), is, is.name);
  if (isReset) {
    for (const [folded, was] of before?.values ?? []) {
      if (delta?.set.has(folded) !== true) put(was, undefined, was.name);
    }
  }
  for (const [folded, name] of delta?.removed ?? []) {
    const was = before?.values.get(folded);
    if (!isReset && (was !== undefined || !isKnown)) put(was, undefined, was?.name ?? name);
  }
  return changes.sort((a, b) => (fold(a.name) < fold(b.name) ? -1 : 1));
}

function dataOf({ data }: RegistryValue): KeyData {
  const { type, typeName, bytes, text } = decodeValue(data);
  const common = { type: typeName, size: bytes.length };
  const number = numberOf(type, bytes);
  if (number !== undefined) return { ...common, number };
  if (text === undefined) return { ...common, bytes: bytes.toString('hex') };
  // Where a string does not end as strings do, its bytes say more.
  if (type === REG_MULTI_SZ) {
    const isWhole = bytes.length === 2 * text.length + (text === '' ? 2 : 4);
    const lines = text === '' ? [] : text.split('\0');
    return isWhole ? { ...common, lines } : { ...common, lines, bytes: bytes.toString('hex') };
  }
  const isWhole = bytes.length === 2 * text.length + (type === REG_LINK ? 0 : 2);
  return isWhole ? { ...common, text } : { ...common, text, bytes: bytes.toString('hex') };
}

const REG_DWORD_BIG_ENDIAN = 5;
const REG_QWORD = 11;

function numberOf(type: number, bytes: Buffer): number | undefined {
  if (type === REG_DWORD && bytes.length === 4) return bytes.readUInt32LE();
  if (type === REG_DWORD_BIG_ENDIAN && bytes.length === 4) return bytes.readUInt32BE();
  if (type !== REG_QWORD || bytes.length !== 8) return undefined;
  const number = Number(bytes.readBigUInt64LE());
  return Number.isSafeInteger(number) ? number : undefined;
}
