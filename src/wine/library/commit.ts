// What a prefix has changed becomes a layer, and the prefix goes on with nothing of its own over it.
// Called by `varve wine commit`, while the prefix is down. At every step the prefix shows the same, so that it may be cut off
// anywhere: first the layer with the registry, then the record that names it, then the files change sides by one exchange.
// A layer that waits for its files says so (`pending`), and the same command completes it.

import { chmodSync, existsSync, mkdirSync, renameSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AT, RENAME } from '../../linux/constants.js';
import { check } from '../../linux/errno.js';
import { mapMemory } from '../../linux/memory.js';
import { renameName } from '../../linux/named.js';
import { syncPath } from '../../linux/sync-path.js';
import { MountError } from '../../stack/errors.js';
import { extractTree } from '../../tree/extract.js';
import { scan } from '../../tree/scan.js';
import { resolveBelow } from '../prefix/below.js';
import { harvest, materialise } from '../prefix/materialise.js';
import { pathsOf, type WinePlaces, winePlaces } from '../prefix/places.js';
import { writeRecord } from '../prefix/record.js';
import { DELTA_FILE, readIfThere, understood } from '../prefix/registry-source.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { compose } from '../registry/compose.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import { parseDelta, writeDelta } from '../registry/delta-text.js';
import { type Noise, noisyKeys, withoutNoise } from '../registry/noise.js';
import { manifestOfLayer } from './form.js';
import { type Held, holdNamed } from './hold.js';
import { LAYER_FILE, type LayerManifest, manifestText } from './manifest.js';
import { dropCopies, namesIn } from './own-files.js';
import { listLayers, requireNoLayer } from './shelf.js';
import { keysIn, shelveLayer } from './shelve.js';
import { openStage, removeFolder } from './stage.js';

export interface CommitRequest {
  readonly prefix: string;
  readonly layer: string;
  readonly keepNoise: boolean;
  readonly env: NodeJS.ProcessEnv;
  /** Told before each step that is on disk afterwards; for tests, which cut it off there. */
  readonly onStep?: (step: CommitStep) => void;
}

export type CommitStep = 'shelve' | 'record' | 'exchange' | 'complete' | 'registry' | 'sweep';

export interface CommittedPrefix {
  /** Absolute. */
  readonly folder: string;
  /** Absolute, of the layer. */
  readonly path: string;
  readonly files: number;
  readonly keys: number;
  /** Changes of the registry that stay with the prefix, because every session makes them. */
  readonly noise: number;
}

/** Where a prefix's own files go while another filesystem gets a copy. */
const EMPTIED = 'emptied';

/** @throws MountError; then the prefix is what it was, or shows the same. */
export async function commitPrefix(request: CommitRequest): Promise<CommittedPrefix> {
  const { layer, env } = request;
  const places = winePlaces(env);
  const held = await holdNamed(request.prefix, 'commit it', env);
  try {
    const found = listLayers(places).find(({ name }) => name === layer);
    const manifest = found === undefined ? undefined : await manifestOfLayer(found);
    const isOurs = manifest?.pending?.prefix === held.folder;
    if (!isOurs) requireNoLayer(layer, places);
    const commit = new Commit(request, held, places);
    return await commit.run(isOurs ? manifest : undefined);
  } finally {
    held.release();
  }
}

class Commit {
  readonly #request: CommitRequest;
  readonly #held: Held;
  readonly #places: WinePlaces;
  /** The layer's folder, once it has its name. */
  readonly #path: string;

  constructor(request: CommitRequest, held: Held, places: WinePlaces) {
    this.#request = request;
    this.#held = held;
    this.#places = places;
    this.#path = join(places.layers, request.layer);
  }

  /** @param pending of a commit that was cut off when the layer had its name. */
  async run(pending: LayerManifest | undefined): Promise<CommittedPrefix> {
    const { layer, env } = this.#request;
    const { folder, record } = this.#held;
    const { driveC, state } = pathsOf(folder);
    removeIfThere(join(state, EMPTIED));
    const isNamed = record.layers.includes(layer);
    const layers = [layer, ...record.layers.filter((name) => name !== layer)];
    await dropCopies(driveC, await resolveBelow(record, env));
    const own = this.#split(harvest(folder));
    let manifest = pending;
    if (manifest === undefined) {
      if (namesIn(driveC) === 0 && keysIn(own.delta) === 0) {
        throw new MountError('absent', `prefix ${folder}: has changed nothing: nothing to commit`);
      }
      this.#step('shelve');
      manifest = await this.#shelve(own.delta);
    } else if (this.#waits(manifest)) {
      // The prefix may have been used since.
      const delta = isNamed ? compose(this.#shelved(), own.delta) : own.delta;
      writeFileWhole(join(this.#path, DELTA_FILE), writeDelta(delta));
    }
    if (!isNamed) {
      this.#step('record');
      writeRecord(folder, { ...record, layers });
    }
    if (manifest.pending === undefined) this.#empty();
    else if (this.#waits(manifest)) {
      this.#step('exchange');
      exchange(driveC, join(this.#path, 'drive_c'));
    }
    if (manifest.pending !== undefined) {
      this.#step('complete');
      const { pending: _, ...complete } = manifest;
      writeFileWhole(join(this.#path, LAYER_FILE), manifestText(complete));
    }
    this.#step('registry');
    materialise(folder, await resolveBelow({ ...record, layers }, env));
    this.#step('sweep');
    removeIfThere(join(state, EMPTIED));
    return {
      folder,
      path: this.#path,
      files: namesIn(join(this.#path, 'drive_c')),
      keys: keysIn(this.#shelved()),
      noise: noisyKeys(own.noise),
    };
  }

  #step(step: CommitStep): void {
    this.#request.onStep?.(step);
  }

  #split(delta: RegistryDelta): { delta: RegistryDelta; noise: readonly Noise[] } {
    return this.#request.keepNoise ? { delta, noise: [] } : withoutNoise(delta);
  }

  /** Whether the files of a layer are still in the prefix. */
  #waits({ pending }: LayerManifest): boolean {
    return statSync(join(this.#path, 'drive_c')).ino === pending?.ino;
  }

  #shelved(): RegistryDelta {
    const path = join(this.#path, DELTA_FILE);
    const bytes = readIfThere(path);
    return bytes === undefined ? EMPTY_DELTA : understood(path, () => parseDelta(bytes));
  }

  /** The layer with its registry, and with an empty directory that waits for its files, or a copy of them. */
  async #shelve(delta: RegistryDelta): Promise<LayerManifest> {
    const { folder, record } = this.#held;
    const { driveC, state } = pathsOf(folder);
    const stage = openStage(this.#places);
    try {
      const made = join(stage.folder, 'layer');
      mkdirSync(made);
      const empty = join(state, EMPTIED);
      makeLike(driveC, empty);
      const { ino } = statSync(empty);
      const isNear = renameNear(empty, join(made, 'drive_c'));
      if (!isNear) copyTree(driveC, join(made, 'drive_c'));
      const manifest: LayerManifest = {
        version: 1,
        made: new Date().toISOString(),
        from: `commit of ${folder}`,
        ...(record.base === undefined ? {} : { base: record.base }),
        ...(record.layers.length === 0 ? {} : { layers: record.layers }),
        ...(isNear ? { pending: { prefix: folder, ino } } : {}),
      };
      await shelveLayer(made, this.#request.layer, delta, manifest, this.#places);
      return manifest;
    } finally {
      stage.close();
    }
  }

  /** The layer has a copy: what the prefix has goes by one exchange with nothing. */
  #empty(): void {
    const { driveC, state } = pathsOf(this.#held.folder);
    const empty = join(state, EMPTIED);
    removeIfThere(empty);
    makeLike(driveC, empty);
    this.#step('exchange');
    exchange(driveC, empty);
  }
}

/** An empty directory with the mode and the time of another one: the union shows those of its topmost. */
function makeLike(model: string, path: string): void {
  const { mode, atime, mtime } = statSync(model);
  mkdirSync(path);
  chmodSync(path, mode & 0o7777);
  utimesSync(path, atime, mtime);
}

/** @returns false when the two places are on different filesystems. */
function renameNear(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EXDEV') return false;
    throw error;
  }
}

function copyTree(from: string, to: string): void {
  const tree = scan(from);
  try {
    const [warning] = extractTree(tree.root, to);
    if (warning === undefined) return;
    throw new MountError('permission', `${from}: ${warning.path}: ${warning.problem}`);
  } finally {
    tree.close();
  }
}

/** Two directories change places in one step that is on disk afterwards. */
function exchange(one: string, other: string): void {
  mapMemory();
  const bytes = (path: string): string => Buffer.from(path).toString('latin1');
  const r = renameName(AT.FDCWD, bytes(one), AT.FDCWD, bytes(other), RENAME.EXCHANGE);
  check(r, 'exchange', one);
  for (const folder of [dirname(one), dirname(other)]) syncPath(folder);
}

function removeIfThere(path: string): void {
  if (existsSync(path)) removeFolder(path);
}
