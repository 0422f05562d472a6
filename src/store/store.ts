// A store on disk: which kind it is, what it allows, who works on it.
// Opened by every command on stores; images.ts, ingest.ts and gc.ts take it from there.
// Follows: composefs-rs 0.3 repositories, meta.json version 1. A digest store of mkcomposefs has objects and nothing else.

import {
  closeSync,
  existsSync,
  linkSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { O } from '../linux/constants.js';
import { E, SysError } from '../linux/errno.js';
import { mapMemory } from '../linux/memory.js';
import { lockFile } from '../linux/peer.js';
import { readIfThere } from '../linux/read-if-there.js';
import { syncPath } from '../linux/sync-path.js';
import { enableVerity, measureVerity } from '../linux/verity.js';
import { StoreError } from './errors.js';
import { makeFolder } from './folder.js';
import { objectsFolder } from './objects.js';
import type { VerityAlgorithm } from './verity.js';

const META = 'meta.json';
const VERSION = 1;

/** Names in meta.json: hash and log2 of the block size. */
const ALGORITHMS: Readonly<Record<string, VerityAlgorithm>> = {
  'fsverity-sha256-12': 'sha256',
  'fsverity-sha512-12': 'sha512',
};

/** Features that are understood, of those that concern writers: images are as mkcomposefs writes them. */
const WRITER_FEATURES = ['v1_erofs'];

interface Meta {
  readonly version?: number;
  readonly algorithm?: string;
  readonly features?: {
    readonly 'read-only-compatible'?: readonly string[];
    readonly incompatible?: readonly string[];
  };
}

/** What a store has beside its objects and meta.json; what begins with a dot may be anybody's. */
const FOLDERS: ReadonlySet<string> = new Set([META, 'objects', 'images', 'streams']);

/** A lock that is held until release(), or until the process ends. */
export interface Lock {
  release(): void;
}

export class Store {
  readonly path: string;
  /** The folder that has the 256 folders of objects. */
  readonly objects: string;
  /** Whether it has images and their names; a digest store has objects alone. */
  readonly isRepository: boolean;
  readonly algorithm: VerityAlgorithm;
  /** Every object has fs-verity: then meta.json has it too. */
  readonly hasVerity: boolean;
  /** Why nothing may be written, if so. */
  readonly readOnly: string | undefined;

  /** @throws StoreError when there is no store at `path`, or one of a later kind. */
  constructor(path: string) {
    if (!existsSync(path)) throw absent(path);
    const meta = readMeta(path);
    this.path = path;
    this.objects = objectsFolder(path);
    this.isRepository = meta !== undefined || this.objects !== path;
    if (!this.isRepository && !hasObjects(path)) throw absent(path);
    this.algorithm = meta === undefined ? guessAlgorithm(this.objects) : algorithmOf(meta, path);
    this.hasVerity = meta !== undefined && isSealed(join(path, META));
    const unknown = (meta?.features?.['read-only-compatible'] ?? []).filter(
      (name) => !WRITER_FEATURES.includes(name),
    );
    this.readOnly =
      unknown.length === 0
        ? undefined
        : `its features ${unknown.join(', ')} are not known here: use the program that made it`;
  }

  /** Names in the folder of a repository that are not its own. */
  strays(): string[] {
    if (!this.isRepository) return [];
    return readdirSync(this.path).filter((name) => isContent(name) && !FOLDERS.has(name));
  }

  /** @throws StoreError unless images can be added, named and removed. */
  requireWritable(): void {
    if (!this.isRepository) {
      throw new StoreError(
        'store',
        `${this.path}: a digest store, which holds no images: make a store beside it by \`varve store init\``,
      );
    }
    if (this.readOnly !== undefined) {
      throw new StoreError('store', `${this.path}: cannot be written: ${this.readOnly}`);
    }
  }

  /**
   * Takes the store's lock: shared by those who add and by those who use images from elsewhere, alone for removing. The
   * lock is that of composefs-rs.
   * @throws StoreError `busy` at once when somebody has it.
   */
  lock(shared: boolean): Lock {
    mapMemory();
    const fd = openSync(this.path, O.RDONLY | O.DIRECTORY);
    const r = lockFile(fd, shared);
    if (r < 0) {
      closeSync(fd);
      if (r !== -E.AGAIN) throw new SysError('flock', r, this.path);
      throw new StoreError(
        'busy',
        shared
          ? `${this.path}: objects are being removed by another process: try again when it is done`
          : `${this.path}: somebody adds to it, or mounts an image that is not in it: try again when that is done`,
      );
    }
    return { release: () => closeSync(fd) };
  }
}

/**
 * Makes a store; one that is there stays as it is. Folders that a killed call left are completed.
 * @returns whether it was made.
 */
export function initStore(path: string): boolean {
  mapMemory();
  if (existsSync(join(path, META))) {
    // Says what is wrong with it.
    new Store(path);
    return false;
  }
  if (existsSync(path) && !existsSync(join(path, 'objects'))) {
    const found = readdirSync(path).find(isContent);
    if (found !== undefined) {
      throw new StoreError('store', `${path}: has ${found} and is no store: name an empty folder`);
    }
  }
  for (const folder of ['objects', 'images/refs', 'streams/refs']) {
    makeFolder(join(path, folder));
  }
  const algorithm = guessAlgorithm(join(path, 'objects'));
  const meta = {
    version: VERSION,
    algorithm: `fsverity-${algorithm}-12`,
    features: { compatible: [], 'read-only-compatible': WRITER_FEATURES, incompatible: [] },
    erofs_formats: { default: 1 },
  };
  publishMeta(path, `${JSON.stringify(meta, undefined, 2)}\n`, algorithm);
  return true;
}

/** The last step: with it the folders are a store. It has fs-verity where the filesystem can, and then all objects have. */
function publishMeta(path: string, text: string, algorithm: VerityAlgorithm): void {
  const temporary = join(path, `.varve-${process.pid}`);
  rmSync(temporary, { force: true });
  try {
    writeFileSync(temporary, text, { mode: 0o644, flush: true });
    const fd = openSync(temporary, 'r');
    enableVerity(fd, algorithm);
    closeSync(fd);
    linkSync(temporary, join(path, META));
  } catch (error) {
    // Somebody else made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
  syncPath(path);
}

function absent(path: string): StoreError {
  return new StoreError('store', `${path}: no store: make one by \`varve store init ${path}\``);
}

function readMeta(path: string): Meta | undefined {
  const text = readIfThere(join(path, META))?.toString();
  if (text === undefined) return undefined;
  let meta: Meta | null;
  try {
    meta = JSON.parse(text) as Meta | null;
  } catch (cause) {
    throw new StoreError('store', `${path}/${META}: no JSON: it is damaged, restore it`, { cause });
  }
  if (meta === null || typeof meta !== 'object' || typeof meta.version !== 'number') {
    throw new StoreError('store', `${path}/${META}: has no version: it is damaged, restore it`);
  }
  if (meta.version > VERSION) {
    throw new StoreError(
      'store',
      `${path}: a store of version ${meta.version}, ${VERSION} is known here: use the program that made it`,
    );
  }
  const unknown = meta.features?.incompatible ?? [];
  if (unknown.length > 0) {
    throw new StoreError(
      'store',
      `${path}: its features ${unknown.join(', ')} are not known here: use the program that made it`,
    );
  }
  return meta;
}

function algorithmOf(meta: Meta, path: string): VerityAlgorithm {
  const algorithm = ALGORITHMS[meta.algorithm ?? ''];
  if (algorithm !== undefined) return algorithm;
  const known = Object.keys(ALGORITHMS).join(' and ');
  throw new StoreError('store', `${path}/${META}: algorithm ${meta.algorithm}: ${known} are known`);
}

/** Folders of objects are two digits. */
const isObjectFolder = (name: string): boolean => /^[0-9a-f]{2}$/.test(name);

/** Whether a name in a folder is somebody's: a new filesystem has `lost+found`. */
const isContent = (name: string): boolean => !name.startsWith('.') && name !== 'lost+found';

function hasObjects(path: string): boolean {
  // An empty folder is a digest store to be, as for mkcomposefs.
  const names = readdirSync(path).filter(isContent);
  return names.length === 0 || names.some(isObjectFolder);
}

/** By the length of the first object's name; SHA-256 where there is none. */
function guessAlgorithm(objects: string): VerityAlgorithm {
  for (const folder of readdirSync(objects).filter(isObjectFolder)) {
    const [name] = readdirSync(join(objects, folder));
    if (name !== undefined) return name.length === 126 ? 'sha512' : 'sha256';
  }
  return 'sha256';
}

function isSealed(path: string): boolean {
  mapMemory();
  const fd = openSync(path, 'r');
  const measured = measureVerity(fd);
  closeSync(fd);
  return typeof measured === 'string';
}
