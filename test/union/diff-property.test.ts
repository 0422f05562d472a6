// For any sequence of operations on a mount: what lies below it, with the diff applied, is the mounted tree.
// Under test: src/union/changes.ts and delta.ts, oci-form.ts; uppers of ours and of the kernel, with all their options.
// Applied in two ways: as an OCI layer by GNU tar and a few lines, and as a layer by the kernel's overlayfs.

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { S } from '../../src/linux/constants.js';
import { asStack, openLayers } from '../../src/ops/open-stack.js';
import { prune } from '../../src/ops/prune.js';
import { nameStatus } from '../../src/report/name-status.js';
import { type Aspect, compareTrees, showDifferences } from '../../src/tree/compare.js';
import { scan } from '../../src/tree/scan.js';
import { writeTar } from '../../src/tree/tar-write.js';
import { remove, type TreeNode, walk } from '../../src/tree/tree.js';
import { readChanges, type Stack as UnionStack } from '../../src/union/changes.js';
import { deltaTree } from '../../src/union/delta.js';
import { removeSockets, toOciForm } from '../../src/union/oci-form.js';
import { callWeights, letterOf, makeOp, newCase, perform, showOp } from '../oracle/campaign.js';
import { makeFilesystems } from '../oracle/explore.js';
import { Choices } from '../oracle/op.js';
import { Random } from '../oracle/random.js';
import { type Filesystems, Stack } from '../oracle/stack.js';
import { readTree } from '../oracle/tree.js';
import { World } from '../oracle/world.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { isMounted, kernel, run, type Subject, subjectNamed } from '../support/subjects.js';
import { AT, must, O, stat, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { applyOciLayer, copyByTar, untar } from './oci-apply.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs'],
  commands: ['tar'],
});

const firstSeed = campaign('seed', 1);
const rounds = campaign('rounds', 6);
const calls = campaign('ops', 300);

/** One for each of what changes the form of an upper. */
const kernelOptions = [
  'index=on,redirect_dir=on,metacopy=off',
  'index=off,redirect_dir=off,metacopy=off',
  'index=on,redirect_dir=on,metacopy=on',
  'index=off,redirect_dir=on,metacopy=on',
  'index=on,redirect_dir=off,metacopy=off',
  'index=off,redirect_dir=on,metacopy=off,xino=off',
];

test('uppers of the kernel', { skip }, (t) => {
  const filesystems = makeFilesystems(tempDir(t));
  for (let i = 0; i < rounds; i++) {
    const options = kernelOptions[i % kernelOptions.length] as string;
    check({ seed: firstSeed + i, subject: kernel(options), options, filesystems });
  }
});

test('uppers of the kernel over lowers that are images', { skip }, (t) => {
  const filesystems = makeFilesystems(tempDir(t));
  for (let i = 0; i < Math.ceil(rounds / 3); i++) {
    const options = kernelOptions[i % kernelOptions.length] as string;
    const seed = firstSeed + 1000 + i;
    check({ seed, subject: kernel(options), options, filesystems, images: true });
  }
});

test('uppers of varve', { skip }, (t) => {
  const filesystems = makeFilesystems(tempDir(t));
  for (let i = 0; i < Math.ceil(rounds / 3); i++) {
    const seed = firstSeed + 2000 + i;
    const subject = subjectNamed('varve');
    check({ seed, subject, options: 'varve', filesystems, images: i % 2 === 1 });
  }
  assert.ok(pruned > 10, `only ${pruned} objects were pruned`);
});

const EISDIR = -21;

interface One {
  readonly seed: number;
  readonly subject: Subject;
  readonly options: string;
  readonly filesystems: Filesystems;
  readonly images?: boolean;
}

let number = 0;
/** What was dropped in all. */
let pruned = 0;

function check(one: One): void {
  number += 1;
  const { seed, subject, filesystems, images } = one;
  const made = newCase(seed, images);
  const stack = new Stack(`${number}p`, made.layers, made.placement, filesystems, images);
  const folder = join(filesystems.ext4, `${number}f`);
  mkdirSync(folder);
  const ops: string[] = [];
  let live = '';
  const where = `${one.options}, seed ${seed}, layers and upper on ${made.placement}${images ? ', images' : ''}`;
  try {
    subject.mount(stack.foldersFor(subject));
    try {
      // Beyond what a path can name, where the applier here does not get.
      const weights = callWeights(made).filter(([name]) => name !== 'deep-tree');
      operate(seed, weights, stack, ops);
      live = listed(stack, subject);
      compareAll(stack, subject, folder);
    } finally {
      subject.unmount(stack.mountpoint);
    }
    assert.equal(listed(stack, subject), live, 'live and unmounted differ');
    // Mounted again and again, which the kernel does in no time; our uppers are its, too.
    const again = subject.name === 'kernel' ? subject : kernel(kernelOptions[0]);
    pruneAll(stack, again, join(folder, 'applied'));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const layers = made.layers.flatMap((steps, i) =>
      steps.map((step) => `${i}: ${JSON.stringify(step)}`),
    );
    const text = [`${error.message} (${where})`, live, ...layers, ...ops].join('\n');
    throw new Error(text, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Makes up operations and performs them on the mount. @param ops is told each. */
function operate(
  seed: number,
  weights: readonly (readonly [string, number])[],
  stack: Stack,
  ops: string[],
): void {
  const world = new World(false, stack.mountpoint);
  world.enter();
  try {
    const choices = new Choices(new Random(seed), world);
    for (const [path, line] of readTree(world.root, () => true).lines) {
      if (path !== '') choices.known.set(path, letterOf(world.root, path) ?? line.charAt(0));
    }
    rewrite(world, choices.random, ops);
    // After many, little is left of the lowers.
    const most = calls / (1 + choices.random.below(5));
    for (let i = 0; i < most; i++) {
      const op = makeOp(choices, weights);
      const answer = perform(world, op);
      ops.push(`${showOp(op)}: ${answer.slice(0, 60)}`);
      choices.learn(op, !/^E[A-Z]/.test(answer), (path) => letterOf(world.root, path));
    }
    removeReserved(world, ops);
    rewrite(world, choices.random, ops);
  } finally {
    world.leave();
  }
}

/** An OCI layer has no way to say that there is a file of this name. */
function removeReserved(world: World, ops: string[]): void {
  for (const path of [...readTree(world.root, () => true).lines.keys()].reverse()) {
    if (!/(^|\/)\.wh\./.test(path)) continue;
    const r = sys.unlink(world.root, path);
    must(r === EISDIR ? sys.rmdir(world.root, path) : r);
    ops.push(`remove ${JSON.stringify(path)}`);
  }
}

/** As programs do that update everything: files get the bytes that they have, some with their old time. */
function rewrite(world: World, random: Random, ops: string[]): void {
  for (const [path, line] of readTree(world.root, () => true).lines) {
    const isFile = line.startsWith('file ');
    if (path === '' || !(isFile || line.startsWith('dir ')) || !random.oneIn(3)) continue;
    const st = stat(world.root, path, AT.SYMLINK_NOFOLLOW);
    if (typeof st === 'number') continue;
    must(sys.chmod(world.root, path, st.mode & 0o7777));
    if (isFile) writeAgain(world.root, path, st.size);
    ops.push(`rewrite ${JSON.stringify(path)}`);
    if (random.oneIn(2)) {
      const times = [st.mtime / BILLION, st.mtime % BILLION].map(Number) as [number, number];
      must(sys.utimens(world.root, path, [times, times]));
    }
  }
}

const BILLION = 1_000_000_000n;

function writeAgain(root: number, path: string, size: number): void {
  const fd = sys.open(root, path, O.RDWR);
  if (fd < 0) return;
  const bytes = sys.pread(fd, Math.min(size, 65_536), 0);
  if (typeof bytes !== 'number') sys.pwrite(fd, bytes, 0);
  sys.close(fd);
}

/** Pruned in two runs, of which the first is stopped: the tree stays what it is after each. @param expected it, copied. */
function pruneAll(stack: Stack, subject: Subject, expected: string): void {
  const run = (keepTimes: boolean, most: number): number => {
    let dropped = 0;
    withStack(stack, subject, (opened) => {
      const upper = openSync(stack.foldersFor(subject).upper, 'r');
      try {
        const onDrop = (): void => {
          dropped += 1;
          if (dropped === most) throw new Stopped();
        };
        prune(opened, readChanges(opened), upper, { keepTimes, onDrop });
      } catch (error) {
        if (!(error instanceof Stopped)) throw error;
      } finally {
        closeSync(upper);
      }
    });
    subject.mount(stack.foldersFor(subject));
    try {
      const now = scan(stack.mountpoint);
      const ignore = keepTimes ? ([] as const) : (['time'] as const);
      try {
        sameTree(withoutSockets(now.root), expected, `pruned, ${dropped} dropped`, ignore);
      } finally {
        now.close();
      }
    } finally {
      subject.unmount(stack.mountpoint);
    }
    return dropped;
  };
  pruned += run(true, 2);
  pruned += run(true, Number.POSITIVE_INFINITY);
  pruned += run(false, Number.POSITIVE_INFINITY);
  assert.equal(run(false, Number.POSITIVE_INFINITY), 0, 'a second time there is nothing to drop');
}

class Stopped extends Error {}

function compareAll(stack: Stack, subject: Subject, folder: string): void {
  const at = (name: string): string => {
    mkdirSync(join(folder, name), { recursive: true });
    return join(folder, name);
  };
  const mountLayers = (where: string, layers: readonly string[]): void => {
    const options = `ro,redirect_dir=on,metacopy=on,index=off,lowerdir=${layers.join(':')}`;
    run('mount', ['-t', 'overlay', 'layers', where, '-o', options]);
  };
  const mounted = scan(stack.mountpoint);
  try {
    mountLayers(at('below'), [...stack.lowers, at('empty')]);
    copyByTar(at('below'), join(folder, 'below.tar'), at('applied'));
    writeDiff(stack, subject, join(folder, 'oci.tar'), true);
    applyOciLayer(join(folder, 'oci.tar'), at('applied'), join(folder, 'staging'));
    sameTree(mounted.root, at('applied'), 'lowers and the OCI layer');

    writeDiff(stack, subject, join(folder, 'kernel.tar'), false);
    untar(join(folder, 'kernel.tar'), at('layer'));
    mountLayers(at('over'), [at('layer'), ...stack.lowers]);
    sameTree(mounted.root, at('over'), 'lowers below the layer, by the kernel');
  } finally {
    mounted.close();
    for (const name of ['below', 'over']) {
      if (isMounted(join(folder, name))) run('umount', [join(folder, name)]);
    }
  }
}

function sameTree(
  expected: TreeNode,
  folder: string,
  what: string,
  ignore: readonly Aspect[] = [],
): void {
  const actual = scan(folder);
  try {
    const all = compareTrees(withoutSockets(expected), withoutSockets(actual.root), { ignore });
    assert.equal(showDifferences(all), '', what);
  } finally {
    actual.close();
  }
}

/** No archive holds them. */
function withoutSockets(root: TreeNode): TreeNode {
  walk(root, (_path, node, parent, name) => {
    if (parent !== undefined && (node.mode & S.IFMT) === S.IFSOCK) remove(parent, name);
  });
  return root;
}

function withStack<T>(stack: Stack, subject: Subject, use: (stack: UnionStack) => T): T {
  const { lowers, upper, work } = stack.foldersFor(subject);
  const opened = openLayers({
    layers: {
      lowerdirs: lowers,
      datadirs: [],
      upperdir: upper,
      workdir: work,
      userxattr: false,
      whiteouts: 'kernel',
      redirectDir: 'on',
    },
  });
  try {
    return use(asStack(opened));
  } finally {
    opened.close();
  }
}

function listed(stack: Stack, subject: Subject): string {
  return withStack(stack, subject, (opened) => nameStatus(readChanges(opened)));
}

function writeDiff(stack: Stack, subject: Subject, path: string, oci: boolean): void {
  withStack(stack, subject, (opened) => {
    const { marks } = opened.upper;
    const root = deltaTree(opened, readChanges(opened), { marks });
    removeSockets(root, marks, opened.before);
    if (oci) assert.equal(toOciForm(root, marks), undefined);
    const fd = openSync(path, 'w');
    try {
      writeTar(root, (bytes) => writeSync(fd, bytes));
    } finally {
      closeSync(fd);
    }
  });
}
