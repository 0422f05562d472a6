// One random stack from which a random lower is detached: what the mount shows, its numbers and its open files must stay, and
// must not hang on the lower any more, which is destroyed.
// Used by detach-lower.test.ts; campaign.ts of test/oracle makes layers and operations.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { awaitDetach, beginDetach, lowerOf } from '../../src/ops/detach/detach-lower.js';
import { type Case, callWeights, makeOp, perform, showOp } from '../oracle/campaign.js';
import { buildLayer, makeLayers } from '../oracle/layers.js';
import { Choices } from '../oracle/op.js';
import { Random } from '../oracle/random.js';
import { differences, type Tree } from '../oracle/tree.js';
import { slotCount, World } from '../oracle/world.js';
import { AT, O, readdir, show, stat, sys } from '../support/sys.js';
import { type Plan, stack } from './stack.js';

interface Context {
  after(fn: () => void | Promise<void>): void;
}

export interface CasePlan extends Plan {
  readonly seed: number;
  /** Operations before it; and while it goes on. */
  readonly before: number;
  readonly meanwhile?: number;
  /** Operations when the lower is gone. */
  readonly later?: number;
}

/** Numbers by path. */
function numbersOf(root: number): Map<string, bigint> {
  const found = new Map<string, bigint>();
  walk(root, '');
  return found;

  function walk(dir: number, path: string): void {
    const entries = readdir(dir);
    if (typeof entries === 'number') return;
    for (const { name, ino } of entries) {
      if (name === '.' || name === '..') continue;
      const st = stat(dir, name, AT.SYMLINK_NOFOLLOW);
      if (typeof st === 'number') continue;
      const below = path === '' ? name : `${path}/${name}`;
      found.set(below, st.ino);
      if (st.ino !== ino) found.set(`${below} d_ino`, ino);
      const fd = sys.open(dir, name, O.DIRECTORY | O.NOFOLLOW);
      if (fd < 0) continue;
      walk(fd, below);
      sys.close(fd);
    }
  }
}

/** What each open descriptor shows. */
function slotsOf(world: World): string[] {
  return Array.from({ length: slotCount }, (_, i) => {
    const fd = world.fd(i);
    if (fd < 0) return '-';
    const st = stat(fd, '');
    if (typeof st === 'number') return show(st);
    const bytes = sys.pread(fd, 65_536, 0);
    const content = typeof bytes === 'number' ? show(bytes) : `${bytes.length}:${hash(bytes)}`;
    return `${st.ino} ${st.mode.toString(8)} ${st.size} ${content}`;
  });
}

function hash(bytes: Buffer): number {
  let sum = 7;
  for (const byte of bytes) sum = (Math.imul(sum, 31) + byte) | 0;
  return sum;
}

function learn(choices: Choices, tree: Tree): void {
  choices.known.clear();
  for (const [path, line] of tree.lines) {
    if (path === '' || path.length > 200) continue;
    const type = line.slice(0, line.indexOf(' '));
    const letter = type === 'dir' ? 'd' : type === 'file' ? 'f' : type === 'symlink' ? 'l' : 'o';
    choices.known.set(path, letter);
  }
}

/** @param without what does not count. */
function same(what: string, ours: Tree, theirs: Tree, without: RegExp): void {
  const shorten = ({ lines, contradictions }: Tree): Tree => ({
    lines: new Map([...lines].map(([path, line]) => [path, line.replace(without, '')])),
    contradictions,
  });
  assert.deepEqual(differences(shorten(ours), shorten(theirs)), [], what);
}

/** Reading a symlink gives it another one. */
const ATIME = / atime=\S+/;

function sameNumbers(
  what: string,
  ours: ReadonlyMap<string, bigint>,
  theirs: ReadonlyMap<string, bigint>,
): void {
  const other = [...theirs].filter(([path, ino]) => ours.get(path) !== ino).map(([path]) => path);
  const more = [...ours.keys()].filter((path) => !theirs.has(path));
  assert.deepEqual([...other, ...more], [], what);
}

/** Runs one case; throws what does not fit. */
export async function detachCase(t: Context, plan: CasePlan): Promise<void> {
  const { seed, before, meanwhile = 0 } = plan;
  const random = new Random(seed);
  const layers = makeLayers(random, 2 + random.below(3), true);
  const made = await stack(t, { ...plan, unmounted: true });
  const folders = layers.map((steps, i) => {
    const folder = join(made.base, `r${i}`);
    mkdirSync(folder, { recursive: true });
    buildLayer(folder, steps);
    return folder;
  });
  folders.reverse();
  made.place(...folders);
  await made.mount();
  const world = new World(false, made.mnt);
  const choices = new Choices(random, world);
  const weights = callWeights({ seed: 0 } as Case);
  const log: string[] = [];
  const operate = (): void => {
    const op = makeOp(choices, weights);
    log.push(`${showOp(op)} ${perform(world, op)}`);
  };
  world.enter();
  try {
    for (let i = 0; i < before; i++) {
      if (i % 8 === 0) learn(choices, made.tree());
      operate();
    }
    const tree = made.tree();
    const numbers = numbersOf(world.root);
    const slots = slotsOf(world);
    learn(choices, tree);
    const at = random.below(folders.length);
    const lower = await lowerOf(made.mnt, String(at + 1));
    assert.equal(lower.path, folders[at]);
    await beginDetach(lower);
    let left = meanwhile;
    const busy = setInterval(() => {
      for (let i = 0; i < 5 && left > 0; i++, left--) operate();
    }, 1);
    try {
      await awaitDetach(lower, () => {});
      while (left-- > 0) operate();
    } finally {
      clearInterval(busy);
    }
    made.serverChanged();
    const [gone] = folders.splice(at, 1) as [string];
    rmSync(gone, { recursive: true });
    made.place(...folders);
    if (meanwhile === 0) {
      same('after', made.tree(), tree, / nlink=\d+| atime=\S+/g);
      sameNumbers('numbers', numbersOf(world.root), numbers);
      assert.deepEqual(slotsOf(world), slots, 'open files');
    }
    for (let i = 0; i < (plan.later ?? 0); i++) operate();
    const now = made.tree();
    const numbersNow = numbersOf(world.root);
    world.leave();
    await made.unmount();
    if (folders.length === 0) return;
    await made.mount();
    same('mounted again', made.tree(), now, ATIME);
    world.enter();
    sameNumbers('numbers, mounted again', numbersOf(world.root), numbersNow);
    world.leave();
    await made.unmount();
    made.kernelMount(`redirect_dir=on,index=on,metacopy=on`);
    // Which counts an index entry as a name, where a name that nothing shows has kept it.
    const theirs = made.tree(false);
    made.kernelUnmount();
    same('by the kernel', now, theirs, /(?<= nlink=)\d+| atime=\S+/g);
  } catch (error) {
    console.error(`seed ${seed}:\n${log.slice(-60).join('\n')}`);
    throw error;
  } finally {
    world.leave();
  }
}
