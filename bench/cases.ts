// The cases: what is stacked, what a client does on it, and the target that varve has to meet.
// Used by runner.ts, which repeats each for every subject in turn, and by report.ts for titles and targets.
// Follows: the targets of docs/benchmarks.md.

import { spawn } from 'node:child_process';
import { lstat } from 'node:fs/promises';
import type { Job } from './client.js';
import type { Environment, Fs, Privilege } from './environments.js';
import { dirName, filePath } from './layers.js';
import { serverMemory } from './processes.js';
import type { Subject, SubjectName } from './subjects.js';

/** How much work a case does. Counts are files, sizes bytes. */
export interface Scale {
  readonly files: number;
  readonly created: number;
  readonly big: number;
  readonly written: number;
  readonly smallWritten: number;
  readonly walked: number;
  readonly copied: number;
  readonly idleMounts: number;
}

const MIB = 1024 ** 2;

export const FULL_SCALE: Scale = {
  files: 20_000,
  created: 10_000,
  big: 1024 * MIB,
  written: 512 * MIB,
  smallWritten: 128 * MIB,
  walked: 1_000_000,
  copied: 4096 * MIB,
  idleMounts: 20,
};

export const QUICK_SCALE: Scale = {
  files: 4000,
  created: 2000,
  big: 256 * MIB,
  written: 128 * MIB,
  smallWritten: 32 * MIB,
  walked: 100_000,
  copied: 1024 * MIB,
  idleMounts: 5,
};

/** What a case wants stacked. */
export interface Wish {
  readonly writable: boolean;
  readonly timeout0?: boolean;
  /** Which layers: the tree of small files (default) or the wide one, of which there is no upper part. */
  readonly tree?: 'small' | 'wide' | 'empty';
  /** A file `big` of so many bytes, in this layer. */
  readonly big?: { readonly layer: 'upper' | 'lower'; readonly bytes: number };
}

export interface Mounted {
  readonly mountpoint: string;
  /** From the start of the mount command until it had exited and a first lstat was answered, in ms. */
  readonly readyMs: number;
}

/** What runner.ts offers to a case. */
export interface Bench {
  readonly environment: Environment;
  readonly scale: Scale;
  /** Builds fresh layers, mounts, calls `use`, unmounts and removes, whatever happens. */
  mounted<T>(subject: Subject, wish: Wish, use: (mounted: Mounted) => Promise<T>): Promise<T>;
  /** Runs a client in `dir`; gives what it measured, in ms. */
  client(dir: string, job: Job): Promise<number>;
  killServers(): void;
}

/** An upper bound of varve's figure: a ratio to another subject or case, or an absolute figure. */
export interface Target {
  readonly to: SubjectName | { readonly case: string } | 'absolute';
  readonly root?: number;
  readonly rootless?: number;
}

export interface Case {
  readonly name: string;
  readonly title: string;
  readonly unit: 'ms' | 'MB';
  readonly fs: readonly Fs[];
  readonly privileges: readonly Privilege[];
  /** Who takes turns; by default whatever mounts. */
  readonly subjects?: readonly SubjectName[];
  /** At most so many rounds, for what takes long and varies little. */
  readonly maxRounds?: number;
  readonly targets: readonly Target[];
  measure(bench: Bench, subject: Subject): Promise<number>;
}

const BOTH: readonly Privilege[] = ['root', 'rootless'];
const SERVED: readonly SubjectName[] = ['fuse-overlayfs', 'varve'];

/** A case that is one client on one mount. */
function timed(
  wish: (scale: Scale) => Wish,
  job: (scale: Scale) => Job,
): (bench: Bench, subject: Subject) => Promise<number> {
  return (bench, subject) =>
    bench.mounted(subject, wish(bench.scale), ({ mountpoint }) =>
      bench.client(mountpoint, job(bench.scale)),
    );
}

const writable = (): Wish => ({ writable: true });

/** An otherwise empty stack with a file `big` in one layer. */
function withBig(
  layer: 'upper' | 'lower',
  { bytes, writable = true }: { bytes: number; writable?: boolean },
): Wish {
  return { writable, tree: 'empty', big: { layer, bytes } };
}

function toPeer(root: number, rootless = root): Target {
  return { to: 'fuse-overlayfs', root, rootless };
}

const perTree = { unit: 'ms', fs: ['tmpfs', 'ext4'], privileges: BOTH } as const;

const metadata: readonly Case[] = [
  {
    ...perTree,
    name: 'first-stat',
    title: 'first stat of {files} files on a fresh mount',
    targets: [toPeer(1.1)],
    measure: timed(writable, ({ files }) => ({ do: 'stat', count: files, warmups: 0 })),
  },
  {
    ...perTree,
    name: 'stat-timeout0',
    title: 'stat of {files} files with timeout=0',
    targets: [toPeer(0.3)],
    measure: timed(
      () => ({ writable: true, timeout0: true }),
      ({ files }) => ({ do: 'stat', count: files, warmups: 1 }),
    ),
  },
  {
    ...perTree,
    name: 'warm-stat',
    title: 'warm stat of {files} files',
    targets: [{ to: 'kernel', root: 1.05, rootless: 1.05 }],
    measure: timed(writable, ({ files }) => ({ do: 'stat', count: files, warmups: 2 })),
  },
  {
    ...perTree,
    name: 'readdir-stat',
    title: 'readdir and stat of the whole tree',
    targets: [toPeer(1.0)],
    measure: timed(writable, () => ({ do: 'walk', stat: true, warmups: 0 })),
  },
  {
    ...perTree,
    name: 'find-again',
    title: 'repeated find',
    targets: [toPeer(0.2)],
    measure: timed(writable, () => ({ do: 'walk', stat: false, warmups: 2 })),
  },
  {
    ...perTree,
    name: 'open-read-close',
    title: 'open, read 4 KiB, close of {files} files',
    targets: [toPeer(0.6)],
    measure: timed(writable, ({ files }) => ({ do: 'open-read-close', count: files })),
  },
];

const data: readonly Case[] = [
  {
    ...perTree,
    name: 'read-upper',
    title: 'read {big} from the upper',
    targets: [toPeer(0.35, 1.1), { to: 'kernel', root: 1.25 }],
    measure: timed(
      ({ big }) => withBig('upper', { bytes: big }),
      () => ({ do: 'read', file: 'big' }),
    ),
  },
  {
    ...perTree,
    name: 'read-readonly',
    title: 'read {big} from a read-only stack',
    targets: [toPeer(0.35, 1.1), { to: 'kernel', root: 1.25 }],
    measure: timed(
      ({ big }) => withBig('lower', { bytes: big, writable: false }),
      () => ({ do: 'read', file: 'big' }),
    ),
  },
  {
    ...perTree,
    name: 'read-lower',
    title: 'read {big} from a lower of a writable stack',
    targets: [toPeer(1.1)],
    measure: timed(
      ({ big }) => withBig('lower', { bytes: big }),
      () => ({ do: 'read', file: 'big' }),
    ),
  },
  {
    ...perTree,
    name: 'write',
    title: 'write {written} to a new file',
    targets: [toPeer(0.35, 0.8), { to: 'kernel', root: 1.0 }],
    measure: timed(
      () => ({ writable: true, tree: 'empty' }),
      ({ written }) => ({ do: 'write', file: 'new', bytes: written }),
    ),
  },
  {
    ...perTree,
    name: 'write-4k',
    title: '4 KiB writes in order, {smallWritten} in the upper',
    targets: [toPeer(0.15, 0.8)],
    measure: timed(
      ({ smallWritten: bytes }) => withBig('upper', { bytes }),
      ({ smallWritten: bytes }) => ({ do: 'small-writes', file: 'big', bytes, shuffled: false }),
    ),
  },
  {
    ...perTree,
    name: 'write-4k-shuffled',
    title: '4 KiB writes out of order, {smallWritten} in the upper',
    targets: [toPeer(0.15, 0.8)],
    measure: timed(
      ({ smallWritten: bytes }) => withBig('upper', { bytes }),
      ({ smallWritten: bytes }) => ({ do: 'small-writes', file: 'big', bytes, shuffled: true }),
    ),
  },
];

const names: readonly Case[] = [
  {
    ...perTree,
    name: 'create',
    title: 'create {created} files of 1 KiB',
    targets: [toPeer(0.45)],
    measure: timed(writable, ({ created }) => ({ do: 'create', count: created })),
  },
  {
    ...perTree,
    name: 'unlink',
    title: 'unlink {created} files just created',
    targets: [toPeer(0.5)],
    measure: timed(writable, ({ created }) => ({ do: 'unlink', count: created })),
  },
];

const SMALL_COPY = 16 * MIB;

const copyUp: readonly Case[] = [
  {
    name: 'copy-up-small',
    title: 'copy-up of 16 MiB, reflink',
    unit: 'ms',
    fs: ['xfs'],
    privileges: ['root'],
    targets: [],
    measure: timed(
      () => withBig('lower', { bytes: SMALL_COPY }),
      () => ({ do: 'open-for-write', file: 'big' }),
    ),
  },
  {
    name: 'copy-up-big',
    title: 'copy-up of {big}, reflink: O(1)',
    unit: 'ms',
    fs: ['xfs'],
    privileges: ['root'],
    // Twice is generous for a constant: 64 times the bytes would be 64 times the time.
    targets: [{ to: { case: 'copy-up-small' }, root: 2 }],
    measure: timed(
      ({ big }) => withBig('lower', { bytes: big }),
      () => ({ do: 'open-for-write', file: 'big' }),
    ),
  },
  {
    name: 'stat-while-copying',
    title: 'stat with timeout=0 during a copy-up of {copied}, 99th percentile',
    unit: 'ms',
    fs: ['tmpfs'],
    privileges: BOTH,
    maxRounds: 2,
    targets: [{ to: 'absolute', root: 5, rootless: 5 }],
    measure: timed(
      ({ copied }) => ({
        writable: true,
        timeout0: true,
        big: { layer: 'lower', bytes: copied },
      }),
      () => ({ do: 'stat-while-copying', file: 'big', other: filePath(1) }),
    ),
  },
];

const footprint: readonly Case[] = [
  {
    name: 'memory-walk',
    title: 'growth of server memory (PSS) by a walk over {walked} files',
    unit: 'MB',
    fs: ['tmpfs'],
    privileges: BOTH,
    subjects: SERVED,
    maxRounds: 1,
    targets: [{ to: 'absolute', root: 150, rootless: 150 }],
    measure: (bench, subject) =>
      bench.mounted(subject, { writable: true, tree: 'wide' }, async ({ mountpoint }) => {
        const before = serverMemory();
        await bench.client(mountpoint, { do: 'walk', stat: true, warmups: 0 });
        return (serverMemory() - before) / 1e6;
      }),
  },
  {
    name: 'memory-idle',
    title: 'memory (PSS) of {idleMounts} idle mounts, supervisor included',
    unit: 'MB',
    fs: ['tmpfs'],
    privileges: BOTH,
    subjects: SERVED,
    maxRounds: 1,
    targets: [{ to: 'absolute', root: 600, rootless: 600 }],
    measure(bench, subject) {
      bench.killServers(); // nothing left over may count
      const mountAnother = (left: number): Promise<number> =>
        left === 0
          ? Promise.resolve(serverMemory() / 1e6)
          : bench.mounted(subject, { writable: true, tree: 'empty' }, () => mountAnother(left - 1));
      return mountAnother(bench.scale.idleMounts);
    },
  },
  {
    name: 'ready-first',
    title: "mount ready, the user's first (ratio to a bare `node -e 0`)",
    unit: 'ms',
    fs: ['tmpfs'],
    privileges: BOTH,
    subjects: ['kernel', 'fuse-overlayfs', 'varve', 'node'],
    targets: [{ to: 'node', root: 4, rootless: 4 }],
    measure(bench, subject) {
      bench.killServers();
      return timeToReady(bench, subject);
    },
  },
  {
    name: 'ready-next',
    title: 'mount ready with the supervisor running (ratio to a bare `node -e 0`)',
    unit: 'ms',
    fs: ['tmpfs'],
    privileges: BOTH,
    subjects: ['kernel', 'fuse-overlayfs', 'varve', 'node'],
    targets: [{ to: 'node', root: 4, rootless: 4 }],
    measure: (bench, subject) =>
      subject.name === 'varve'
        ? bench.mounted(subject, { writable: true, tree: 'empty' }, () =>
            timeToReady(bench, subject),
          )
        : timeToReady(bench, subject),
  },
];

function timeToReady(bench: Bench, subject: Subject): Promise<number> {
  if (subject.name === 'node') return bareNode();
  return bench.mounted(subject, { writable: true, tree: 'empty' }, ({ readyMs }) =>
    Promise.resolve(readyMs),
  );
}

/** One start of Node that does nothing, in ms: the yardstick of the mount command. */
function bareNode(): Promise<number> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' })
      .once('error', reject)
      .once('exit', () => resolve(performance.now() - start));
  });
}

export const CASES: readonly Case[] = [...metadata, ...data, ...names, ...copyUp, ...footprint];

/** The title with this scale's figures in it. */
export function titleOf({ title }: Case, scale: Scale): string {
  return title.replace(/\{(\w+)\}/g, (_, key: string) => {
    const value = scale[key as keyof Scale];
    if (value < MIB) return value.toLocaleString('en-US');
    return value % (1024 * MIB) === 0 ? `${value / (1024 * MIB)} GiB` : `${value / MIB} MiB`;
  });
}

/** A name to lstat on a fresh mount: it has to reach the server, and exists in every tree. */
export const PROBE_NAME = dirName(0);

/** Resolves when the mount answers. */
export async function answers(mountpoint: string): Promise<void> {
  await lstat(`${mountpoint}/${PROBE_NAME}`);
}
