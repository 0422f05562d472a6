// The machine crashes: the filesystem of an upper is shut down at a random moment, and what is left is looked at.
// Used by shutdown.test.ts. All in a mount namespace of its own, so that no copy of a mount keeps the filesystem alive.
// Follows: xfs_io(8) shutdown, FS_IOC_SHUTDOWN: nothing reaches the disk any more; with -f the log is written first.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { dir, type Entry, file, makeTree } from '../layer/tree.js';
import { differences, readTree, type Tree as SeenTree } from '../oracle/tree.js';
import { run } from '../overlay/stack.js';
import { mountLoop, waitUntilUnused } from '../support/loop.js';
import { AT, must, O, sys } from '../support/sys.js';
import { Actor, initial, readFound } from './actor.js';
import { bytesOf } from './content.js';
import { checkDatabase, DATABASE, makeDatabase, startTransactions } from './database.js';

export type Filesystem = 'ext4' | 'xfs';

/** Actors of each process. */
const ACTORS = [
  ['a0', 'a1'],
  ['b0', 'b1'],
] as const;
const NAMES = ACTORS.flat();
const VARVE = fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./actors.js', import.meta.url));

/** Milliseconds that the programs are at work before the crash, at most. */
const LONGEST = 700;
const PATIENCE = 60_000;

export interface Point {
  readonly seed: number;
  /** Write the log before the shutdown, so that what was not synced is there in part. */
  readonly flushesLog: boolean;
  /** Options of the mount; `plain`: no mount, the programs work on the filesystem itself. */
  readonly options: string | 'plain';
}

/** What the programs had done when the filesystem was shut down. */
interface Work {
  /** Milliseconds since 1970. */
  readonly shutdown: number;
  /** Transactions that were answered. */
  readonly transactions: number;
}

export interface Outcome {
  readonly operations: number;
  readonly transactions: number;
}

export class Machine {
  /** The mount point. */
  readonly mnt: string;
  readonly #type: Filesystem;
  readonly #image: string;
  readonly #disk: string;
  readonly #lower: string;
  readonly #logs: string;

  /** @param folder empty. */
  constructor(folder: string, type: Filesystem) {
    // In memory: the more is done until the crash, and others may be busy with the disk.
    const base = join(folder, type);
    mkdirSync(base);
    run('mount', ['-t', 'tmpfs', '-o', 'size=1g,mode=755', 'tmpfs', base]);
    this.#type = type;
    this.#image = join(base, 'image');
    this.#disk = join(base, 'disk');
    this.#lower = join(base, 'lower');
    this.mnt = join(base, 'mnt');
    this.#logs = join(base, 'logs');
    for (const folder of [this.#disk, this.#lower, this.mnt, this.#logs]) mkdirSync(folder);
    run('truncate', ['-s', '600M', this.#image]);
    if (type === 'ext4') run('mkfs.ext4', ['-q', '-m', '0', this.#image]);
    else run('mkfs.xfs', ['-q', this.#image]);
    makeLower(this.#lower);
    this.#attach();
  }

  #attach(): void {
    mountLoop(this.#image, this.#disk);
  }

  /** Lets the programs work, crashes, and looks at what is left. @throws Error that tells what is wrong. */
  async crash(point: Point): Promise<Outcome> {
    const { options, seed } = point;
    this.clear();
    if (options === 'plain') return this.#crashPlain(point);
    await this.mount(options);
    const work = await this.#work(this.mnt, point);
    await this.recover();
    await this.mount(options);
    assert.deepEqual(readdirSync(join(this.#disk, 'work/work')), [], 'left in the workdir');
    const outcome = this.#look(this.mnt, seed, work);
    const ours = treeOf(this.mnt);
    await unmount(this.mnt, { lazy: false, force: false });
    run(process.execPath, [VARVE, 'check', '-o', this.#stack(options)]);
    run('mount', this.kernelMount('redirect_dir=on,index=on,metacopy=on'));
    const theirs = treeOf(this.mnt);
    run('umount', [this.mnt]);
    assert.deepEqual(ours.contradictions, []);
    assert.deepEqual(differences(ours, theirs), [], 'kernel overlayfs sees another tree');
    return outcome;
  }

  async #crashPlain(point: Point): Promise<Outcome> {
    const place = join(this.#disk, 'plain');
    run('cp', ['-a', `${this.#lower}/.`, place]);
    run('sync', ['-f', this.#disk]);
    const work = await this.#work(place, point);
    this.#recoverDisk();
    return this.#look(place, point.seed, work);
  }

  /** An empty upper and an empty workdir, stored. */
  clear(): void {
    for (const name of ['up', 'work', 'plain']) {
      rmSync(join(this.#disk, name), { recursive: true, force: true });
      mkdirSync(join(this.#disk, name));
    }
    run('sync', ['-f', this.#disk]);
  }

  /** Where what is volatile says so. */
  get incompatible(): string {
    return join(this.#disk, 'work/work/incompat');
  }

  /** @param flushesLog what was done is stored, apart from contents. */
  shutDown(flushesLog: boolean): void {
    run('xfs_io', ['-x', '-c', flushesLog ? 'shutdown -f' : 'shutdown', this.#disk]);
  }

  /** As a reboot: all mounts go, the log is replayed, the filesystem is sound and mounted again. */
  async recover(): Promise<void> {
    await unmount(this.mnt, { lazy: false, force: true });
    this.#recoverDisk();
  }

  /** After a failure: what is mounted goes, and the filesystem begins anew. */
  async reset(): Promise<void> {
    await unmount(this.mnt, { lazy: false, force: true }).catch(() => {});
    for (const path of [this.mnt, this.#disk]) spawnSync('umount', ['-l', path]);
    waitUntilUnused(this.#image);
    if (this.#type === 'ext4') run('mkfs.ext4', ['-q', '-F', '-m', '0', this.#image]);
    else run('mkfs.xfs', ['-q', '-f', this.#image]);
    this.#attach();
  }

  #layers(): string {
    const [upper, work] = [join(this.#disk, 'up'), join(this.#disk, 'work')];
    return `lowerdir=${this.#lower},upperdir=${upper},workdir=${work}`;
  }

  /** Arguments of mount(8) for kernel overlayfs over the same folders. */
  kernelMount(options: string): string[] {
    return ['-t', 'overlay', 'overlay', this.mnt, '-o', `${this.#layers()},${options}`];
  }

  /** What names the stack on a command line. */
  #stack(options: string): string {
    return [this.#layers(), options].filter((part) => part !== '').join(',');
  }

  async mount(options: string): Promise<void> {
    const parsed = parseOptions([this.#stack(options)], { defaults: 'allow_other' });
    const { served } = await mountStack(parsed, this.mnt, 'fuse');
    served?.supervisor.close();
  }

  /** Starts the programs, shuts the filesystem down and waits for their ends. */
  async #work(place: string, { seed, flushesLog }: Point): Promise<Work> {
    for (const name of NAMES) writeFileSync(join(this.#logs, name), '');
    const processes = ACTORS.map((names, i) => {
      const words = [SCRIPT, place, this.#logs, String(seed * 10 + 2 * i), ...names];
      const child = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'inherit'] });
      return once(child, 'exit', { signal: AbortSignal.timeout(PATIENCE) });
    });
    const database = startTransactions(join(place, DATABASE), seed);
    while (NAMES.some((name) => this.#log(name) === '')) await sleep(5);
    await sleep((seed * 7919) % LONGEST);
    const transactions = database.answered();
    const shutdown = Date.now();
    this.shutDown(flushesLog);
    await Promise.all([...processes, database.ended]);
    return { shutdown, transactions };
  }

  #log(name: string): string {
    return readFileSync(join(this.#logs, name), 'utf8');
  }

  #recoverDisk(): void {
    run('umount', [this.#disk]);
    this.#attach();
    run('umount', [this.#disk]);
    if (this.#type === 'ext4') run('e2fsck', ['-fn', this.#image]);
    else run('xfs_repair', ['-n', this.#image]);
    this.#attach();
  }

  #look(place: string, seed: number, { shutdown, transactions }: Work): Outcome {
    const root = must(sys.open(AT.FDCWD, place, O.DIRECTORY));
    let operations = 0;
    try {
      for (const [i, name] of NAMES.entries()) {
        const { begun, answered, failure } = readLog(this.#log(name), shutdown);
        if (failure !== undefined) assert.fail(`before the crash: ${failure}`);
        operations += begun;
        const actor = new Actor(name, seed * 10 + i);
        const wrong = actor.whatIsWrong(readFound(root, name), answered, begun);
        if (wrong !== undefined) assert.fail(wrong);
      }
    } finally {
      sys.close(root);
    }
    checkDatabase(join(place, DATABASE), transactions);
    return { operations, transactions };
  }
}

/**
 * What a log says. An fsync(2) that is under way when the filesystem goes down may return 0 although nothing is stored,
 * on ext4 and on XFS: only what was answered before is certain.
 */
function readLog(text: string, shutdown: number) {
  let begun = 0;
  let answered = 0;
  let failure: string | undefined;
  for (const line of text.split('\n')) {
    const [word, time = '', ...rest] = line.split(' ');
    if (word === 'begun') begun++;
    const early = Number(time) < shutdown;
    if (word === 'done' && early) answered++;
    // A call that failed before has another reason.
    if (word === 'failed' && early) failure = rest.join(' ');
  }
  return { begun, answered, failure };
}

function makeLower(folder: string): void {
  const tree: Record<string, Entry> = {};
  for (const { path, entry } of NAMES.flatMap((name) => initial(name))) {
    if (entry === 'dir') tree[path] = dir();
    else if ('target' in entry) tree[path] = { type: 'symlink', data: entry.target };
    else if ('link' in entry) tree[path] = { type: 'link', data: entry.link };
    else tree[path] = file(bytesOf(entry));
  }
  makeTree(folder, tree);
  makeDatabase(join(folder, DATABASE));
}

function treeOf(folder: string): SeenTree {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return readTree(root, () => true);
  } finally {
    sys.close(root);
  }
}
