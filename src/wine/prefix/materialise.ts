// Between a prefix's registry files, which Wine rewrites whole, and what the prefix itself has changed.
// Called by the session: materialise() before Wine starts, harvest() when it has ended; both while nothing runs in the prefix.
// All files of one change become valid by one rename: of `.varve/registry.next`, from which they are then moved out.

import { existsSync, lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { MountError } from '../../stack/errors.js';
import { applyDelta } from '../registry/apply.js';
import { deltaOfFull } from '../registry/compose.js';
import { EMPTY_DELTA, isEmpty, type RegistryDelta } from '../registry/delta.js';
import { parseDelta, writeDelta } from '../registry/delta-text.js';
import { diffRegistry } from '../registry/diff.js';
import { fileOf, HIVES, type HiveName, type Registry } from '../registry/hive.js';
import { type RegistryConflict, rebaseDelta } from '../registry/three-way.js';
import { writeHive } from '../registry/write.js';
import { stageKeyConflicts } from '../update/stage-conflicts.js';
import { type Below, readRegistryBelow, stampOfBelow } from './below.js';
import { sessionPaths } from './layout.js';
import { tryLock } from './locks.js';
import { pathsOf } from './places.js';
import { finishPublishing, isPublishing, publishTogether, TIMESTAMP } from './publishing.js';
import { DELTA_FILE, readIfThere, registryOf, stampOf, understood } from './registry-source.js';
import { writeFileWhole } from './write-file.js';

export { finishPublishing, TIMESTAMP } from './publishing.js';

/** Files in `.varve`. */
const BELOW = 'below.gz';
const STATE = 'registry.json';

/** With what every registry file begins. */
const HEAD = 'WINE REGISTRY Version 2\n';

/** In TIMESTAMP: this prefix is not updated by Wine itself. */
export const NO_UPDATE = 'disable\n';

/** How things stood when the registry was last brought in order. */
interface State {
  readonly version: 1;
  /** stampOfBelow(). */
  readonly below: string;
  /** stampOf() of the prefix's files. */
  readonly own: Partial<Record<HiveName, string>>;
}

export interface Materialised {
  /** Whether files were written. */
  readonly changed: boolean;
  /** Where the layers and the prefix have changed the same since it last ran; the prefix's side counts. */
  readonly conflicts: readonly RegistryConflict[];
}

/**
 * Brings the registry files of a prefix in order: everything below, changed by what the prefix itself has changed.
 * Changes that were not harvested (a crash) are, first.
 * @throws MountError of kind `layer`; then nothing has changed.
 */
export function materialise(folder: string, below: readonly Below[]): Materialised {
  finishPublishing(folder);
  const { state } = pathsOf(folder);
  mkdirSync(state, { recursive: true });
  const stamp = stampOfBelow(below);
  const known = readState(folder);
  if (known?.below === stamp && areOwn(folder)) {
    harvest(folder);
    return { changed: false, conflicts: [] };
  }
  const plain = isThere(folder) ? undefined : onlyFull(below);
  if (plain !== undefined) {
    const staged = { below: plain, own: plain, delta: EMPTY_DELTA, stamp };
    publishTogether(folder, (stage) => stageBytes(stage, staged));
    return { changed: true, conflicts: [] };
  }
  const now = readRegistryBelow(below);
  // Nothing below has a registry: it is Wine's own affair.
  if (now === undefined) return { changed: false, conflicts: [] };
  const before = readBelow(folder);
  const delta = before === undefined ? adopted(folder, now) : changesSince(folder, before);
  const rebased =
    before === undefined || known?.below === stamp
      ? { delta, conflicts: [] }
      : rebaseDelta(before, now, delta);
  publishTogether(folder, (stage) => {
    stageRegistry(stage, now, rebased.delta, stamp);
    stageKeyConflicts(stage, folder, rebased.conflicts, rebased.delta);
  });
  return { changed: true, conflicts: rebased.conflicts };
}

/** Whether materialise() would find nothing to do, and nothing to store. */
export function isInOrder(folder: string, below: readonly Below[]): boolean {
  const known = readState(folder);
  return known?.below === stampOfBelow(below) && areOwn(folder) && isUntouched(folder, known);
}

/** What the prefix has changed, read from its files, and kept as registry.delta. @throws MountError of kind `layer`. */
export function harvest(folder: string): RegistryDelta {
  finishPublishing(folder);
  const known = readState(folder);
  if (known === undefined) return EMPTY_DELTA;
  if (isUntouched(folder, known)) return ownDelta(folder);
  const before = readBelow(folder);
  if (before === undefined) return ownDelta(folder);
  const delta = diffRegistry(before, readOwn(folder, before));
  const { state } = pathsOf(folder);
  writeFileWhole(join(state, DELTA_FILE), writeDelta(delta));
  // Cut off here, the same is done once more.
  writeFileWhole(join(state, STATE), stateText(known.below, folder));
  return delta;
}

/** Changes what the prefix itself has changed: takes and gives a delta. The prefix must have been materialised. */
export function changeOwnRegistry(
  folder: string,
  change: (delta: RegistryDelta) => RegistryDelta,
): void {
  const planned = planOwnRegistry(folder, change);
  publishTogether(folder, planned.stage);
}

/** As it was last harvested. @throws MountError of kind `layer`. */
export function ownDelta(folder: string): RegistryDelta {
  const path = join(pathsOf(folder).state, DELTA_FILE);
  const bytes = readIfThere(path);
  return bytes === undefined ? EMPTY_DELTA : understood(path, () => parseDelta(bytes));
}

/** What was below when the prefix was last materialised; undefined: never. @throws MountError of kind `layer`. */
export function readBelow(folder: string): Registry | undefined {
  const path = join(pathsOf(folder).state, BELOW);
  const packed = readIfThere(path);
  if (packed === undefined) return undefined;
  let bytes: Buffer;
  let sizes: Record<HiveName, number>;
  let at: number;
  try {
    bytes = gunzipSync(packed);
    at = bytes.indexOf('\n') + 1;
    sizes = JSON.parse(bytes.toString('latin1', 0, at)) as Record<HiveName, number>;
  } catch (error) {
    throw new MountError('layer', `${path}: is damaged: take it from a backup`, { cause: error });
  }
  const parts = new Map<HiveName, Buffer>();
  for (const hive of HIVES) {
    parts.set(hive, bytes.subarray(at, at + sizes[hive]));
    at += sizes[hive];
  }
  return registryOf(path, (hive) => parts.get(hive));
}

/** The registry as Wine left it. A file that is missing or empty is as it was last. */
export function readOwn(folder: string, below: Registry): Registry {
  const files = new Map(HIVES.map((hive) => [hive, readIfThere(join(folder, fileOf(hive)))]));
  const missing = HIVES.filter((hive) => (files.get(hive)?.length ?? 0) === 0);
  const own = registryOf(folder, (hive) => files.get(hive), below);
  if (missing.length === 0) return own;
  const last = applyDelta(below, ownDelta(folder));
  return { ...own, ...Object.fromEntries(missing.map((hive) => [hive, last[hive]])) };
}

function changesSince(folder: string, before: Registry): RegistryDelta {
  const known = readState(folder);
  if (known !== undefined && isUntouched(folder, known)) return ownDelta(folder);
  return diffRegistry(before, readOwn(folder, before));
}

/** A plain prefix is put over layers for the first time: it sets all that it has, and deletes nothing. */
function adopted(folder: string, below: Registry): RegistryDelta {
  if (!isThere(folder)) return EMPTY_DELTA;
  const own = registryOf(folder, (hive) => readIfThere(join(folder, fileOf(hive))));
  return diffRegistry(below, applyDelta(below, deltaOfFull(own)));
}

/** Whether a prefix has any registry. */
const isThere = (folder: string): boolean =>
  [folder, pathsOf(folder).state].some((place) =>
    [...HIVES.map(fileOf), BELOW].some((name) => existsSync(join(place, name))),
  );

/** The files of the only layer that has any, as they are: nothing of them need be understood for a new prefix. */
function onlyFull(below: readonly Below[]): Buffer[] | undefined {
  const [source, ...further] = below
    .map(({ registry }) => registry)
    .filter(({ kind }) => kind !== 'none');
  if (source?.kind !== 'full' || further.length > 0) return undefined;
  const bytes = HIVES.map((hive) => source.bytes(hive));
  const isWhole = (file: Buffer | undefined): file is Buffer =>
    file !== undefined && file.toString('latin1', 0, HEAD.length) === HEAD;
  return bytes.every(isWhole) ? bytes : undefined;
}

/** Whether the files are there, and under one name only: wineserver writes into others in place. */
function areOwn(folder: string): boolean {
  return HIVES.every((hive) => {
    const found = lstatSync(join(folder, fileOf(hive)), { throwIfNoEntry: false });
    return found?.isFile() === true && found.nlink === 1 && found.size > 0;
  });
}

/** Whether the files are those that were published or harvested last. */
function isUntouched(folder: string, { own }: State): boolean {
  return HIVES.every((hive) => own[hive] === stampOf(join(folder, fileOf(hive))));
}

function readState(folder: string): State | undefined {
  const bytes = readIfThere(join(pathsOf(folder).state, STATE));
  if (bytes === undefined) return undefined;
  try {
    const state = JSON.parse(bytes.toString()) as State;
    return state.version === 1 ? state : undefined;
  } catch {
    // As if it had never been: everything is looked at.
    return undefined;
  }
}

function stateText(below: string, folder: string): string {
  const own: State['own'] = Object.fromEntries(
    HIVES.map((hive) => [hive, stampOf(join(folder, fileOf(hive)))]),
  );
  const state: State = { version: 1, below, own };
  return `${JSON.stringify(state)}\n`;
}

/** Writes a delta, what it stands on and the files for Wine, to become valid together. */
function stageRegistry(stage: string, below: Registry, delta: RegistryDelta, stamp: string): void {
  const registry = isEmpty(delta) ? below : applyDelta(below, delta);
  const belowBytes = HIVES.map((hive) => writeHive(below[hive]));
  const own = HIVES.map((hive, i) =>
    registry[hive] === below[hive] ? (belowBytes[i] as Buffer) : writeHive(registry[hive]),
  );
  stageBytes(stage, { below: belowBytes, own, delta, stamp });
}

interface Staged {
  /** Files in the order of HIVES. */
  readonly below: readonly Buffer[];
  readonly own: readonly Buffer[];
  readonly delta: RegistryDelta;
  readonly stamp: string;
}

function stageBytes(stage: string, { below, own, delta, stamp }: Staged): void {
  HIVES.forEach((hive, i) => {
    writeFileWhole(join(stage, fileOf(hive)), own[i] as Buffer);
  });
  const sizes = Object.fromEntries(HIVES.map((hive, i) => [hive, below[i]?.length]));
  const head = Buffer.from(`${JSON.stringify(sizes)}\n`, 'latin1');
  writeFileWhole(join(stage, BELOW), gzipSync(Buffer.concat([head, ...below]), { level: 1 }));
  writeFileWhole(join(stage, DELTA_FILE), writeDelta(delta));
  writeFileWhole(join(stage, TIMESTAMP), NO_UPDATE);
  // The files keep inode and time when they are moved.
  writeFileWhole(join(stage, STATE), stateText(stamp, stage));
}

/** The registry of a prefix as it is to be; nothing is written yet. */
export interface PlannedRegistry {
  /** What the prefix itself has changed until now. */
  readonly before: RegistryDelta;
  readonly delta: RegistryDelta;
  readonly conflicts: readonly RegistryConflict[];
  /** Writes the files into a folder of publishTogether(). */
  stage(stage: string): void;
}

/**
 * The prefix's own changes over other layers, by a three-way merge.
 * @param adjust makes the delta of what the merge gave; `own` are the changes before it.
 * @returns undefined where the prefix has not run yet. @throws MountError of kind `layer`.
 */
export function planRegistry(
  folder: string,
  below: readonly Below[],
  adjust: (own: RegistryDelta, rebased: RegistryDelta) => RegistryDelta,
): PlannedRegistry | undefined {
  finishPublishing(folder);
  const before = readBelow(folder);
  const now = before && readRegistryBelow(below);
  if (before === undefined || now === undefined) return undefined;
  const own = changesSince(folder, before);
  const rebased = rebaseDelta(before, now, own);
  const wanted = adjust(own, rebased.delta);
  const delta = wanted === rebased.delta ? wanted : diffRegistry(now, applyDelta(now, wanted));
  const stamp = stampOfBelow(below);
  return {
    before: own,
    delta,
    conflicts: rebased.conflicts,
    stage: (stage) => stageRegistry(stage, now, delta, stamp),
  };
}

/** Other changes of the prefix's own over the same layers. @throws MountError of kind `layer`. */
export function planOwnRegistry(
  folder: string,
  change: (delta: RegistryDelta) => RegistryDelta,
): PlannedRegistry {
  const before = harvest(folder);
  const below = readBelow(folder);
  const known = readState(folder);
  if (below === undefined || known === undefined) {
    throw new MountError('layer', `${folder}: has no layered registry: start it once first`);
  }
  const delta = diffRegistry(below, applyDelta(below, change(before)));
  const stage = (stage: string): void => stageRegistry(stage, below, delta, known.below);
  return { before, delta, conflicts: [], stage };
}

/** What was below and what the prefix has changed since, for those who only look: what nobody has harvested included. */
export interface CurrentChange {
  readonly below: Registry;
  readonly delta: RegistryDelta;
}

/**
 * The caller needs no lock, and no session need have ended.
 * @returns undefined for a prefix that never ran. @throws MountError of kind `layer`; `busy` while it is being changed.
 */
export function currentChange(folder: string): CurrentChange | undefined {
  finishWhenFree(folder);
  const below = readBelow(folder);
  return below === undefined ? undefined : { below, delta: changesSince(folder, below) };
}

/** What a killed process left to do is done under the prefix's lock: whoever has it is doing that already. */
function finishWhenFree(folder: string): void {
  if (!isPublishing(folder)) return;
  const lock = tryLock(sessionPaths(folder).lock, false);
  if (lock === undefined) {
    throw new MountError('busy', `${folder}: another command is busy with it: try again later`);
  }
  try {
    finishPublishing(folder);
  } finally {
    lock.release();
  }
}
