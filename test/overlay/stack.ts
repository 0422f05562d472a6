// A stack of layers for one test: made from trees, mounted by varve, and by kernel overlayfs over the same folders.
// Mounts through src/stack in this process, as the command line does; the server is a process of its own.
// Used by test/overlay and test/crash. Everything is taken down when the test ends (test/support/temp.ts).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { MAIN } from '../cli/cli.js';
import { makeTree, type Tree } from '../layer/tree.js';
import { differences, readTree, type Tree as SeenTree } from '../oracle/tree.js';
import { killProcess } from '../support/processes.js';
import { AT, must, O, show, sys } from '../support/sys.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';

export interface Plan {
  /** Topmost first. */
  lowers?: readonly Tree[];
  /** Data-only layers. */
  data?: readonly Tree[];
  /** What the upper holds before it is mounted. */
  upper?: Tree;
  /** More options for varve, comma-separated. */
  options?: string;
  /** Without an upper. */
  readOnly?: boolean;
  /** All folders in TMPDIR, where copies are synced by a worker; else on a tmpfs of their own. */
  disk?: boolean;
  /** `size=` of the tmpfs. */
  size?: string;
  /** Do not mount yet. */
  unmounted?: boolean;
}

/** What this file needs of node:test's context. */
interface Context {
  after(fn: () => void | Promise<void>): void;
}

export class Stack {
  readonly base: string;
  readonly mnt: string;
  readonly upper: string;
  readonly work: string;
  lowers: readonly string[];
  readonly data: readonly string[];
  /** Process id of the server while mounted. */
  server = 0;
  /** Process id of its supervisor. */
  supervisor = 0;
  readonly #plan: Plan;
  /** The server is another one than `server` says. */
  #killed = false;

  constructor(base: string, plan: Plan) {
    this.base = base;
    this.#plan = plan;
    this.mnt = join(base, 'mnt');
    this.upper = join(base, 'up');
    this.work = join(base, 'work');
    const layer = (prefix: string) => (tree: Tree, i: number) => {
      const folder = join(base, `${prefix}${i}`);
      mkdirSync(folder);
      makeTree(folder, tree);
      return folder;
    };
    for (const folder of [this.mnt, this.upper, this.work]) mkdirSync(folder);
    this.lowers = (plan.lowers ?? [{}]).map(layer('l'));
    this.data = (plan.data ?? []).map(layer('data'));
    makeTree(this.upper, plan.upper ?? {});
  }

  /** Takes another folder, or an image, for the lowers. */
  place(...lowers: readonly string[]): void {
    this.lowers = lowers;
  }

  /** `lowerdir=...` and, with an upper, the two folders for it. */
  layerOptions(): string {
    const data = this.data.map((folder) => `::${folder}`).join('');
    const lowers = `lowerdir=${this.lowers.join(':')}${data}`;
    if (this.#plan.readOnly) return lowers;
    return `${lowers},upperdir=${this.upper},workdir=${this.work}`;
  }

  /** @param more options beside those of the plan */
  async mount(more = ''): Promise<this> {
    const text = `${this.layerOptions()},${this.#plan.options ?? ''},${more}`;
    const options = parseOptions([text], { defaults: 'allow_other' });
    const { served } = await mountStack(options, this.mnt, 'fuse');
    this.server = served?.status.pid ?? 0;
    this.supervisor = (await served?.supervisor.ask({ op: 'list' }))?.supervisor ?? 0;
    served?.supervisor.close();
    return this;
  }

  /** Process id of the server that answers now. */
  serverNow(): number {
    const said = run(process.execPath, [MAIN, 'status', '--json', this.mnt]);
    const { serverPid } = JSON.parse(said) as { serverPid?: number };
    assert.ok(serverPid !== undefined, said);
    return serverPid;
  }

  async unmount(): Promise<void> {
    if (this.#killed) this.server = this.serverNow();
    this.#killed = false;
    const { heldElsewhere } = await unmount(this.mnt, { lazy: false, force: false });
    if (heldElsewhere) await this.#serverGone();
  }

  /** A test that made a mount namespace meanwhile has a copy of this mount in it, until it ends. */
  async #serverGone(): Promise<void> {
    const deadline = Date.now() + 60_000;
    while (existsSync(`/proc/${this.server}`)) {
      assert.ok(Date.now() < deadline, `the server of ${this.mnt} goes on in another namespace`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends the server, which another one replaces. */
  kill(): void {
    // The one that was told of may have given way to another meanwhile.
    while (!killProcess(this.serverNow()));
    this.#killed = true;
  }

  /** Nobody serves it any more, and nobody has it mounted. */
  forgotten(): void {
    this.#killed = false;
  }

  async remount(more = ''): Promise<void> {
    await this.unmount();
    await this.mount(more);
  }

  /** Somebody has had the server replaced. */
  serverChanged(): void {
    this.#killed = true;
  }

  /** Mounts the same folders by the kernel. Only while varve has them not. */
  kernelMount(options = 'redirect_dir=on,index=on', target = this.mnt): void {
    const all = `${this.layerOptions()},${options}`;
    run('mount', ['-t', 'overlay', 'overlay', target, '-o', all]);
  }

  kernelUnmount(target = this.mnt): void {
    run('umount', [target]);
  }

  /** The mounted tree. @param checked fails when its listings and its attributes do not fit together. */
  tree(checked = true): SeenTree {
    const tree = this.at((root) => readTree(root, (key) => !key.startsWith('security.selinux')));
    if (checked) assert.deepEqual(tree.contradictions, []);
    return tree;
  }

  /** A folder of a layer as it lies on disk, marks included. */
  rawTree(folder: string): Map<string, string> {
    return this.at((root) => readTree(root, () => true).lines, folder);
  }

  /** Unmounts varve, and compares what it showed with what kernel overlayfs shows over the same folders. */
  async sameToKernel(options?: string): Promise<void> {
    await this.remount();
    const ours = this.tree();
    await this.unmount();
    this.kernelMount(options);
    const theirs = this.tree(false);
    this.kernelUnmount();
    assert.deepEqual(differences(ours, theirs), []);
  }

  path(name: string): string {
    return join(this.mnt, name);
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'latin1');
  }

  write(name: string, data: string): void {
    writeFileSync(this.path(name), data, 'latin1');
  }

  /** A descriptor, closed by the test; failure is an error. */
  open(name: string, flags: number, mode = 0o644): number {
    return must(sys.open(AT.FDCWD, Buffer.from(this.path(name)).toString('latin1'), flags, mode));
  }

  /** Calls `use` with a descriptor of the mount's root. */
  at<T>(use: (root: number) => T, folder = this.mnt): T {
    const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
    try {
      return use(root);
    } finally {
      sys.close(root);
    }
  }

  /** The value of an xattr on disk, or its errno by name; `where` is a folder of a layer. */
  xattr(where: string, name: string, key: string): string {
    return this.at((root) => {
      const value = sys.getxattr(root, name, key);
      return typeof value === 'number' ? show(value) : value.toString('latin1');
    }, where);
  }
}

/** A stack that lives as long as the test; mounted unless the plan says otherwise. */
export async function stack(t: Context, plan: Plan = {}): Promise<Stack> {
  const base = makeTempDir();
  t.after(() => removeTempDir(base));
  if (!plan.disk) {
    const options = `size=${plan.size ?? '64m'},mode=755`;
    run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', base]);
  }
  const made = new Stack(base, plan);
  if (!plan.unmounted) await made.mount();
  return made;
}

/** An ext4 of `megabytes` in a file, mounted at `folder`; taken down with the folder's test. */
export function mountExt4(folder: string, image: string, megabytes: number): void {
  mkdirSync(folder, { recursive: true });
  rmSync(image, { force: true });
  run('truncate', ['-s', `${megabytes}M`, image]);
  run('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', image]);
  run('mount', ['-o', 'loop', image, folder]);
}

/** Runs a program that must succeed; returns what it printed. */
export function run(command: string, args: readonly string[], env?: NodeJS.ProcessEnv): string {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 60_000,
    ...(env === undefined ? {} : { env: { ...process.env, ...env } }),
  });
  if (result.error !== undefined) throw result.error;
  assert.equal(
    result.status,
    0,
    `${command} ${args.join(' ')}: ${result.stderr}${result.stdout}${result.signal ?? ''}`,
  );
  return result.stdout;
}
