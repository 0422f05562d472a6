// The files of a tree become objects: each is hashed, stored unless it is there, and named in the tree by its digest.
// Called by `store add` and by image builds with a digest store; the image writer takes the tree afterwards.
// Follows: mkcomposefs 1.0, files of up to 64 bytes stay in the image. Objects get their names once their data is on disk.

import { closeSync, openSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { O, S } from '../linux/constants.js';
import { errnoName, SysError } from '../linux/errno.js';
import { fsync, syncfs } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { type Content, type OpenContent, show, type TreeNode, walk } from '../tree/tree.js';
import { StoreError } from './errors.js';
import { holdStore } from './holds.js';
import { Op } from './object-job.js';
import { ObjectPool } from './object-pool.js';
import { PRESENT, SHORT } from './object-writer.js';
import { objectPath } from './objects.js';
import type { VerityAlgorithm } from './verity.js';

/** Bytes of a file that is kept in the image itself, at most. */
export const INLINE_MOST = 64;

/** Objects that wait for one sync, at most: each holds a descriptor. */
const BATCH_OBJECTS = 8192;
/** Bytes that wait for one sync, about. */
const BATCH_BYTES = 1024 * 1024 * 1024;
/** So few objects are synced one by one: others' data on the filesystem does not concern them. */
const FEW = 16;

export interface IngestProgress {
  readonly files: number;
  readonly filesDone: number;
  readonly bytes: number;
  readonly bytesDone: number;
}

export interface IngestOptions {
  /** Default: one for each processor. */
  readonly threads?: number;
  readonly algorithm?: VerityAlgorithm;
  /** Ask for fs-verity on new objects, where the filesystem has it (default). */
  readonly verity?: boolean;
  /** Told now and then. */
  readonly onProgress?: (progress: IngestProgress) => void;
  /** For tests: no O_TMPFILE. */
  readonly named?: boolean;
}

export interface IngestStats {
  /** Regular files, and their bytes. */
  files: number;
  bytes: number;
  /** Those that stay in the image. */
  inlineFiles: number;
  /** Objects that the store did not have, and their bytes. */
  newObjects: number;
  newBytes: number;
}

/** A file to be stored: its node, and a path of it for messages. */
interface Item {
  readonly node: TreeNode;
  readonly path: string;
}

/** Made, without a name yet. */
interface Unnamed {
  readonly fd: number;
  readonly temporary: number;
  readonly hex: string;
  readonly size: number;
}

/**
 * Stores every regular file of more than INLINE_MOST bytes whose content the tree has, and rewrites its node: `backing` and
 * `digest` instead of `content`. When it returns, all objects are on disk under their names; when it throws, those that are
 * there are whole.
 * @param folder of the objects: DIR/XX/... below it; undefined: the tree is rewritten, nothing is stored.
 * @throws TreeError when a file changes, SysError.
 */
export async function ingestTree(
  root: TreeNode,
  folder: string | undefined,
  options: IngestOptions = {},
): Promise<IngestStats> {
  mapMemory();
  const stats = { files: 0, bytes: 0, inlineFiles: 0, newObjects: 0, newBytes: 0 };
  const items = collect(root, stats);
  if (items.length === 0) return stats;
  const lock = folder === undefined ? undefined : lockRepository(resolve(folder));
  const dir = folder === undefined ? -1 : openSync(folder, O.RDONLY | O.DIRECTORY);
  const pool = new ObjectPool({
    threads: options.threads ?? availableParallelism(),
    count: items.length,
    makes: true,
    dir,
    algorithm: options.algorithm ?? 'sha256',
    verity: options.verity ?? true,
    named: options.named,
  });
  try {
    await new Ingest(items, dir, folder ?? '', pool, stats, options.onProgress).run();
  } finally {
    await pool.close();
    if (dir >= 0) closeSync(dir);
    if (lock !== undefined) closeSync(lock);
  }
  return stats;
}

/** Keeps gc away while objects have no image yet. A digest store has no gc. */
function lockRepository(folder: string): number | undefined {
  if (basename(folder) !== 'objects') return undefined;
  const lock = holdStore(dirname(folder));
  if (lock !== undefined) return lock;
  throw new StoreError('busy', `${folder}: objects are being removed: try again when that is done`);
}

/** The files that become objects; counts all. */
function collect(root: TreeNode, stats: IngestStats): Item[] {
  const items: Item[] = [];
  const linked = new Set<TreeNode>();
  walk(root, (path, node) => {
    if ((node.mode & S.IFMT) !== S.IFREG) return;
    if (node.links > 1) {
      if (linked.has(node)) return;
      linked.add(node);
    }
    stats.files++;
    stats.bytes += node.size;
    if (node.size <= INLINE_MOST) stats.inlineFiles++;
    else if (node.backing === undefined) items.push({ node, path });
  });
  return items;
}

class Ingest {
  readonly #items: readonly Item[];
  readonly #dir: number;
  readonly #folder: string;
  readonly #pool: ObjectPool;
  readonly #stats: IngestStats;
  readonly #tell: ((progress: IngestProgress) => void) | undefined;
  readonly #batchObjects = batchObjects();
  #next = 0;
  #unnamed: Unnamed[] = [];
  #unnamedBytes = 0;
  #filesDone = 0;
  #bytesDone = 0;
  readonly #bytes: number;
  #told = 0;

  constructor(
    items: readonly Item[],
    dir: number,
    folder: string,
    pool: ObjectPool,
    stats: IngestStats,
    tell: ((progress: IngestProgress) => void) | undefined,
  ) {
    this.#items = items;
    this.#dir = dir;
    this.#folder = folder;
    this.#pool = pool;
    this.#stats = stats;
    this.#tell = tell;
    this.#bytes = items.reduce((sum, { node }) => sum + node.size, 0);
  }

  async run(): Promise<void> {
    try {
      while (this.#next < this.#items.length) {
        await this.#make();
        this.#sync();
        await this.#name();
      }
    } finally {
      for (const { fd, temporary } of this.#unnamed) this.#pool.writer.drop(fd, temporary);
    }
  }

  /** Makes objects without names until a batch is full. */
  async #make(): Promise<void> {
    await this.#pool.run<{ item: Item; open: OpenContent }>(
      (job) => {
        const item = this.#items[this.#next];
        if (item === undefined || this.#isFull()) return false;
        this.#next++;
        const { content } = item.node;
        const open = content?.extents === undefined ? content?.open() : undefined;
        if (open?.file === undefined) {
          open?.close();
          this.#takeHere(item, content ?? holeOf(item.node.size));
          return undefined;
        }
        job.fill(Op.TAKE, open.file.fd, open.file.offset, item.node.size);
        return { item, open };
      },
      (job, { item, open }) => {
        try {
          this.#taken(item, job.result, job.temporary, job.digest);
          // After the object is known: what throws here leaves it to be dropped.
          open.check?.();
        } finally {
          open.close();
        }
      },
    );
  }

  /** Content that has no range of a file: read by this thread. */
  #takeHere(item: Item, content: Content): void {
    const { writer } = this.#pool;
    const result = writer.takeContent(content, item.node.size);
    this.#taken(item, result, writer.temporary, writer.digest.toString('hex'));
  }

  #taken(item: Item, result: number, temporary: number, hex: string): void {
    const { node, path } = item;
    if (result >= 0) {
      this.#unnamed.push({ fd: result, temporary, hex, size: node.size });
      this.#unnamedBytes += node.size;
    } else if (result === SHORT) {
      throw new StoreError(
        'store',
        `${show(path)} became shorter while it was read; read a tree that nobody writes to`,
      );
    } else if (result !== PRESENT) {
      throw new StoreError(
        'store',
        `${this.#folder}: cannot store ${show(path)}: ${errnoName(result)}`,
        { cause: new SysError('store', result) },
      );
    }
    node.content = undefined;
    node.backing = { path: objectPath(hex) };
    node.digest = hex;
    this.#filesDone++;
    this.#bytesDone += node.size;
    if (this.#bytesDone - this.#told > 1024 * 1024) this.#report();
  }

  #isFull(): boolean {
    return this.#unnamed.length >= this.#batchObjects || this.#unnamedBytes >= BATCH_BYTES;
  }

  /** The data of the batch comes to the disk: a name must never outlive what it names. */
  #sync(): void {
    if (this.#unnamed.length === 0) return;
    const few = this.#unnamed.length <= FEW;
    const fds = few ? this.#unnamed.map(({ fd }) => fd) : [this.#dir];
    for (const fd of fds) {
      const r = few ? fsync(fd) : syncfs(fd);
      if (r < 0) throw new SysError('sync', r, this.#folder);
    }
  }

  async #name(): Promise<void> {
    const batch = this.#unnamed;
    this.#unnamed = [];
    this.#unnamedBytes = 0;
    let next = 0;
    try {
      await this.#pool.run<Unnamed>(
        (job) => {
          const object = batch[next];
          if (object === undefined) return false;
          next++;
          job.fill(Op.NAME, object.fd, 0, 0);
          job.setTemporary(object.temporary);
          job.setDigest(object.hex);
          return object;
        },
        (job, { hex, size }) => {
          if (job.result < 0) {
            throw new SysError('link', job.result, `${this.#folder}/${objectPath(hex)}`);
          }
          if (job.result > 0) return;
          this.#stats.newObjects++;
          this.#stats.newBytes += size;
        },
      );
    } finally {
      // Named or not, those that a thread had are closed.
      this.#unnamed = batch.slice(next);
    }
    this.#report();
  }

  #report(): void {
    this.#told = this.#bytesDone;
    this.#tell?.({
      files: this.#items.length,
      filesDone: this.#filesDone,
      bytes: this.#bytes,
      bytesDone: this.#bytesDone,
    });
  }
}

/** A file without any data. */
function holeOf(size: number): Content {
  return {
    extents: [],
    open: () => ({ size, read: (_at, out) => void out.fill(0), close: () => {} }),
  };
}

/** A quarter of the descriptors that this process may have, up to BATCH_OBJECTS. */
function batchObjects(): number {
  const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
  const limit = line === null ? 1024 : Number(line[1]);
  return Math.max(FEW, Math.min(BATCH_OBJECTS, Math.floor(limit / 4)));
}
