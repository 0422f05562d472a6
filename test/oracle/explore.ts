// Many cases in a row: fresh stacks from consecutive seeds until the wanted number of operations ran.
// Called by oracle.test.ts and main.ts; a failing case is made small (minimise.ts) before it is told.
// Brings its own filesystems: a tmpfs and an ext4 image, both gone with the folder they are in.

import { spawnSync } from 'node:child_process';
import { mkdirSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { detachBelow } from '../support/mounts.js';
import { kernel, subjectNamed } from '../support/subjects.js';
import { enterOwnMountNamespace } from '../support/sys.js';
import {
  type Bench,
  type Case,
  type Failure,
  isEarly,
  newCase,
  runCase,
  showOp,
} from './campaign.js';
import { minimise } from './minimise.js';
import type { Filesystems } from './stack.js';

export interface Plan {
  subject: string;
  /** Operations in all. */
  ops: number;
  /** The first seed; each stack takes the next. */
  seed: number;
  /** Operations on one stack. */
  opsPerStack: number;
  /** Milliseconds to spend on making a failing case small. */
  patience: number;
  /** Lowers become EROFS images, which the subject takes as they are and the oracle mounted. */
  images?: boolean;
  /** Names are forgotten now and then, so that nodes are made anew. */
  forgets?: boolean;
  /** Failing cases after which it stops. */
  failures: number;
  /** An empty folder; filesystems are mounted in it. */
  folder: string;
  report(line: string): void;
  /** Told of each failing case once it is small. */
  onFailure?(failed: FailedCase): void;
}

export interface FailedCase {
  failure: Failure;
  one: Case;
}

export interface Summary {
  ops: number;
  stacks: number;
  kinds: number;
  counts: Map<string, number>;
  allowances: Map<string, number>;
  failed: FailedCase[];
  milliseconds: number;
}

let alone = false;

/** Mounts both filesystems below a folder; unmounted with it by test/support/temp.ts. */
export function makeFilesystems(folder: string): Filesystems {
  // A copy of our mounts elsewhere would keep an upper in use after its mount is gone.
  // Other tests mount below /tmp, or beside the folder that test/run.ts gave to this one.
  if (!alone) enterOwnMountNamespace(['/tmp', dirname(realpathSync(tmpdir()))]);
  alone = true;
  const filesystems = { tmpfs: join(folder, 'tmpfs'), ext4: join(folder, 'ext4') };
  for (const path of Object.values(filesystems)) mkdirSync(path);
  run('mount', ['-t', 'tmpfs', '-o', 'noatime,size=2g', 'oracle', filesystems.tmpfs]);
  // In memory: unmounting waits until everything is written, and a disk may be busy with others.
  const image = join(filesystems.tmpfs, 'ext4.img');
  run('truncate', ['-s', '8G', image]);
  run('mkfs.ext4', ['-q', '-O', '^has_journal', image]);
  run('mount', ['-o', 'loop,noatime', image, filesystems.ext4]);
  return filesystems;
}

export function explore(plan: Plan): Summary {
  const started = Date.now();
  const bench: Bench = {
    subject: subjectNamed(plan.subject),
    oracle: kernel(),
    filesystems: makeFilesystems(plan.folder),
  };
  const summary: Summary = {
    ...{ ops: 0, stacks: 0, kinds: 0, failed: [], milliseconds: 0 },
    counts: new Map(),
    allowances: new Map(),
  };
  for (let seed = plan.seed; summary.ops < plan.ops; seed++) {
    const one = newCase(seed, plan.images, plan.forgets);
    const size = Math.min(plan.opsPerStack, plan.ops - summary.ops);
    const { failure, counts, allowances } = runIn(one, bench, size);
    summary.ops += size;
    summary.stacks += 1;
    add(summary.counts, counts);
    add(summary.allowances, allowances);
    if (failure === undefined) {
      plan.report(`seed ${seed}: ${size} operations agree (${one.placement})`);
      continue;
    }
    plan.report(`seed ${seed}: ${failure.stage} disagrees after operation ${failure.at}`);
    const failed = shrunk(one, failure, bench, plan.patience);
    plan.onFailure?.(failed);
    summary.failed.push(failed);
    if (summary.failed.length >= plan.failures) break;
  }
  summary.kinds = summary.counts.size;
  summary.milliseconds = Date.now() - started;
  return summary;
}

/** Runs the operations that a case holds. */
export function replay(one: Case, subject: string, folder: string): Failure | undefined {
  const filesystems = makeFilesystems(folder);
  const bench = { subject: subjectNamed(subject), oracle: kernel(), filesystems };
  return runIn(one, bench, 0).failure;
}

let runs = 0;

function runIn(one: Case, bench: Bench, make: number, short = false): ReturnType<typeof runCase> {
  runs += 1;
  const before = runs;
  try {
    return runCase(one, bench, runs, make, short);
  } finally {
    for (const base of Object.values(bench.filesystems)) {
      for (const name of [`${before}a`, `${before}b`, `${before}a-up`, `${before}b-up`]) {
        detachBelow(join(base, name));
        spawnSync('rm', ['-rf', '--one-file-system', join(base, name)]);
      }
    }
  }
}

function shrunk(one: Case, failure: Failure, bench: Bench, patience: number): FailedCase {
  const cut = { ...one, ops: one.ops.slice(0, failure.at + 1) };
  let last = failure;
  const fails = (some: Case) => {
    const found = runIn(some, bench, 0, isEarly(failure.stage)).failure;
    if (found === undefined || found.stage !== failure.stage) return false;
    last = found;
    return true;
  };
  if (patience === 0 || !fails(cut)) return { failure, one: cut };
  const small = minimise(cut, fails, patience);
  // The last trial may not have been the best one.
  fails(small);
  return { failure: last, one: small };
}

function add(to: Map<string, number>, some: Map<string, number>): void {
  for (const [key, count] of some) to.set(key, (to.get(key) ?? 0) + count);
}

/** A failing case as a person reads it, with the text that main.ts replays. */
export function tell({ failure, one }: FailedCase): string {
  return [
    `${failure.stage} (seed ${one.seed}, layers and upper on ${one.placement}):`,
    ...failure.details.map((line) => `  ${line}`),
    `  layers, the lowest first:`,
    ...one.layers.flatMap((steps, i) => steps.map((step) => `    ${i}: ${JSON.stringify(step)}`)),
    `  operations:`,
    ...one.ops.map((op, i) => `    ${i}: ${showOp(op)}`),
    `  to replay, save the next line and pass it to dist/test/oracle/main.js --replay FILE:`,
    JSON.stringify(one),
  ].join('\n');
}

function run(command: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}
