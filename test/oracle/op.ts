// An operation as plain data, the table entry of a kind of operation, and the choices that make one.
// Kinds stand in kinds-*.ts; campaign.ts makes operations one by one and runs each on both worlds.
// Operations stay meaningful when others before them are dropped: the minimiser counts on that.

import { names, parentOf } from './layers.js';
import type { Random } from './random.js';
import type { World } from './world.js';

/** Arguments that some kind of operation takes. */
export interface Args {
  path: string;
  to: string;
  /** Slots of descriptors, see world.ts. */
  slot: number;
  other: number;
  flags: number;
  mode: number;
  uid: number;
  gid: number;
  at: number;
  length: number;
  size: number;
  seed: number;
  key: string;
  value: string;
  times: [TimeChoice, TimeChoice];
}

export type TimeChoice = [number, number] | 'now' | 'omit';

export interface Op extends Partial<Args> {
  kind: string;
  /** Effective uid and gid, when not root. */
  as?: number;
  umask?: number;
}

export interface Kind {
  weight: number;
  make(choices: Choices): Partial<Args>;
  /** Acts, and answers with all that a program would see. `args` are those that `make` gave. */
  run(world: World, args: Args): string;
}

/** Bytes of a path that is chosen again. */
export const longest = 200;

/** What is there to choose from: paths that exist (as far as the oracle has shown) and open slots. */
export class Choices {
  readonly random: Random;
  /** Path to a letter: d folder, f file, l symlink, o other. */
  readonly known = new Map<string, string>();
  readonly #world: World;

  constructor(random: Random, world: World) {
    this.random = random;
    this.#world = world;
  }

  existing(types = 'dflo'): string {
    const paths: string[] = [];
    for (const [path, type] of this.known) if (types.includes(type)) paths.push(path);
    return paths.length > 0 && !this.random.oneIn(20) ? this.random.pick(paths) : this.fresh();
  }

  /** In a folder that exists, under a name that may exist. */
  fresh(): string {
    const folders = ['', ''];
    for (const [path, type] of this.known) {
      if (type === 'd' && path.split('/').length < 5) folders.push(path);
    }
    const folder = this.random.pick(folders);
    const name = this.random.pick(names);
    return folder === '' ? name : `${folder}/${name}`;
  }

  /** Any path, now and then one that leads nowhere. */
  any(): string {
    if (this.random.oneIn(15)) return `${this.existing('flo')}/${this.random.pick(names)}`;
    return this.random.oneIn(4) ? this.fresh() : this.existing();
  }

  /** Where something new is likely wanted. */
  target(): string {
    return this.random.oneIn(3) ? this.existing() : this.fresh();
  }

  /** An open slot where there is one. */
  slot(wanted: (slot: { readOnly: boolean; directory: boolean }) => boolean = () => true): number {
    const open: number[] = [];
    this.#world.slots.forEach((slot, i) => {
      if (slot !== undefined && wanted(slot)) open.push(i);
    });
    const any = open.length === 0 || this.random.oneIn(20);
    return any ? this.random.below(this.#world.slots.length) : this.random.pick(open);
  }

  writable(): number {
    return this.slot(({ readOnly, directory }) => !readOnly && !directory);
  }

  file(): number {
    return this.slot(({ directory }) => !directory);
  }

  /** An empty slot where there is one. */
  freeSlot(): number {
    const free = this.#world.slots.indexOf(undefined);
    return free >= 0 ? free : this.random.below(this.#world.slots.length);
  }

  mode(): number {
    const modes = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o2644, 0o444, 0, 0o7777];
    return this.random.pick(modes);
  }

  /**
   * Never both left as they are: FUSE then asks nobody, while elsewhere even that chown(2) drops
   * set-id bits and needs the owner.
   */
  owner(): { uid: number; gid: number } {
    const id = () => this.random.pick([0, 1000, 1001, -1]);
    const gid = id();
    return { uid: gid === -1 ? this.random.pick([0, 1000, 1001]) : id(), gid };
  }

  /** An offset or a size in bytes. */
  size(): number {
    return this.random.pick([0, 1, 10, 4095, 4096, 4097, 8192, 12_345, 65_536, 100_001, 262_144]);
  }

  length(): number {
    return this.random.pick([0, 1, 7, 100, 4096, 5000, 40_000]);
  }

  seed(): number {
    return this.random.below(1000);
  }

  times(): [TimeChoice, TimeChoice] {
    const one = (): TimeChoice => {
      if (this.random.oneIn(4)) return this.random.pick(['now', 'omit'] as const);
      return [1_200_000_000 + this.random.below(100_000), this.random.below(1_000_000_000)];
    };
    return [one(), one()];
  }

  /** Keeps up with what an operation did: `typeOf` asks the oracle about a path. */
  learn(op: Op, ok: boolean, typeOf: (path: string) => string | undefined): void {
    if (ok && op.kind.startsWith('rename') && op.path !== undefined && op.to !== undefined) {
      this.#move(op.path, op.to);
    }
    for (const path of [op.path, op.to]) {
      if (path === undefined || /^\.?$|^\.\/|\/\//.test(path)) continue;
      // The kernel moves no folder of a lower whose path is too long for a redirect of its (OVL_REDIRECT_MAX).
      if (path.length >= longest) continue;
      const type = typeOf(path);
      if (type === undefined) this.#forget(path);
      else if (this.known.get(path) !== type) {
        this.#forget(path);
        if (this.known.get(parentOf(path)) === 'd' || parentOf(path) === '') {
          this.known.set(path, type);
        }
      }
    }
  }

  #forget(path: string): void {
    for (const key of this.known.keys()) {
      if (key === path || key.startsWith(`${path}/`)) this.known.delete(key);
    }
  }

  #move(from: string, to: string): void {
    const moved: [string, string][] = [];
    for (const [key, type] of this.known) {
      if (key === from || key.startsWith(`${from}/`))
        moved.push([to + key.slice(from.length), type]);
    }
    this.#forget(from);
    this.#forget(to);
    for (const [key, type] of moved) if (key.length < longest) this.known.set(key, type);
  }
}
