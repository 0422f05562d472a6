// One cell row of the numbers matrix: a stack is mounted, and its numbers are compared after each event.
// Used by main.ts (the table) and numbers.test.ts; varve and kernel overlayfs go through the same.
// What is compared: st_ino of every object whose providing layer is still the same; see docs/numbers.md.

import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { run } from '../overlay/stack.js';
import { AT, forgetNames, must, O, readdir, S, stat, sys } from '../support/sys.js';
import { folderLayer, type Row, type Setting } from './filesystems.js';

export const SUBJECTS = ['varve', 'xino=off', 'xino=auto', 'xino=on'] as const;
export type Subject = (typeof SUBJECTS)[number];

export const EVENTS = [
  'copy-up',
  'cache drop',
  'remount',
  'layer above',
  'in the middle',
  'below',
  'folders moved',
  'restart',
] as const;
export type Event = (typeof EVENTS)[number];

export interface Cell {
  readonly event: Event | 'mount';
  /** Objects compared, and those of them whose st_ino is another now. */
  readonly compared: number;
  readonly changed: number;
  /** Numbers (with st_dev) that objects without further names share. */
  readonly duplicates: number;
  /** Values of st_dev. */
  readonly devices: number;
  /** Entries whose d_ino is not the st_ino. */
  readonly listedOtherwise: number;
}

/** Files of a folder of the tree. */
const FILES = 99;

/** The tree of lower `i`, about `objects` of them: folders of its own, some files with two names, a folder that all have. */
export function fill(folder: string, i: number, objects: number): void {
  const folders = Math.max(1, Math.round(objects / (FILES + 1)));
  for (let d = 0; d < folders; d++) {
    const path = join(folder, `l${i}-${d}`);
    mkdirSync(path);
    for (let f = 0; f < FILES; f++) writeFileSync(join(path, `f${f}`), f % 10 === 0 ? `${f}` : '');
  }
  mkdirSync(join(folder, 'shared/deeper'), { recursive: true });
  writeFileSync(join(folder, `shared/of ${i}`), 'x');
  writeFileSync(join(folder, `shared/deeper/of ${i}`), 'x');
}

interface Seen {
  readonly numbers: Map<string, bigint>;
  readonly duplicates: number;
  readonly devices: Set<string>;
  readonly listedOtherwise: number;
}

/** Everything on the mount. */
function walk(mountpoint: string): Seen {
  const numbers = new Map<string, bigint>();
  const owners = new Set<string>();
  const devices = new Set<string>();
  let duplicates = 0;
  let listedOtherwise = 0;
  const visit = (fd: number, path: string): void => {
    const entries = readdir(fd);
    assert.ok(typeof entries !== 'number', `${path}: ${entries}`);
    for (const { name, ino } of entries) {
      if (name === '..') continue;
      const seen = stat(fd, name, AT.SYMLINK_NOFOLLOW);
      assert.ok(typeof seen !== 'number', `${path}${name}: ${seen}`);
      if (seen.ino !== ino) listedOtherwise++;
      if (name === '.') continue;
      numbers.set(`${path}${name}`, seen.ino);
      devices.add(seen.dev);
      const isDir = (seen.mode & S.IFMT) === S.IFDIR;
      if (isDir || seen.nlink === 1) {
        const owner = `${seen.dev} ${seen.ino}`;
        if (owners.has(owner)) duplicates++;
        owners.add(owner);
      }
      if (!isDir) continue;
      const below = must(sys.open(fd, name, O.DIRECTORY));
      visit(below, `${path}${name}/`);
      sys.close(below);
    }
  };
  const root = must(sys.open(AT.FDCWD, mountpoint, O.DIRECTORY));
  try {
    visit(root, '');
  } finally {
    sys.close(root);
  }
  return { numbers, duplicates, devices, listedOtherwise };
}

/** @param cells is told each result as it is found. */
export async function measure(
  row: Row,
  subject: Subject,
  objects: number,
  base: string,
  cells: (cell: Cell) => void,
): Promise<void> {
  const perLower = Math.round(objects / 2);
  const setting = row.make(base, (folder, i) => fill(folder, i, perLower), perLower);
  const mountpoint = join(base, 'mnt');
  mkdirSync(mountpoint);
  const mounted = new Mounted(subject, setting, mountpoint);
  await mounted.mount();
  const first = walk(mountpoint);
  // By the path that the object had first.
  const before = new Map(first.numbers);
  const moved = new Map<string, string>();
  const report = (event: Cell['event'], seen: Seen): void => {
    let compared = 0;
    let changed = 0;
    for (const [path, ino] of seen.numbers) {
      const was = before.get(moved.get(path) ?? path);
      if (was === undefined) continue;
      compared++;
      if (was !== ino) changed++;
    }
    cells({
      event,
      compared,
      changed,
      duplicates: seen.duplicates,
      devices: seen.devices.size,
      listedOtherwise: seen.listedOtherwise,
    });
  };
  report('mount', first);
  for (const event of EVENTS) {
    if (event === 'restart' && !mounted.isReplaced) continue;
    if (event === 'copy-up') copyUp(mountpoint, [...first.numbers.keys()], moved);
    else if (event === 'cache drop') dropCaches(subject, mountpoint);
    else if (event === 'restart') process.kill(mounted.serverPid, 'SIGKILL');
    else {
      await mounted.unmount();
      if (event === 'folders moved') for (const layer of setting.lowers) layer.move();
      const joins = { 'layer above': 0, 'in the middle': 1, below: setting.lowers.length };
      if (event in joins) {
        const place =
          event === 'below' ? setting.lowers.length : joins[event as keyof typeof joins];
        setting.lowers.splice(place, 0, joining(setting.extra, event, before));
      }
      await mounted.mount();
    }
    report(event, walk(mountpoint));
  }
  await mounted.unmount();
}

/** A layer that joins the stack: a folder of its own, and one file that covers another where it comes first. */
function joining(extra: string, event: Event, before: Map<string, bigint>): Setting['lowers'][0] {
  const path = join(extra, event.replaceAll(' ', '-'));
  mkdirSync(join(path, `of ${event}/folder`), { recursive: true });
  writeFileSync(join(path, `of ${event}/file`), 'x');
  if (event === 'layer above') {
    mkdirSync(join(path, 'l1-0'));
    writeFileSync(join(path, 'l1-0/f1'), 'covers the one below');
    // Both are another layer's from now on.
    before.delete('l1-0');
    before.delete('l1-0/f1');
  }
  return folderLayer(path);
}

/** Changes a sixth of what is there, data and metadata, and renames a few. `moved` says where an object was before. */
function copyUp(mountpoint: string, paths: readonly string[], moved: Map<string, string>): void {
  for (const [i, path] of paths.entries()) {
    const at = join(mountpoint, path);
    if (i % 6 !== 0 || path.startsWith('l1-0')) continue;
    chmodSync(at, 0o700);
    if (/\/f\d+$/.test(path) && i % 12 === 0) writeFileSync(at, 'changed', { flag: 'a' });
    if (/\/f\d+$/.test(path) && i % 30 === 0) {
      renameSync(at, `${at}-renamed`);
      moved.set(`${path}-renamed`, path);
    }
  }
}

function dropCaches(subject: Subject, mountpoint: string): void {
  run('sync', []);
  if (subject === 'varve') must(forgetNames(mountpoint));
  writeFileSync('/proc/sys/vm/drop_caches', '2');
}

/** The stack under test, in varve's words or the kernel's. */
class Mounted {
  serverPid = 0;
  /** A killed server is replaced: where it is not, nobody can look at the mount afterwards. */
  isReplaced = false;
  readonly #subject: Subject;
  readonly #setting: Setting;
  readonly #mountpoint: string;

  constructor(subject: Subject, setting: Setting, mountpoint: string) {
    this.#subject = subject;
    this.#setting = setting;
    this.#mountpoint = mountpoint;
  }

  async mount(): Promise<void> {
    const { lowers, upper, work } = this.#setting;
    const ours = this.#subject === 'varve';
    const list = lowers.map((layer) => (ours ? layer.varve : layer.kernel)).join(':');
    const options = `lowerdir=${list},upperdir=${upper},workdir=${work},redirect_dir=on`;
    if (ours) {
      const parsed = parseOptions([options], { defaults: 'allow_other' });
      const { served } = await mountStack(parsed, this.#mountpoint, 'fuse');
      this.serverPid = served?.status.pid ?? 0;
      this.isReplaced = served !== undefined && 'restarts' in served.status;
      served?.supervisor.close();
    } else {
      run('mount', ['-t', 'overlay', '-o', `${options},${this.#subject}`, 'o', this.#mountpoint]);
    }
  }

  async unmount(): Promise<void> {
    if (this.#subject !== 'varve') {
      run('umount', [this.#mountpoint]);
      return;
    }
    const { heldElsewhere } = await unmount(this.#mountpoint, { lazy: false, force: false });
    // A mount namespace that somebody made meanwhile has the mount, too, until it ends.
    for (let i = 0; heldElsewhere && existsSync(`/proc/${this.serverPid}`); i++) {
      assert.ok(i < 3000, `the server of ${this.#mountpoint} goes on in another namespace`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
