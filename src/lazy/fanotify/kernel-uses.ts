// The loader's users that are mounts of the kernel: they begin with a connection that says so, and end when nobody has the blob open.
// Made by stack/loader.ts beside the socket; asks the loader for chunks as a connection does, and lets readers go on by kernel-way.ts.
// A successor finds in the note of each layer for which mounts it was loaded, and how.

import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isOpenElsewhere } from '../../linux/files.js';
import { mountTable } from '../../linux/mountinfo.js';
import { LayerFolder } from '../layer-folder.js';
import type { LoadPolicy, UseRequest } from '../protocol.js';
import {
  type InheritedLayer,
  type Keeper,
  type KernelLayer,
  type KernelWaiter,
  KernelWay,
  namesOf,
} from './kernel-way.js';

/** One use of a layer, as the loader gives it. */
export interface KernelUse {
  /** Undefined: it is complete, and nothing is to be done. */
  readonly layer:
    | (Pick<KernelLayer, 'table' | 'map' | 'blob'> & { readonly record: { readonly id: string } })
    | undefined;
  want(first: number, count: number): void;
  drop(first: number, count: number): void;
  end(): void;
}

/** The loader, as far as it is needed here. */
export interface UsedLoader {
  use(use: {
    readonly folder: string;
    readonly mountpoint: string;
    readonly policy: LoadPolicy;
    readonly byKernel: true;
    readonly waiter: {
      here(first: number, count: number): void;
      failed(first: number, count: number, errno: number): void;
      complete(): void;
    };
  }): Promise<KernelUse>;
}

/** A mount that a layer is loaded for. */
interface MountNote {
  readonly mountpoint: string;
  readonly policy: LoadPolicy;
}

/** What a successor needs. */
interface Note {
  readonly folder: string;
  readonly mounts: readonly MountNote[];
}

const NOBODY: Note = { folder: '', mounts: [] };

interface Used {
  readonly id: string;
  readonly folder: string;
  /** By mount point. The first one is who wants chunks. */
  readonly uses: Map<string, { readonly use: KernelUse; readonly policy: LoadPolicy }>;
  /** Connections whose mount may still be about to be made. */
  pending: number;
  /** It is complete: what is left is taken down. */
  over: boolean;
}

/** Milliseconds between two looks at whether a layer is still in use. */
const LOOK = 1000;
/** Milliseconds after which a layer that could not be taken over is tried again. */
const RETRY = 3000;
/** Bytes of a note; a record has room for a little more. */
const LONGEST_NOTE = 8000;

export class KernelUses {
  readonly #loader: UsedLoader;
  readonly #way: KernelWay;
  readonly #keeper: Keeper;
  readonly #log: (line: string) => void;
  readonly #used = new Map<string, Used>();
  readonly #leaving = new Map<string, Promise<void>>();
  /** What a predecessor had and could not be taken over yet, by id. */
  readonly #waiting = new Map<string, InheritedLayer>();
  /** Blobs that a predecessor had opened, by folder. */
  readonly #kept = new Map<string, number>();
  /** One after the other: two users of a layer that nobody used yet. */
  #last: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(loader: UsedLoader, keeper: Keeper, log: (line: string) => void) {
    this.#loader = loader;
    this.#keeper = keeper;
    this.#log = log;
    this.#way = new KernelWay({
      keeper,
      want: (id, first, count) => this.#first(id)?.want(first, count),
      drop: (id, first, count) => this.#first(id)?.drop(first, count),
    });
  }

  #first(id: string): KernelUse | undefined {
    return [...(this.#used.get(id)?.uses.values() ?? [])][0]?.use;
  }

  /** The descriptor of a layer's blob that a predecessor had opened before the mark: another one would wait for itself. */
  keptBlob(folder: string): number | undefined {
    return this.#kept.get(folder);
  }

  /** Takes over what a predecessor had: its readers wait. Before anything else is done. */
  async adopt(): Promise<void> {
    for (const layer of KernelWay.inherited(this.#keeper)) await this.#adopt(layer);
    this.#look();
  }

  async #adopt(layer: InheritedLayer): Promise<void> {
    // Without a note the predecessor died before anybody could mount.
    const { folder, mounts } = layer.note === '' ? NOBODY : (JSON.parse(layer.note) as Note);
    this.#kept.set(folder, layer.blob);
    let taken = false;
    try {
      for (const { mountpoint, policy } of mounts) {
        if ((await this.#use(folder, mountpoint, policy)) !== undefined) taken = true;
      }
    } catch (error) {
      if (!taken && isOpenElsewhere(layer.blob)) {
        this.#wait(layer, `${folder}: ${error instanceof Error ? error.message : error}`);
        return;
      }
    }
    // Complete or not used, only not taken down: readers go on when the last duplicate of the group is closed.
    if (!taken) this.#letGo(layer.id);
  }

  #letGo(id: string): void {
    for (const name of namesOf(id)) closeSync(this.#keeper.get(name) as number);
    this.#keeper.drop(namesOf(id));
  }

  /** A layer that cannot be loaded now: its readers wait, and it is tried again until it can be or nobody uses it. */
  #wait(layer: InheritedLayer, message: string): void {
    this.#log(`${message}: those who read it wait`);
    this.#waiting.set(layer.id, layer);
    setTimeout(() => {
      this.#waiting.delete(layer.id);
      void this.#adopt(layer);
    }, RETRY);
  }

  /**
   * A layer for a mount that is about to be made. Resolves when it may be: from then on its readers wait for what is not here.
   * @param ended resolves when the mount stands, or will never be made.
   * @returns whether the layer is complete. @throws KernelWayError, or what the loader refuses with.
   */
  async use(request: UseRequest, ended: Promise<void>): Promise<boolean> {
    const { folder, mountpoint, policy } = request;
    const used = await this.#use(folder, mountpoint, policy);
    if (used === undefined) return true;
    used.pending++;
    void ended.then(() => {
      used.pending--;
      this.#look();
    });
    return false;
  }

  #use(folder: string, mountpoint: string, policy: LoadPolicy): Promise<Used | undefined> {
    const next = this.#last.then(() => this.#begin(folder, mountpoint, policy));
    this.#last = next.catch(() => {});
    return next;
  }

  /** @returns undefined when the layer is complete. */
  async #begin(path: string, mountpoint: string, policy: LoadPolicy): Promise<Used | undefined> {
    await this.#leaving.get(path);
    const known = this.#ofFolder(path);
    const use = await this.#loader.use({
      folder: path,
      mountpoint,
      policy,
      byKernel: true,
      waiter: {
        here: (first, count) => this.#way.here(used.id, first, count),
        failed: (first, count) => this.#way.failed(used.id, first, count),
        complete: () => this.#leave(used, true),
      },
    });
    const { layer } = use;
    if (layer === undefined) return undefined;
    const used: Used = known ?? {
      id: layer.record.id,
      folder: path,
      uses: new Map(),
      pending: 0,
      over: false,
    };
    this.#used.set(used.id, used);
    const before = used.uses.get(mountpoint);
    used.uses.set(mountpoint, { use, policy });
    try {
      const { table, map, blob } = layer;
      const folder = new LayerFolder(path);
      this.#way.add({ id: used.id, folder, table, map, blob }, noteOf(used));
    } catch (error) {
      used.uses.delete(mountpoint);
      if (used.uses.size === 0) this.#used.delete(used.id);
      use.end();
      throw error;
    }
    this.#changed(used, before?.use);
    this.#timer ??= setInterval(() => this.#look(), LOOK);
    return used;
  }

  /** Other mounts use the layer now. @param gone the use that is no more: it may be the one that wanted chunks. */
  #changed(used: Used, gone: KernelUse | undefined): void {
    this.#way.note(used.id, noteOf(used));
    gone?.end();
    if (gone !== undefined) this.#way.wantAgain(used.id);
  }

  #ofFolder(path: string): Used | undefined {
    return [...this.#used.values()].find(({ folder }) => folder === path);
  }

  /** Takes down what nobody uses any more. */
  #look(): void {
    const points = new Set(mountTable().map(({ mountpoint }) => mountpoint));
    for (const used of this.#used.values()) {
      if (used.pending > 0 || used.over) continue;
      if (!this.#way.isInUse(used.id)) {
        this.#leave(used, false);
        continue;
      }
      // One of several mounts may have gone, or all that this namespace sees: the last one stays for those that it does not see.
      for (const [mountpoint, { use }] of used.uses) {
        if (used.uses.size === 1 || points.has(mountpoint)) continue;
        used.uses.delete(mountpoint);
        this.#changed(used, use);
      }
    }
  }

  #leave(used: Used, complete: boolean): void {
    if (used.over) return;
    used.over = true;
    const gone = this.#way.release(used.id, complete).then(() => {
      for (const { use } of used.uses.values()) use.end();
      this.#used.delete(used.id);
      this.#kept.delete(used.folder);
      this.#leaving.delete(used.folder);
      if (this.#used.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    });
    this.#leaving.set(used.folder, gone);
  }

  /** Who waits for what, of one layer. */
  waiting(id: string): KernelWaiter[] {
    return this.#way.waiting(id);
  }

  /** Resolves when all that is complete or unused is taken down, and nothing waits that could not be taken over. */
  async settled(): Promise<void> {
    await Promise.all(this.#leaving.values());
    while (this.#waiting.size > 0) await sleep(RETRY);
  }

  /** Before the process ends. Who waits goes on waiting, for a successor. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#way.close();
  }
}

/** As many of the mounts as there is room for: what a successor must know is the folder and one of them. */
function noteOf({ folder, uses }: Used): string {
  const mounts = [...uses].map(([mountpoint, { policy }]) => ({ mountpoint, policy }));
  for (;;) {
    const text = JSON.stringify({ folder, mounts } satisfies Note);
    if (mounts.length < 2 || Buffer.byteLength(text) <= LONGEST_NOTE) return text;
    mounts.splice(Math.ceil(mounts.length / 2));
  }
}
