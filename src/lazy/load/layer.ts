// One lazy layer on disk, as the loader has it: its lock, table, map and blob. Content enters it here, and only here.
// Used by queue.ts (what is missing) and evict.ts; whoever has the lock is the only writer of blob and map.
// Order, for a reader that may look at any moment: content verified, written, then the map says so (residency.ts).

import { createHash } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  fdatasync as syncData,
  write,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { E } from '../../linux/errno.js';
import { lockFile } from '../../linux/peer.js';
import { ChunkTable } from '../chunk-table.js';
import type { LayerFolder, LayerRecord } from '../layer-folder.js';
import { ResidencyMap } from '../residency.js';

/** A layer that cannot be loaded, in words for whoever asked for it. */
export class LoadError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LoadError';
  }
}

/** Another process has the layer, and perhaps is about to let go of it. */
export class LayerBusyError extends LoadError {}

/** Milliseconds for which a loader may take to let go of a layer that nobody uses any more, and between two looks. */
const LETTING_GO = 2000;
const LOOK = 20;

/** Asks again as long as somebody may be about to let go of a layer. @returns undefined: nobody is. */
export async function whileLettingGo<T>(
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T | undefined> {
  for (let waited = 0; ; waited += LOOK) {
    const answer = await ask();
    if (answer !== undefined || waited >= LETTING_GO) return answer;
    await sleep(LOOK);
  }
}

/** Opens a layer, or changes it, as soon as whoever has it lets go of it: right after an unmount that is about to happen. @throws what `open` throws. */
export async function whenFree<T extends object | boolean | number>(
  open: () => T | Promise<T>,
): Promise<T> {
  let busy: LayerBusyError | undefined;
  const opened = await whileLettingGo(async () => {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof LayerBusyError)) throw error;
      busy = error;
      return undefined;
    }
  });
  if (opened === undefined) throw busy;
  return opened;
}

const writeAt = promisify(write) as (
  fd: number,
  bytes: Uint8Array,
  from: number,
  length: number,
  at: number,
) => Promise<{ bytesWritten: number }>;
const fdatasync = promisify(syncData);

export class LoadedLayer {
  #folder: LayerFolder;
  readonly record: LayerRecord;
  readonly table: ChunkTable;
  readonly map: ResidencyMap;
  /** The content, read and written. Opened before anybody marks the file for fanotify(7): writing to it raises no event. */
  readonly blob: number;
  readonly #lock: number;
  /** Chunks that are here and not known to be on disk. */
  #unsynced: number[] = [];
  #unsyncedBytes = 0;
  #syncing: Promise<void> = Promise.resolve();
  /** Chunks that are not here, and bytes of those that are. */
  #absent = 0;
  #residentBytes = 0;
  readonly totalBytes: number;
  #places: readonly ChunkTable[] | undefined;
  #closed = false;

  private constructor(folder: LayerFolder, lock: number, kept: number | undefined) {
    this.#folder = folder;
    this.#lock = lock;
    this.table = new ChunkTable(readFileSync(folder.table));
    // Behind the table: when a layer learns of other packs (renew-layer.ts) this is written first, and may name more.
    this.record = folder.read();
    if (this.record.origins.length < this.table.origins) {
      throw new LoadError(
        `${folder.record}: ${this.record.origins.length} origins, not those of the chunk table`,
      );
    }
    this.blob = kept ?? openBlob(folder.blob, this.table.blobSize);
    try {
      this.map = ResidencyMap.open(folder.map, this.table.count, true);
      if (folder.isComplete) this.#markAll();
    } catch (error) {
      if (kept === undefined) closeSync(this.blob);
      throw error;
    }
    let total = 0;
    for (let i = 0; i < this.table.count; i++) {
      const length = this.table.length(i);
      total += length;
      if (this.map.isHere(i)) this.#residentBytes += length;
      else this.#absent++;
      if (this.map.isHere(i) && !this.map.isDurable(i)) this.#unsynced.push(i);
    }
    this.totalBytes = total;
  }

  /**
   * @param kept the blob as a predecessor had opened it, else it is opened. @param lock of lockLayer(), which goes with it.
   * @throws LayerBusyError when another process loads the layer, LoadError when it is damaged.
   */
  static open(folder: LayerFolder, kept?: number, lock = lockLayer(folder)): LoadedLayer {
    try {
      return new LoadedLayer(folder, lock, kept);
    } catch (error) {
      closeSync(lock);
      if (error instanceof LoadError) throw error;
      throw new LoadError(`${folder.path}: ${error instanceof Error ? error.message : error}`);
    }
  }

  /**
   * All of it is on disk, whatever the map says: of a layer that was built here there is none, or one whose maker was killed.
   * `complete` goes, on disk, before anything is taken back (clear()).
   */
  #markAll(): void {
    for (let i = 0; i < this.table.count; i++) {
      this.map.mark(i);
      this.map.markDurable(i);
    }
    this.map.setComplete();
    this.map.sync();
  }

  /** Where it lies now. */
  get folder(): LayerFolder {
    return this.#folder;
  }

  /** Its folder, the same one, has another name: it was published. */
  hasMoved(folder: LayerFolder): void {
    this.#folder = folder;
  }

  /** Where the chunks lie: the table, and behind it those that it has replaced (renew-layer.ts), the latest first. */
  get places(): readonly ChunkTable[] {
    this.#places ??= [this.table, ...olderTables(this.folder, this.record)];
    return this.#places;
  }

  get residentBytes(): number {
    return this.#residentBytes;
  }

  get absent(): number {
    return this.#absent;
  }

  /** Bytes that are here and not known to be on disk. */
  get unsyncedBytes(): number {
    return this.#unsyncedBytes;
  }

  get hasUnsynced(): boolean {
    return this.#unsynced.length > 0;
  }

  /** SHA-256, in hexadecimal digits. */
  digestOf(content: Uint8Array): string {
    return createHash('sha256').update(content).digest('hex');
  }

  #isContent(i: number, content: Uint8Array): boolean {
    if (content.length !== this.table.length(i)) return false;
    return createHash('sha256').update(content).digest().equals(this.table.digest(i));
  }

  /**
   * Takes the content of chunk `i` in. @returns false, and takes nothing, when it is not what the table says.
   * @throws the error of write(2).
   */
  async put(i: number, content: Uint8Array): Promise<boolean> {
    if (!this.#isContent(i, content)) return false;
    await this.#write(content, this.table.at(i));
    if (this.#closed || this.map.isHere(i)) return true;
    this.map.mark(i);
    this.#absent--;
    this.#residentBytes += content.length;
    this.#unsynced.push(i);
    this.#unsyncedBytes += content.length;
    return true;
  }

  async #write(content: Uint8Array, at: number): Promise<void> {
    for (let done = 0; done < content.length; ) {
      const n = content.length - done;
      done += (await writeAt(this.blob, content, done, n, at + done)).bytesWritten;
    }
  }

  /** Has all that is here on disk, and says so in the map. One at a time. */
  sync(): Promise<void> {
    const next = this.#syncing.then(() => this.#sync());
    this.#syncing = next.catch(() => {});
    return next;
  }

  async #sync(): Promise<void> {
    if (this.#unsynced.length === 0 || this.#closed) return;
    const list = this.#unsynced;
    this.#unsynced = [];
    this.#unsyncedBytes = 0;
    try {
      await fdatasync(this.blob);
    } catch (error) {
      // Which of them the kernel could not write is not known, and asking again would only hide it.
      this.clear(list);
      throw error;
    }
    if (!this.#closed) for (const i of list) this.map.markDurable(i);
  }

  /**
   * When every chunk is here: has them on disk, looks once more, and says so by the file `complete`.
   * @returns whether the layer is complete now.
   */
  async complete(): Promise<boolean> {
    if (this.folder.isComplete) return true;
    if (this.#absent > 0) return false;
    await this.sync();
    if (this.#absent > 0 || this.#closed) return false;
    for (let i = 0; i < this.table.count; i++) if (!this.map.isDurable(i)) return false;
    const { size } = fstatSync(this.blob);
    if (size !== this.table.blobSize) {
      throw new LoadError(`${this.folder.blob}: ${size} bytes, not ${this.table.blobSize}`);
    }
    fsyncSync(this.blob);
    this.map.setComplete();
    markComplete(this.folder);
    return true;
  }

  /** Takes chunks back: from now on they are not here. Their bytes are still in the blob; evict.ts removes them. */
  clear(list: readonly number[]): void {
    unmarkComplete(this.folder);
    this.map.clear(list);
    const gone = new Set(list);
    for (const i of gone) {
      this.#absent++;
      this.#residentBytes -= this.table.length(i);
    }
    this.#unsynced = this.#unsynced.filter((i) => !gone.has(i));
  }

  /** Gives the layer up. @param keepBlob its descriptor is somebody else's, too. */
  close(keepBlob = false): void {
    if (this.#closed) return;
    this.#closed = true;
    this.map.close();
    if (!keepBlob) closeSync(this.blob);
    closeSync(this.#lock);
  }
}

/**
 * Takes the lock of a layer: whoever has it is the only one who loads it, or takes its content back.
 * @returns its descriptor. @throws LayerBusyError, LoadError.
 */
export function lockLayer(folder: LayerFolder): number {
  if (!folder.exists) throw new LoadError(`${folder.path}: no layer is there: pull its image`);
  const lock = openSync(folder.lock, 'a', 0o600);
  const r = lockFile(lock);
  if (r >= 0) return lock;
  closeSync(lock);
  if (r === -E.AGAIN) {
    throw new LayerBusyError(
      `${folder.path}: another process loads this layer: unmount what has it, or wait until that is complete (varve detach --wait)`,
    );
  }
  throw new LoadError(`${folder.lock}: cannot be locked: errno ${-r}`);
}

/** Opens a blob; where there is none, or it is shorter, it becomes one of `size` bytes of hole. */
function openBlob(path: string, size: number): number {
  const fd = openSync(path, 'a+', 0o600);
  closeSync(fd);
  // Not for appending: pwrite(2) would ignore its place.
  const blob = openSync(path, 'r+');
  if (fstatSync(blob).size < size) ftruncateSync(blob, size);
  return blob;
}

/** Tables of this very layer; one that is missing or damaged is none. */
function olderTables(folder: LayerFolder, { id, older = [], origins }: LayerRecord): ChunkTable[] {
  const tables: ChunkTable[] = [];
  for (const name of older) {
    try {
      const table = new ChunkTable(readFileSync(folder.olderTable(name)));
      const isWhole = !table.isNowhere && table.origins <= origins.length;
      if (isWhole && table.layerId() === id) tables.push(table);
    } catch {
      // There are the others.
    }
  }
  return tables;
}

/** Says that every chunk is on disk. */
export function markComplete(folder: LayerFolder): void {
  const fresh = `${folder.complete}.new`;
  writeFileSync(fresh, '');
  const fd = openSync(fresh, 'r');
  fsyncSync(fd);
  closeSync(fd);
  renameSync(fresh, folder.complete);
  syncFolder(folder.path);
}

/** Takes that word back, on disk. */
export function unmarkComplete(folder: LayerFolder): void {
  rmSync(folder.complete, { force: true });
  syncFolder(folder.path);
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
