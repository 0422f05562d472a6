// Runs a case: one stack, a sequence of operations on both sides, and every comparison of the two.
// Cases come from a seed (newCase) or from a file; oracle.test.ts runs many, main.ts any of them.
// The differences that are allowed, and why, stand in allowed.ts.

import type { Subject } from '../support/subjects.js';
import { AT, asUser, forgetNames, must, S, stat, sys } from '../support/sys.js';
import { allowed, spared } from './allowed.js';
import { dataKinds } from './kinds-data.js';
import { metaKinds } from './kinds-meta.js';
import { nameKinds } from './kinds-names.js';
import { type LayerStep, makeLayers, parentOf } from './layers.js';
import { type Args, Choices, type Kind, longest, type Op } from './op.js';
import { Random } from './random.js';
import { type Filesystems, type Placement, Stack } from './stack.js';
import { differences, printable, readTree, type Tree } from './tree.js';
import { World } from './world.js';

/** All that is needed to run the same thing again. */
export interface Case {
  seed: number;
  placement: Placement;
  /** The lowers are EROFS images. */
  images?: boolean;
  /** The kernel is made to forget names now and then. */
  forgets?: boolean;
  /** The lowest first. */
  layers: LayerStep[][];
  ops: Op[];
}

export interface Failure {
  /** What disagreed: `operation` or the name of a comparison. */
  stage: string;
  /** Index of the last operation that had run; -1 before the first. */
  at: number;
  /** Readable lines. */
  details: string[];
}

export interface Bench {
  subject: Subject;
  oracle: Subject;
  filesystems: Filesystems;
}

export const kinds: Record<string, Kind> = { ...dataKinds, ...nameKinds, ...metaKinds };

/** Steps of a campaign that are no system calls: compare, let the subject forget, mount anew, make the upper a lower. */
const steps = [
  ['compare', 8],
  ['forget', 8],
  ['remount', 3],
  ['rotate', 2],
] as const;

/** ACLs: kernel overlayfs sets none on what lies in EROFS (EOPNOTSUPP), whatever the upper is. */
const notInImages = new Set(['set-acl', 'set-default-acl', 'remove-acl']);

function weights(one: Case): (readonly [string, number])[] {
  return [...callWeights(one), ...steps].filter(([name]) => {
    if (name === 'forget') return one.forgets === true;
    return name !== 'rotate' || !hasLinks(one.seed);
  });
}

/** The system calls that a case may make, and how often. */
export function callWeights({ seed, images }: Case): (readonly [string, number])[] {
  const all = Object.entries(kinds).map(([name, { weight }]) => [name, weight] as const);
  return all.filter(([name]) => {
    if (images === true && notInImages.has(name)) return false;
    return hasLinks(seed) || !linking.has(name);
  });
}

const mostLayers = 10;

/**
 * Half the cases have hard links, the others make their upper a lower now and then. Not both: when
 * one name of a file was copied up and that upper becomes a lower, the kernel shows two files
 * ("hard links break", which the documentation calls non-standard); there we go on showing one.
 */
const hasLinks = (seed: number) => seed % 2 === 0;

const linking = new Set(['link', 'link-follow', 'link-fd']);

export function newCase(seed: number, images = false, forgets = false): Case {
  const random = new Random(seed);
  const placement = random.pick(['tmpfs', 'ext4', 'both'] as const);
  const layers = makeLayers(random, 1 + random.below(4), hasLinks(seed));
  return {
    seed,
    placement,
    ...(images ? { images } : {}),
    ...(forgets ? { forgets } : {}),
    layers,
    ops: [],
  };
}

export interface CaseRun {
  failure: Failure | undefined;
  /** How often each kind ran. */
  counts: Map<string, number>;
  /** Differences that were allowed, by reason. */
  allowances: Map<string, number>;
}

/**
 * @param make how many operations to make up and append to the case; 0 runs those it has
 * @param number makes the folders of this run its own
 * @param short leaves out what comes after the last operation
 */
export function runCase(
  one: Case,
  bench: Bench,
  number: number,
  make: number,
  short = false,
): CaseRun {
  const result: CaseRun = { failure: undefined, counts: new Map(), allowances: new Map() };
  const stackOf = (side: string) =>
    new Stack(`${number}${side}`, one.layers, one.placement, bench.filesystems, one.images);
  const run = new Run(one, bench, stackOf('a'), stackOf('b'), result);
  try {
    run.operations(make);
    if (!short) run.finish();
  } catch (error) {
    if (!(error instanceof Disagreement)) throw error;
    result.failure = { stage: error.stage, at: run.at, details: error.details };
  } finally {
    run.abandon();
  }
  return result;
}

/** Whether a stage comes before the end of the operations. */
export function isEarly(stage: string): boolean {
  return /^(operation|first look|tree|tree after (remount|rotate))(: |$)/.test(stage);
}

class Disagreement extends Error {
  readonly stage: string;
  readonly details: string[];
  constructor(stage: string, details: string[]) {
    super(stage);
    this.stage = stage;
    this.details = details;
  }
}

class Run {
  /** Index of the operation that runs or has run last. */
  at = -1;
  readonly #case: Case;
  readonly #bench: Bench;
  readonly #ours: { world: World; stack: Stack; mounted: boolean };
  readonly #theirs: { world: World; stack: Stack; mounted: boolean };
  readonly #result: CaseRun;
  #lowers: Tree[];

  constructor(one: Case, bench: Bench, ours: Stack, theirs: Stack, result: CaseRun) {
    this.#case = one;
    this.#bench = bench;
    this.#result = result;
    this.#ours = { world: new World(false, ours.mountpoint), stack: ours, mounted: false };
    this.#theirs = { world: new World(true, theirs.mountpoint), stack: theirs, mounted: false };
    this.#lowers = ours.lowerTrees();
  }

  operations(make: number): void {
    this.#mount();
    this.#compare('first look');
    const random = new Random(this.#case.seed ^ 0x5eed);
    const choices = new Choices(random, this.#theirs.world);
    if (make > 0) this.#survey(choices);
    const { ops } = this.#case;
    const possible = weights(this.#case);
    for (this.at = 0; this.at < (make > 0 ? make : ops.length); this.at++) {
      const op = make > 0 ? makeOp(choices, possible) : (ops[this.at] as Op);
      if (make > 0) ops.push(op);
      this.#result.counts.set(op.kind, (this.#result.counts.get(op.kind) ?? 0) + 1);
      if (!this.#step(op, choices)) this.#both(op, choices);
    }
    this.at = ops.length - 1;
  }

  /** Every comparison that needs the mounts gone or others in their place. */
  finish(): void {
    this.#compare('final tree');
    this.#unmount();
    this.#checkLowers();
    this.#mount();
    const expected = this.#compare('tree after a remount');
    this.#unmount();
    const { subject, oracle } = this.#bench;
    const byKernel = this.#ours.stack.treeThrough(oracle);
    fail('our layers mounted by the kernel', differences(byKernel, expected));
    const bySubject = this.#theirs.stack.treeThrough(subject);
    fail("the kernel's layers mounted by the subject", differences(bySubject, expected));
    this.#checkLowers();
  }

  /** After a failure: nothing stays open; what cannot be unmounted is left to the caller's folder. */
  abandon(): void {
    for (const side of [this.#ours, this.#theirs]) {
      side.world.leave();
      if (!side.mounted) continue;
      try {
        (side === this.#ours ? this.#bench.subject : this.#bench.oracle).unmount(
          side.stack.mountpoint,
        );
      } catch {
        // The disagreement is the news, not this.
      }
      side.mounted = false;
    }
  }

  #both(op: Op, choices: Choices): void {
    const spares = spared(op, this.#theirs.world);
    if (spares !== undefined) {
      this.#allow(spares);
      return;
    }
    const ours = perform(this.#ours.world, op);
    const keep = keepTime(this.#theirs.world.root, op);
    const theirs = perform(this.#theirs.world, op);
    if (/^ENOTEMPTY$/.test(theirs)) keep();
    if (ours !== theirs) {
      const reason = allowed(op, ours, theirs);
      if (reason === undefined) {
        const details = [
          showOp(op),
          `subject: ${printable(ours)}`,
          `oracle:  ${printable(theirs)}`,
        ];
        throw new Disagreement('operation', details);
      }
      this.#allow(reason);
      if (op.slot !== undefined && op.kind !== 'fstat') this.#closeSame(op.slot);
    }
    const root = this.#theirs.world.root;
    choices.learn(op, !/^E[A-Z]/.test(theirs), (path) => letterOf(root, path));
  }

  #allow(reason: string): void {
    this.#result.allowances.set(reason, (this.#result.allowances.get(reason) ?? 0) + 1);
  }

  /** Closes a descriptor and all others of the same object, on both sides. */
  #closeSame(slot: number): void {
    const { world } = this.#ours;
    const inode = (index: number): string => {
      const st = stat(world.fd(index), '');
      return typeof st === 'number' ? '' : `${st.dev} ${st.ino}`;
    };
    const wanted = inode(slot);
    for (let i = 0; i < world.slots.length; i++) {
      if (i !== slot && inode(i) !== wanted) continue;
      for (const side of [this.#ours, this.#theirs]) side.world.close(i);
    }
  }

  /** @returns whether it was a step of the campaign itself */
  #step(op: Op, choices: Choices): boolean {
    if (op.kind === 'compare') {
      const tree = this.#compare('tree');
      choices.known.clear();
      for (const [path, line] of tree.lines) {
        if (path !== '' && path.length < longest) choices.known.set(path, lineLetter(line));
      }
      return true;
    }
    if (op.kind === 'forget') {
      if (this.#bench.subject.name === 'varve') must(forgetNames(this.#ours.stack.mountpoint));
      return true;
    }
    if (op.kind !== 'remount' && op.kind !== 'rotate') return false;
    this.#unmount();
    if (op.kind === 'rotate' && this.#ours.stack.lowers.length < mostLayers) {
      this.#checkLowers();
      this.#ours.stack.rotate();
      this.#theirs.stack.rotate();
      this.#lowers = this.#ours.stack.lowerTrees();
    }
    this.#mount();
    this.#compare(`tree after ${op.kind}`);
    return true;
  }

  #survey(choices: Choices): void {
    for (const [path, line] of readTree(this.#theirs.world.root, () => true).lines) {
      if (path !== '') choices.known.set(path, lineLetter(line));
    }
  }

  #mount(): void {
    this.#bench.subject.mount(this.#ours.stack.foldersFor(this.#bench.subject));
    this.#ours.mounted = true;
    this.#bench.oracle.mount(this.#theirs.stack.foldersFor(this.#bench.oracle));
    this.#theirs.mounted = true;
    this.#ours.world.enter();
    this.#theirs.world.enter();
  }

  #unmount(): void {
    this.#ours.world.leave();
    this.#theirs.world.leave();
    this.#bench.subject.unmount(this.#ours.stack.mountpoint);
    this.#ours.mounted = false;
    this.#bench.oracle.unmount(this.#theirs.stack.mountpoint);
    this.#theirs.mounted = false;
  }

  #compare(stage: string): Tree {
    const ours = readTree(this.#ours.world.root, () => true);
    const theirs = readTree(this.#theirs.world.root, () => true);
    fail(stage, differences(ours, theirs));
    // Numbers differ between the sides, so only what a side says about itself can be checked; the
    // kernel's own contradictions are not ours to report.
    if (this.#bench.subject.name !== 'kernel') {
      fail(`${stage}: the subject contradicts itself`, ours.contradictions.map(printable));
    }
    return theirs;
  }

  #checkLowers(): void {
    const { stack } = this.#ours;
    stack.lowerTrees().forEach((tree, i) => {
      const before = this.#lowers[i];
      if (before !== undefined) fail(`lower ${i} has changed`, differences(tree, before));
    });
  }
}

function fail(stage: string, details: string[]): void {
  if (details.length > 0) throw new Disagreement(stage, details);
}

export function makeOp(choices: Choices, possible: readonly (readonly [string, number])[]): Op {
  const { random } = choices;
  const kind = random.weighted(possible);
  const args = kinds[kind]?.make(choices) ?? {};
  const op: Op = { kind, ...args };
  if (kinds[kind] !== undefined && random.oneIn(5)) op.as = random.pick([1000, 1000, 1001]);
  if (op.mode !== undefined && random.oneIn(4)) op.umask = random.pick([0o22, 0o77, 0o27]);
  return op;
}

export function perform(world: World, op: Op): string {
  const kind = kinds[op.kind];
  if (kind === undefined) throw new Error(`unknown operation ${op.kind}`);
  const user = op.as ?? 0;
  sys.umask(op.umask ?? 0);
  try {
    return asUser(user, user, () => kind.run(world, op as Op & Args));
  } catch (error) {
    return `threw ${error instanceof Error ? error.message : error}`;
  } finally {
    sys.umask(0o22);
  }
}

/**
 * A rename that ext4 refuses changes its folder's time if it was to leave a whiteout (ext4_resetent), as the kernel's
 * overlay has it do. @returns what puts the time back.
 */
function keepTime(root: number, op: Op): () => void {
  if (!op.kind.startsWith('rename') || op.path === undefined) return () => {};
  const folder = parentOf(op.path) || '.';
  const mtimeOf = (): bigint | undefined => {
    const st = stat(root, folder);
    return typeof st === 'number' ? undefined : st.mtime;
  };
  const before = mtimeOf();
  return () => {
    if (before === undefined || mtimeOf() === before) return;
    const time = [Number(before / 1_000_000_000n), Number(before % 1_000_000_000n)] as const;
    sys.utimens(root, folder, ['omit', [...time]]);
  };
}

export function letterOf(root: number, path: string): string | undefined {
  const st = stat(root, path, AT.SYMLINK_NOFOLLOW);
  if (typeof st === 'number') return undefined;
  const type = st.mode & S.IFMT;
  return type === S.IFDIR ? 'd' : type === S.IFREG ? 'f' : type === S.IFLNK ? 'l' : 'o';
}

function lineLetter(line: string): string {
  const type = line.slice(0, line.indexOf(' '));
  return type === 'dir' ? 'd' : type === 'file' ? 'f' : type === 'symlink' ? 'l' : 'o';
}

/** One operation a line, readable and as short as it gets. */
export function showOp(op: Op): string {
  const { kind, ...args } = op;
  const text = Object.entries(args).map(([key, value]) => {
    if (typeof value === 'string') return `${key}=${JSON.stringify(printable(value))}`;
    if (key === 'mode' || key === 'umask') return `${key}=0${(value as number).toString(8)}`;
    if (key === 'flags') return `flags=0x${(value as number).toString(16)}`;
    return `${key}=${JSON.stringify(value)}`;
  });
  return `${kind} ${text.join(' ')}`;
}
