// The kernel's way into the loader: who reads a marked blob waits until the chunks are here, without FUSE.
// Used by kernel-uses.ts, which knows the loader and its mounts. Descriptors that outlive the loader are the supervisor's too: as long as one
// duplicate of a group is open its readers wait, and the successor of a dead loader answers what that one had in hand.
// Follows: fanotify(7), pre-content events of Linux 6.14 and newer.

import { closeSync, existsSync, openSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { E, errnoName } from '../../linux/errno.js';
import {
  answerEvent,
  markPreContent,
  type PreContentEvent,
  preContentGroup,
  unmarkPreContent,
} from '../../linux/fanotify.js';
import { duplicate, isOpenElsewhere, takeNumber } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { pipe } from '../../linux/poll.js';
import type { ChunkTable } from '../chunk-table.js';
import type { LayerFolder } from '../layer-folder.js';
import type { ResidencyMap } from '../residency.js';
import { type ChunkRun, chunksOf } from './chunks-of.js';
import { EventRecord } from './event-record.js';
import type { FromReader, ReaderData, ToReader } from './worker-protocol.js';

/** Whoever holds descriptors for the loader's successor: the supervisor. */
export interface Keeper {
  /** What a predecessor had kept; the caller's from then on. */
  get(name: string): number | undefined;
  /** Names that a predecessor had kept. */
  names(): readonly string[];
  /** The supervisor has duplicates when this returns. @throws KernelWayError when it has not: readers would get zeros one day. */
  add(descriptors: ReadonlyMap<string, number>): void;
  /** The supervisor closes its duplicates. */
  drop(names: readonly string[]): void;
}

export interface KernelWayHost {
  /** Somebody waits for chunks `first` .. `first + count - 1` of a layer. Answered by here() or failed(). */
  want(id: string, first: number, count: number): void;
  /** Nobody waits for them by this way any more. */
  drop(id: string, first: number, count: number): void;
  readonly keeper: Keeper;
}

/** A layer as the loader has it open. */
export interface KernelLayer {
  /** `sha256:HEX` */
  readonly id: string;
  readonly folder: LayerFolder;
  readonly table: ChunkTable;
  readonly map: ResidencyMap;
  /** Opened for reading and writing before there was a mark: for a successor the one that was kept. */
  readonly blob: number;
}

/** A layer of a predecessor. */
export interface InheritedLayer {
  readonly id: string;
  readonly blob: number;
  /** What it had noted; empty when it died before it had noted anything. */
  readonly note: string;
}

/** The kernel cannot do it; FUSE can. */
export class KernelWayError extends Error {}

/** One reader that waits. */
interface Waiter {
  readonly slot: number;
  /** Number of the event. */
  readonly fd: number;
  readonly pid: number;
  readonly run: ChunkRun;
  readonly since: number;
  /** Whether the descriptor is to be closed with the answer. */
  readonly owned: boolean;
  /** What it is to be answered: errno, or 0. */
  answer?: number;
}

interface Open extends KernelLayer {
  /** Then the map is not looked at any more: the loader has closed it. */
  isComplete: boolean;
  readonly group: number;
  /** Descriptor of the record. */
  readonly events: number;
  readonly record: EventRecord;
  /** Numbers of orphans that are something else's in this process; see #adopt(). */
  readonly twins: Set<number>;
  /** In the order in which the kernel has them. */
  readonly waiters: Set<Waiter>;
  /** How many wait for a chunk. */
  readonly wanted: Map<number, number>;
}

/** A reader that waits, for people. */
export interface KernelWaiter {
  /** The first chunk that it lacks. */
  readonly chunk: number;
  /** 0: of another PID namespace. */
  readonly pid: number;
  readonly milliseconds: number;
}

/** Names of a layer's descriptors with the keeper: its blob, its group, its record of events. */
export const namesOf = (id: string): string[] => [`blob:${id}`, `group:${id}`, `events:${id}`];

/** Milliseconds between two looks at whether those who wait still live. */
const SWEEP = 5000;

export class KernelWay {
  readonly #host: KernelWayHost;
  readonly #layers = new Map<string, Open>();
  readonly #removals = new Map<string, () => void>();
  #worker: Worker | undefined;
  #wake = -1;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(host: KernelWayHost) {
    this.#host = host;
  }

  /** Layers that a predecessor had by this way: add() them before anything else is done. */
  static inherited(keeper: Keeper): InheritedLayer[] {
    const found: InheritedLayer[] = [];
    for (const name of keeper.names()) {
      if (!name.startsWith('group:')) continue;
      const id = name.slice('group:'.length);
      const events = keeper.get(`events:${id}`);
      const blob = keeper.get(`blob:${id}`);
      if (events === undefined || blob === undefined) continue;
      const record = new EventRecord(events);
      found.push({ id, blob, note: record.note });
      record.close();
    }
    return found;
  }

  /** For a successor. */
  note(id: string, text: string): void {
    const layer = this.#layers.get(id);
    if (layer !== undefined) layer.record.note = text;
  }

  /**
   * Reads of the blob wait from now on, when they are made through descriptors that are opened after this.
   * @param note for a successor. @throws KernelWayError when the kernel or the filesystem of the blob has no such events.
   */
  add(layer: KernelLayer, note: string): void {
    const { id } = layer;
    if (this.#layers.has(id)) return;
    const { keeper } = this.#host;
    const inherited = keeper.get(`group:${id}`);
    const events = keeper.get(`events:${id}`);
    if (inherited !== undefined && events !== undefined) {
      // It may have died before the mark was made; a second mark changes nothing.
      this.#mark(layer, inherited, events, note);
      return;
    }
    const group = preContentGroup();
    if (group < 0) throw new KernelWayError(`fanotify_init: ${errnoName(group)}`);
    const record = EventRecord.create();
    const fds = [layer.blob, group, record];
    // First the duplicates, then the mark: a group that ends lets its readers read holes.
    try {
      keeper.add(new Map(namesOf(id).map((name, i) => [name, fds[i] as number])));
    } catch (error) {
      for (const fd of [group, record]) closeSync(fd);
      throw error;
    }
    this.#mark(layer, group, record, note);
  }

  #mark(layer: KernelLayer, group: number, events: number, note: string): void {
    const record = new EventRecord(events);
    record.note = note;
    const r = markPreContent(group, layer.blob);
    if (r < 0) {
      record.close();
      this.#host.keeper.drop(namesOf(layer.id));
      closeSync(group);
      closeSync(events);
      throw new KernelWayError(`fanotify_mark ${layer.folder.blob}: ${errnoName(r)}`);
    }
    const open: Open = {
      ...layer,
      blob: duplicate(layer.blob),
      isComplete: false,
      group,
      events,
      record,
      twins: new Set(),
      waiters: new Set(),
      wanted: new Map(),
    };
    this.#layers.set(layer.id, open);
    this.#adopt(open);
    const { table, map } = layer.folder;
    this.#post({ op: 'add', id: layer.id, group, events, table, map, twins: [...open.twins] });
  }

  /**
   * Takes over the events that a predecessor had read. The kernel answers by number, the oldest first: no other event may get
   * the number of one of them before it is answered. Where the number is in use here, it may come free and then be another
   * event's too: a twin.
   */
  #adopt(layer: Open): void {
    const scrap = openSync('/dev/null', 'r');
    const orphans = layer.record.inHand().map((slot) => {
      const event = layer.record.at(slot) as PreContentEvent;
      const owned = takeNumber(event.fd, scrap);
      if (!owned) layer.twins.add(event.fd);
      return { slot, event, owned };
    });
    closeSync(scrap);
    for (const { slot, event, owned } of orphans) this.#wait(layer, slot, event, owned);
  }

  #wait(layer: Open, slot: number, event: PreContentEvent, owned: boolean): void {
    const { fd, pid } = event;
    const run = chunksOf(layer.table, event.at, event.length);
    const waiter: Waiter = { slot, fd, pid, run, since: Date.now(), owned };
    layer.waiters.add(waiter);
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP).unref();
    // What has come since the thread looked will not be told again.
    if (isHere(layer, run)) {
      this.#answer(layer, waiter, 0);
      return;
    }
    for (const part of this.#count(layer, run, 1)) {
      this.#host.want(layer.id, part.from, part.to - part.from);
    }
  }

  /** Counts who waits for the chunks of a run. @returns those that are absent and are wanted now, or are no longer. */
  #count({ map, wanted, isComplete }: Open, run: ChunkRun, by: 1 | -1): ChunkRun[] {
    if (isComplete) return [];
    const parts: { from: number; to: number }[] = [];
    for (let i = run.from; i < run.to; i++) {
      const before = wanted.get(i) ?? 0;
      const after = before + by;
      if (after === 0) wanted.delete(i);
      else wanted.set(i, after);
      if ((before === 0) === (after === 0) || map.isHere(i)) continue;
      const last = parts.at(-1);
      if (last !== undefined && last.to === i) last.to++;
      else parts.push({ from: i, to: i + 1 });
    }
    return parts;
  }

  /** Whoever was asked for chunks has forgotten them. */
  wantAgain(id: string): void {
    const layer = this.#layers.get(id);
    for (const chunk of layer?.wanted.keys() ?? []) {
      if (layer?.map.isHere(chunk) === false) this.#host.want(id, chunk, 1);
    }
  }

  /** Chunks have arrived, and the map says so. */
  here(id: string, first: number, count: number): void {
    const layer = this.#layers.get(id);
    if (layer === undefined) return;
    for (const waiter of layer.waiters) {
      const { from, to } = waiter.run;
      if (from < first + count && to > first && isHere(layer, waiter.run)) {
        this.#done(layer, waiter, 0);
      }
    }
  }

  /** They cannot be had now: who waits for them gets an error, and may read again. */
  failed(id: string, first: number, count: number): void {
    const layer = this.#layers.get(id);
    if (layer === undefined) return;
    for (const waiter of layer.waiters) {
      const { from, to } = waiter.run;
      if (from < first + count && to > first) this.#done(layer, waiter, E.IO);
    }
  }

  #done(layer: Open, waiter: Waiter, errno: number): void {
    if (waiter.answer !== undefined) return;
    for (const part of this.#count(layer, waiter.run, -1)) {
      this.#host.drop(layer.id, part.from, part.to - part.from);
    }
    this.#answer(layer, waiter, errno);
  }

  /** Twins are answered together, so that it does not matter whose answer the kernel takes for whose. */
  #answer(layer: Open, waiter: Waiter, errno: number): void {
    waiter.answer = errno;
    const { twins, waiters, record, group } = layer;
    const same = twins.has(waiter.fd)
      ? [...waiters].filter(({ fd }) => fd === waiter.fd)
      : [waiter];
    if (same.some(({ answer }) => answer === undefined)) return;
    let isAwaited = false;
    for (const { slot, fd, answer } of same) {
      answerEvent(group, fd, answer as number);
      if (record.clear(slot)) isAwaited = true;
    }
    for (const one of same) {
      waiters.delete(one);
      if (one.owned) closeSync(one.fd);
    }
    if (isAwaited) this.#post({ op: 'look' });
  }

  /** Gives up what killed readers had wanted. */
  #sweep(): void {
    let waiting = 0;
    for (const layer of this.#layers.values()) {
      for (const waiter of layer.waiters) {
        if (waiter.pid > 0 && !existsSync(`/proc/${waiter.pid}`)) this.#done(layer, waiter, E.IO);
      }
      waiting += layer.waiters.size;
    }
    if (waiting > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Who waits for what. */
  waiting(id: string): KernelWaiter[] {
    const layer = this.#layers.get(id);
    if (layer === undefined) return [];
    const now = Date.now();
    return [...layer.waiters].map(({ run, pid, since }) => ({
      chunk: layer.isComplete ? run.from : Math.min(layer.map.nextAbsent(run.from), run.to),
      pid,
      milliseconds: now - since,
    }));
  }

  /** Whether anybody has the blob open, a mounted filesystem most of all: a mount of any namespace, also a detached one. */
  isInUse(id: string): boolean {
    const layer = this.#layers.get(id);
    return layer !== undefined && isOpenElsewhere(layer.blob);
  }

  /**
   * Nobody waits any more: the layer is complete, or nobody uses it. Nothing of ours is left in the way of its readers; the
   * supervisor is told to let go, too.
   * @param complete then the layer's map is not looked at any more, not even by this call.
   */
  async release(id: string, complete: boolean): Promise<void> {
    const layer = this.#layers.get(id);
    if (layer === undefined || this.#removals.has(id)) return;
    layer.isComplete = complete;
    unmarkPreContent(layer.group, layer.blob);
    const removed = new Promise<void>((resolve) => this.#removals.set(id, resolve));
    this.#post({ op: 'remove', id });
    await removed;
    for (const waiter of layer.waiters) {
      this.#done(layer, waiter, isHere(layer, waiter.run) ? 0 : E.IO);
    }
    this.#layers.delete(id);
    layer.record.close();
    for (const fd of [layer.group, layer.events, layer.blob]) closeSync(fd);
    this.#host.keeper.drop(namesOf(id));
  }

  #post(message: ToReader): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
    writeSync(this.#wake, '!');
  }

  #start(): Worker {
    mapMemory();
    const ends = pipe();
    if (typeof ends === 'number') throw new KernelWayError(`pipe: ${errnoName(ends)}`);
    const [wake, waker] = ends;
    this.#wake = waker;
    const data: ReaderData = { wake };
    const worker = new Worker(new URL('./fanotify-worker.js', import.meta.url), {
      workerData: data,
      execArgv: [],
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 },
    });
    worker.unref();
    worker.on('message', (message: FromReader) => this.#hear(message));
    // Readers wait, the supervisor starts a successor: better than a loader that does not hear them.
    worker.on('error', (error) => {
      throw error;
    });
    return worker;
  }

  #hear(message: FromReader): void {
    if (message.op === 'removed') {
      this.#removals.get(message.id)?.();
      this.#removals.delete(message.id);
      return;
    }
    const layer = this.#layers.get(message.id);
    if (layer === undefined) return;
    for (const slot of message.slots) {
      const event = layer.record.at(slot);
      if (event !== undefined) this.#wait(layer, slot, event, true);
    }
  }

  /** Ends the thread, so that the process can end. Who waits goes on waiting, for a successor. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    const worker = this.#worker;
    if (worker === undefined) return;
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    this.#post({ op: 'end' });
    await ended;
  }
}

function isHere({ isComplete, map }: Open, { from, to }: ChunkRun): boolean {
  return isComplete || map.allHere(from, to);
}
