// The loader as a library: layers that are in use, who uses them, and what commands ask of it.
// Run by stack/loader.ts, which adds a socket (connection.ts), a registry and the supervisor; tests add others.
// It ends when no layer is left that is in use and not complete; whoever comes later starts another.

import { EventEmitter } from 'node:events';
import { statSync } from 'node:fs';
import { E } from '../../linux/errno.js';
import { NOWHERE } from '../chunk-table.js';
import { LayerFolder } from '../layer-folder.js';
import type { LayerStatus, LoaderCommand, LoaderStatus, LoadPolicy } from '../protocol.js';
import { layerCheckpoints } from '../tar/checkpoint-reader.js';
import { chooseVictims, evict } from './evict.js';
import type { ReadRange } from './fetch.js';
import { GuessedLayer, Guesser } from './guess.js';
import { LoadError, LoadedLayer, whenFree } from './layer.js';
import { OrderRecord } from './order.js';
import { LayerQueue, type LayerUse, type Waiter } from './queue.js';
import type { Streams } from './runs.js';
import { Scheduler, type SchedulerOptions } from './scheduler.js';

export interface LoaderOptions {
  readonly read: ReadRange;
  readonly whole?: SchedulerOptions['whole'];
  readonly local?: SchedulerOptions['local'];
  /** The blob of a layer's folder as a predecessor had opened it. */
  readonly keptBlob?: (folder: string) => number | undefined;
  /** Processes that wait for chunks of a layer by the kernel's way. */
  readonly readers?: (id: string) => readonly { readonly chunk: number; readonly pid: number }[];
  readonly log?: (line: string) => void;
  readonly clock?: () => number;
  readonly connections?: number;
  /** What `read` and `whole` keep to; `bytesPerSecond` 0: nothing. */
  readonly limits?: { bytesPerSecond: number };
  readonly pause?: SchedulerOptions['pause'];
  readonly quiet?: number;
  /** Milliseconds between the last chunk that came and its being on disk. */
  readonly syncAfter?: number;
}

const U32 = 0xffff_ffff;
/** Bytes that may wait to be on disk, and milliseconds for which they may where nothing else comes. */
const SYNC_BYTES = 64 << 20;
const SYNC_AFTER = 1000;
/** Milliseconds between two looks at those who wait for a limited time, and at records. */
const TICK = 250;

/** What somebody does with a layer. */
export interface Use {
  /** Absolute path of the layer's folder. */
  readonly folder: string;
  readonly mountpoint: string;
  readonly policy: LoadPolicy;
  readonly waiter: Waiter;
  /** The mount is the kernel's, which never looks at the map: nothing that is here may go. */
  readonly byKernel?: boolean;
}

/** A use that has begun. */
export class OpenUse implements LayerUse {
  readonly mountpoint: string;
  readonly waiter: Waiter;
  readonly byKernel: boolean;
  readonly wants = new Map<number, number>();
  policy: LoadPolicy;
  /** Undefined: the layer is complete, and nothing is to be done. */
  readonly entry: Entry | undefined;
  readonly #loader: Loader;

  constructor(loader: Loader, use: Use, entry: Entry | undefined) {
    this.#loader = loader;
    this.mountpoint = use.mountpoint;
    this.waiter = use.waiter;
    this.policy = use.policy;
    this.byKernel = use.byKernel === true;
    this.entry = entry;
  }

  get isComplete(): boolean {
    return this.entry === undefined;
  }

  /** The layer, for whoever marks its blob. */
  get layer(): LoadedLayer | undefined {
    return this.entry?.layer;
  }

  /** Chunks of the layer, as far as they can be wanted. */
  get count(): number {
    return this.entry?.layer.table.count ?? U32;
  }

  get records(): boolean {
    return this.policy.record && this.entry !== undefined;
  }

  /** Chunks `first` to `first + count - 1` are waited for; all of them are in the table. */
  want(first: number, count: number): void {
    if (this.entry !== undefined) this.#loader.want(this, this.entry, first, count);
  }

  drop(first: number, count: number): void {
    this.entry?.queue.drop(this, range(first, count, this.entry.layer.table.count));
  }

  used(first: number, count: number): void {
    this.entry?.used(first, count);
  }

  end(): void {
    if (this.entry !== undefined) this.#loader.endUse(this, this.entry);
  }
}

/** A layer that is not complete, or was not when its first user came. */
class Entry {
  readonly layer: LoadedLayer;
  readonly identity: string;
  readonly queue: LayerQueue;
  readonly guessed: GuessedLayer;
  record: OrderRecord | undefined;
  /** When each chunk was last wanted or used: seconds since the loader began. */
  readonly lastUse: Uint32Array;
  readonly #clock: () => number;
  syncTimer: NodeJS.Timeout | undefined;
  /** It is being completed, or given up. */
  closing = false;
  finishing: Promise<void> = Promise.resolve();

  constructor(
    layer: LoadedLayer,
    identity: string,
    clock: () => number,
    checkpoints: Streams | undefined,
  ) {
    this.layer = layer;
    this.identity = identity;
    this.#clock = clock;
    this.queue = new LayerQueue(layer, clock, checkpoints);
    this.guessed = new GuessedLayer(layer, this.queue);
    this.lastUse = new Uint32Array(layer.table.count);
  }

  used(first: number, count: number): void {
    const now = Math.floor(this.#clock() / 1000) + 1;
    const end = Math.min(first + count, this.lastUse.length);
    for (let i = Math.max(0, first); i < end; i++) this.lastUse[i] = now;
    this.record?.used(first, count);
  }
}

/** The layer's way into a compressed stream, where it has one. @throws LoadError when it is damaged. */
function checkpointsOf(folder: LayerFolder): Streams | undefined {
  try {
    return layerCheckpoints(folder);
  } catch (error) {
    throw new LoadError(`${folder.checkpoints}: ${error instanceof Error ? error.message : error}`);
  }
}

/** What stays of a folder when it is renamed, and is nobody else's while the layer is open: its blob. */
function identityOf(folder: string): string {
  const stat = statSync(new LayerFolder(folder).blob, { throwIfNoEntry: false });
  return stat === undefined ? folder : `${stat.dev}:${stat.ino}`;
}

function* range(first: number, count: number, end: number): Generator<number> {
  for (let i = first; i < Math.min(first + count, end); i++) yield i;
}

/**
 * `idle`: no layer is in use that is not complete. `complete`: a layer is (the folder's path); its uses were told.
 * `limit`: another was asked for.
 */
interface LoaderEvents {
  idle: [];
  complete: [folder: string];
  limit: [bytesPerSecond: number];
}

export class Loader extends EventEmitter<LoaderEvents> {
  readonly #options: LoaderOptions;
  readonly #clock: () => number;
  readonly #log: (line: string) => void;
  readonly #scheduler: Scheduler;
  /** By identityOf() their folders: these are renamed when a layer is published. */
  readonly #entries = new Map<string, Entry>();
  /** The same ones. */
  readonly #ofQueue = new Map<LayerQueue, Entry>();
  /** Layers that are being given up: who wants one of them again waits for that. */
  readonly #leaving = new Map<string, Promise<void>>();
  readonly #guesser = new Guesser((of) => this.#beside(of));
  readonly #tick: NodeJS.Timeout;
  #ended = false;
  /** Uses that wait until another process lets go of their layer. */
  #awaited = 0;

  constructor(options: LoaderOptions) {
    super();
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
    this.#log = options.log ?? (() => {});
    const { read, whole, local, connections, pause, quiet } = options;
    this.#scheduler = new Scheduler({
      read,
      whole,
      local,
      connections,
      pause,
      quiet,
      clock: this.#clock,
      log: this.#log,
      from: ({ layer, checkpoints }) => ({
        table: layer.table,
        origins: layer.record.origins,
        sources: layer.record.sources,
        checkpoints,
      }),
      stored: (queue) => this.#stored(queue),
    });
    this.#tick = setInterval(() => this.#look(), TICK);
    this.#tick.unref();
  }

  /** Whether a layer is in use that is not complete, or about to be. */
  get isBusy(): boolean {
    return this.#entries.size > 0 || this.#leaving.size > 0 || this.#awaited > 0;
  }

  /** As whenFree() of layer.ts: the loader counts as busy meanwhile. */
  async whenFree<T extends object | boolean>(open: () => Promise<T>): Promise<T> {
    this.#awaited++;
    try {
      return await whenFree(open);
    } finally {
      this.#awaited--;
    }
  }

  /**
   * Somebody uses a layer from now on.
   * @throws LoadError when it cannot be loaded.
   */
  async use(use: Use): Promise<OpenUse> {
    const identity = identityOf(use.folder);
    for (let leaving = this.#leaving.get(identity); leaving !== undefined; ) {
      await leaving;
      leaving = this.#leaving.get(identity);
    }
    const known = this.#entries.get(identity);
    // It was published since it was opened.
    if (known !== undefined && known.layer.folder.path !== use.folder) {
      known.layer.hasMoved(new LayerFolder(use.folder));
    }
    const entry = known ?? this.#open(use.folder);
    const open = new OpenUse(this, use, entry);
    if (entry === undefined) return open;
    entry.queue.uses.add(open);
    if (use.policy.record) this.#record(entry, true);
    this.#scheduler.wake();
    return open;
  }

  /** @returns undefined when the layer is complete. */
  #open(path: string): Entry | undefined {
    const folder = new LayerFolder(path);
    if (folder.exists && folder.isComplete) return undefined;
    const checkpoints = checkpointsOf(folder);
    const layer = LoadedLayer.open(folder, this.#options.keptBlob?.(path));
    const entry = new Entry(layer, identityOf(path), this.#clock, checkpoints);
    this.#entries.set(entry.identity, entry);
    this.#ofQueue.set(entry.queue, entry);
    entry.queue.heard = (chunks) => this.#guesser.arrived(entry.guessed, chunks);
    this.#scheduler.add(entry.queue);
    if (layer.absent === 0) setImmediate(() => this.#finish(entry));
    else if (layer.hasUnsynced) this.#planSync(entry);
    return entry;
  }

  /** Called by OpenUse. */
  want(use: OpenUse, entry: Entry, first: number, count: number): void {
    const { queue, layer } = entry;
    entry.used(first, count);
    const here: number[] = [];
    const absent: number[] = [];
    for (const i of range(first, count, layer.table.count)) {
      (layer.map.isHere(i) ? here : absent).push(i);
    }
    queue.want(use, [...here, ...absent]);
    if (here.length > 0) setImmediate(() => queue.arrived(here.filter((i) => layer.map.isHere(i))));
    const lost = absent.filter((i) => layer.table.origin(i) === NOWHERE);
    if (lost.length > 0) {
      queue.trouble = `chunk ${lost[0]} lies in no registry`;
      setImmediate(() => queue.refused(lost, E.IO));
    }
    const isDown = queue.failures > 0 && this.#clock() < queue.retryAt;
    if (isDown && use.policy.stall === 'eio') {
      setImmediate(() => queue.refused(absent, E.IO, (other) => other === use));
    }
    if (absent.length > 0) {
      if (queue.prefetches) this.#guesser.wanted(entry.guessed, first, count);
      this.#scheduler.wake();
    }
  }

  /** Layers of the mounts of one layer, as they were announced: topmost first. */
  *#beside({ queue }: GuessedLayer): Generator<GuessedLayer> {
    const mounts = new Set([...queue.uses].map(({ mountpoint }) => mountpoint));
    for (const entry of this.#entries.values()) {
      const { uses, prefetches } = entry.queue;
      const isBeside = [...uses].some(({ mountpoint }) => mounts.has(mountpoint));
      if (isBeside && prefetches) yield entry.guessed;
    }
  }

  /** Called by OpenUse. */
  endUse(use: OpenUse, entry: Entry): void {
    entry.queue.drop(use, [...use.wants.keys()]);
    if (!entry.queue.uses.delete(use)) return;
    if (![...entry.queue.uses].some(({ policy }) => policy.record)) this.#record(entry, false);
    if (entry.queue.uses.size === 0) void this.#giveUp(entry);
  }

  #record(entry: Entry, on: boolean): void {
    if (on) {
      entry.record ??= new OrderRecord(entry.layer.folder.order, entry.layer.table.count, false);
    } else {
      entry.record?.write();
      entry.record = undefined;
    }
  }

  #stored(queue: LayerQueue): void {
    const entry = this.#ofQueue.get(queue);
    if (entry === undefined || entry.closing) return;
    if (entry.layer.absent === 0) this.#finish(entry);
    else if (entry.layer.unsyncedBytes >= SYNC_BYTES) void this.#sync(entry);
    else if (entry.layer.hasUnsynced) this.#planSync(entry);
  }

  #planSync(entry: Entry): void {
    clearTimeout(entry.syncTimer);
    entry.syncTimer = setTimeout(
      () => void this.#sync(entry),
      this.#options.syncAfter ?? SYNC_AFTER,
    );
  }

  async #sync(entry: Entry): Promise<void> {
    clearTimeout(entry.syncTimer);
    try {
      await entry.layer.sync();
    } catch (error) {
      this.#trouble(entry, error);
      this.#scheduler.wake();
    }
  }

  #trouble(entry: Entry, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    entry.queue.trouble = message;
    this.#log(`${entry.layer.folder.path}: ${message}`);
  }

  /** Every chunk is here. */
  #finish(entry: Entry): void {
    if (entry.closing || entry.layer.absent > 0) return;
    entry.closing = true;
    entry.finishing = this.#complete(entry);
  }

  async #complete(entry: Entry): Promise<void> {
    clearTimeout(entry.syncTimer);
    const complete = await entry.layer.complete().catch((error: unknown) => {
      this.#trouble(entry, error);
      return false;
    });
    if (!complete) {
      entry.closing = false;
      if (entry.queue.uses.size === 0 || this.#ended) return this.#giveUp(entry);
      // Chunks were taken back, or the disk does not take it: another attempt.
      entry.syncTimer = setTimeout(() => this.#stored(entry.queue), SYNC_AFTER);
      this.#scheduler.wake();
      return;
    }
    const path = entry.layer.folder.path;
    this.#log(`${path}: complete`);
    for (const use of entry.queue.uses) use.waiter.complete();
    this.emit('complete', path);
    await this.#close(entry);
  }

  /** Nobody uses the layer any more. */
  async #giveUp(entry: Entry): Promise<void> {
    if (entry.closing) return;
    entry.closing = true;
    clearTimeout(entry.syncTimer);
    await this.#close(entry);
  }

  async #close(entry: Entry): Promise<void> {
    const { identity } = entry;
    const { path } = entry.layer.folder;
    this.#entries.delete(identity);
    this.#ofQueue.delete(entry.queue);
    const gone = (async () => {
      await this.#scheduler.remove(entry.queue);
      this.#record(entry, false);
      await entry.layer.sync().catch((error: unknown) => this.#trouble(entry, error));
      entry.layer.close(this.#options.keptBlob?.(path) === entry.layer.blob);
    })();
    this.#leaving.set(identity, gone);
    await gone;
    this.#leaving.delete(identity);
    if (!this.isBusy) this.emit('idle');
  }

  /** Those who wait no longer than so many seconds, and records. */
  #look(): void {
    const now = this.#clock();
    for (const entry of this.#entries.values()) {
      entry.record?.write();
      for (const use of entry.queue.uses) {
        const { stall } = use.policy;
        if (typeof stall !== 'number') continue;
        const late = [...use.wants].filter(([, since]) => now - since >= stall * 1000);
        if (late.length === 0) continue;
        entry.queue.refused(
          late.map(([i]) => i),
          E.AGAIN,
          (other) => other === use,
        );
      }
    }
  }

  /** @throws LoadError when it cannot be done. */
  async perform(command: LoaderCommand): Promise<object> {
    switch (command.op) {
      case 'status':
        return this.status(command.mountpoint, command.map);
      case 'fill':
        for (const { queue } of this.#of(command.mountpoint)) {
          queue.fillAll = true;
          queue.noFill = false;
        }
        this.#scheduler.wake();
        return {};
      case 'record':
        for (const entry of this.#of(command.mountpoint)) this.#record(entry, command.on);
        return {};
      case 'limit':
        this.#limit(command.bytesPerSecond);
        return {};
      case 'starts':
        this.#starts(command);
        return {};
      case 'evict':
        return { evictedBytes: this.#evictAll(command) };
      default:
        throw new LoadError(`unknown command ${JSON.stringify((command as { op: unknown }).op)}`);
    }
  }

  #limit(bytesPerSecond: number): void {
    const { limits } = this.#options;
    if (limits === undefined) throw new LoadError('there is nothing to be limited');
    if (!Number.isSafeInteger(bytesPerSecond) || bytesPerSecond < 0) {
      throw new LoadError('bytesPerSecond: no number of bytes');
    }
    limits.bytesPerSecond = bytesPerSecond;
    this.emit('limit', bytesPerSecond);
  }

  #starts({ programs, folders }: LoaderCommand & { op: 'starts' }): void {
    for (const path of folders) {
      const entry = this.#entries.get(identityOf(path));
      if (entry === undefined || !entry.queue.prefetches) continue;
      for (const program of programs) this.#guesser.starts(entry.guessed, program);
      break;
    }
    this.#scheduler.wake();
  }

  #of(mountpoint: string): Entry[] {
    const found = [...this.#entries.values()].filter(({ queue }) =>
      [...queue.uses].some((use) => use.mountpoint === mountpoint),
    );
    if (found.length === 0) {
      throw new LoadError(`${mountpoint}: has no layer that is being loaded`);
    }
    return found;
  }

  #evictAll({ mountpoint, keep }: LoaderCommand & { op: 'evict' }): number {
    if (!Number.isSafeInteger(keep) || keep < 0) throw new LoadError('keep: no number of bytes');
    const entries = this.#of(mountpoint);
    for (const { queue } of entries) {
      if (![...queue.uses].some((use) => (use as OpenUse).byKernel)) continue;
      throw new LoadError(
        `${mountpoint}: is mounted by the kernel, which does not notice when content goes: unmount it first`,
      );
    }
    let bytes = 0;
    for (const entry of entries) bytes += this.#evict(entry, keep);
    return bytes;
  }

  #evict(entry: Entry, keep: number): number {
    const { layer, queue } = entry;
    if (entry.closing) return 0;
    const victims = chooseVictims(
      layer,
      keep,
      (i) => entry.lastUse[i] as number,
      (i) => queue.isInFlight(i) || queue.isWanted(i),
    );
    const bytes = evict(layer, victims, (i) => queue.isInFlight(i));
    // What was given up on purpose does not come back by itself.
    queue.noFill = true;
    queue.fillAll = false;
    queue.stopPrefetch();
    return bytes;
  }

  status(mountpoint?: string, withMap = false): LoaderStatus {
    const layers: LayerStatus[] = [];
    for (const { layer, queue } of this.#entries.values()) {
      const mountpoints = [...new Set([...queue.uses].map((use) => use.mountpoint))];
      if (mountpoint !== undefined && !mountpoints.includes(mountpoint)) continue;
      layers.push({
        id: layer.record.id,
        folder: layer.folder.path,
        form: layer.record.form,
        mountpoints,
        chunks: layer.table.count,
        residentChunks: layer.table.count - layer.absent,
        totalBytes: layer.totalBytes,
        residentBytes: layer.residentBytes,
        waiting: this.#waitingOf(layer, queue),
        fetchedBytes: queue.rate.total,
        rate: queue.rate.value,
        ...(queue.trouble === undefined ? {} : { trouble: queue.trouble }),
        ...(withMap ? { map: runLengths(layer, queue) } : {}),
      });
    }
    const limit = this.#options.limits?.bytesPerSecond ?? 0;
    return { pid: process.pid, ...(limit > 0 ? { limit } : {}), layers };
  }

  #waitingOf(layer: LoadedLayer, queue: LayerQueue): LayerStatus['waiting'] {
    const now = this.#clock();
    const readers = this.#options.readers?.(layer.record.id) ?? [];
    return [...queue.waiting].map(([chunk, uses]) => {
      const since = Math.min(...[...uses].map((use) => use.wants.get(chunk) ?? now));
      const pids = readers.filter((reader) => reader.chunk === chunk).map(({ pid }) => pid);
      return {
        chunk,
        ...(pids.length > 0 ? { pids } : {}),
        waiters: uses.size,
        milliseconds: Math.round(now - since),
        mountpoints: [...new Set([...uses].map((use) => use.mountpoint))],
      };
    });
  }

  /** Gives everything up; what is here is on disk when this returns. */
  async end(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#tick);
    this.#scheduler.end();
    await Promise.all(
      [...this.#entries.values()].map(async (entry) => {
        await entry.finishing;
        await this.#giveUp(entry);
      }),
    );
    await Promise.all(this.#leaving.values());
  }
}

/** A digit a chunk (0 absent, 1 here, 2 wanted) with how often it comes. */
function runLengths(layer: LoadedLayer, queue: LayerQueue): [number, number][] {
  const runs: [number, number][] = [];
  for (let i = 0; i < layer.table.count; i++) {
    const digit = layer.map.isHere(i) ? 1 : queue.isWanted(i) ? 2 : 0;
    const last = runs.at(-1);
    if (last?.[0] === digit) last[1]++;
    else runs.push([digit, 1]);
  }
  return runs;
}
