// `npm run bench:lazy`: a command in an image of a slow registry, at once against pulled first; what waits, and what is left of it after detach.
// A program of its own, on the base of turns.ts; needs root and docker-registry. The wire is a proxy in this process (test/oci/shaper.ts).
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ChunkTable } from '../src/lazy/chunk-table.js';
import type { LayerFolder } from '../src/lazy/layer-folder.js';
import { layersOf } from '../src/lazy/local-chunks.js';
import type { LoaderStatus } from '../src/lazy/protocol.js';
import { startShaper } from '../test/oci/shaper.js';
import {
  type Caller,
  type DebianImage,
  debianImage,
  run,
  script,
} from '../test/registry/debian-image.js';
import { type Case, type Figures, Turns, tableOf, writeDocs } from './turns.js';

const HELP = `usage: npm run bench:lazy -- [OPTION]...

Runs a first command in a Debian image of more than 300 MB that lies in a registry 20 ms and 100 Mbit/s away, lazily and pulled first,
taking turns, and prints minimums and ratios.

  --rounds N          turns of each subject (default 3)
  --only PATTERN      cases whose name matches this regular expression
  --latency MS        there and back (default 20)
  --rate MBIT         megabits a second (default 100)
  --write-docs        put the table into docs/benchmarks.md
`;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    latency: { type: 'string', default: '20' },
    rate: { type: 'string', default: '100' },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** `first` and `throughput` are ratios of seconds, `bytes` one of bytes, `parked` milliseconds. */
const LIMITS = { first: 0.15, bytes: 1.3, throughput: 1.03, parked: 20 } as const;
const COMMAND = ['/bin/bash', '-c', 'apt-get --version'] as const;
/** Readers that wait for what does not come. */
const PARKED = 200;
/** Times that a mount is read in a turn. */
const READINGS = 3;
const MIB = 1 << 20;

type Way = 'kernel' | 'fuse';
const WAYS: readonly Way[] = ['kernel', 'fuse'];

async function main(): Promise<void> {
  const ends: (() => void | Promise<void>)[] = [];
  const turns = new Turns({ scratch: '/tmp', varve: '', rounds: Number(options.rounds) });
  try {
    const image = await debianImage({ after: (end) => void ends.push(end) });
    const bench = new Bench(image);
    ends.push(() => bench.close());
    await bench.prepare();
    const rows: string[] = [];
    for (const one of bench.cases().filter(({ name }) => new RegExp(options.only).test(name))) {
      rows.push(...(await turns.rows(one)));
    }
    const table = tableOf(await bench.about(), rows);
    process.stdout.write(`${table}\n`);
    if (options['write-docs']) writeDocs('lazy', table);
  } finally {
    for (const end of ends.reverse()) await end();
    turns.close();
  }
}

interface Mounts {
  readonly caller: Caller;
  readonly late: string;
  readonly local: string;
}

class Bench {
  readonly #image: DebianImage;
  readonly #mounts = new Map<Way, Promise<Mounts>>();
  #turns = 0;

  constructor(image: DebianImage) {
    this.#image = image;
  }

  /** A recorded order goes along with a second tag of the same image. */
  async prepare(): Promise<void> {
    const caller = this.#image.caller('recorder');
    const { ref } = this.#image;
    await caller.must('record', '--plain-http', '-q', ref, '--', ...COMMAND);
    await caller.must('pull', '--plain-http', '-q', ref);
    await caller.must('push', '--plain-http', '-q', ref, this.#recorded);
  }

  get #recorded(): string {
    return this.#image.ref.replace(/:1$/, ':recorded');
  }

  cases(): Case[] {
    const pull = (): Promise<Figures> => this.#pullThenRun();
    return [
      ...WAYS.map((way) => ({
        name: `first-${way}`,
        title: `first output, ${way}`,
        subjects: { varve: () => this.#first(way, this.#image.ref), pull },
        limits: [{ figure: 'seconds', to: 'pull', limit: LIMITS.first }],
      })),
      ...WAYS.map((way) => ({
        name: `recorded-${way}`,
        title: `first output with a recorded order, ${way}`,
        subjects: { varve: () => this.#first(way, this.#recorded), pull },
        limits: [{ figure: 'seconds', to: 'pull', limit: LIMITS.first }],
      })),
      ...WAYS.map((way) => ({
        name: `bytes-${way}`,
        title: `bytes fetched without a recorded order, ${way}`,
        subjects: { varve: () => this.#fetched(way), read: () => this.#unitsRead() },
        limits: [{ figure: 'bytes', to: 'read', limit: LIMITS.bytes }],
      })),
      {
        name: 'parked',
        title: `1 MiB of a file that is here, not cached, while ${PARKED} reads wait`,
        subjects: { varve: () => this.#parked() },
        limits: [{ figure: 'ms', to: 'absolute', limit: LIMITS.parked }],
      },
      ...WAYS.map((way) => ({
        name: `throughput-${way}`,
        title: `all files read after detach, ${way}`,
        subjects: { varve: () => this.#readAll(way, true), local: () => this.#readAll(way, false) },
        limits: [{ figure: 'seconds', to: 'local', limit: LIMITS.throughput }],
      })),
    ];
  }

  async about(): Promise<string> {
    const { root } = this.#image;
    const bytes = Number(await script(`du -sb --apparent-size "${root}" | cut -f1`));
    const files = (await script(`find "${root}" | wc -l`)).trim();
    return `a Debian root of ${Math.round(bytes / 1e6)} MB (${files} names) in docker-registry, ${options.latency} ms there and back, ${options.rate} Mbit/s, on ${cpus().length} x ${cpus()[0]?.model}, Linux ${release()}; minimums of ${options.rounds} rounds`;
  }

  /** Somebody who has nothing yet. */
  #newcomer(): Caller {
    return this.#image.caller(`turn${this.#turns++}`);
  }

  /** The wire as far as the options say, during `work`. */
  async #shaped<T>(work: () => Promise<T>): Promise<T> {
    const { shaper } = this.#image;
    shaper.latency = Number(options.latency) / 2;
    shaper.rate = (Number(options.rate) * 1e6) / 8;
    try {
      return await work();
    } finally {
      shaper.latency = 0;
      shaper.rate = Number.POSITIVE_INFINITY;
    }
  }

  async #first(way: Way, ref: string): Promise<Figures> {
    const { shaper } = this.#image;
    const caller = this.#newcomer();
    const before = shaper.bytes.down;
    const seconds = await this.#shaped(() =>
      timed(() =>
        caller.must(
          'run',
          '-q',
          '--plain-http',
          '--no-fill',
          `--backend=${way}`,
          ref,
          '--',
          ...COMMAND,
        ),
      ),
    );
    const bytes = (shaper.bytes.down - before) / MIB;
    forget(caller);
    return { seconds, bytes };
  }

  async #pullThenRun(): Promise<Figures> {
    const { ref, shaper } = this.#image;
    const caller = this.#newcomer();
    const before = shaper.bytes.down;
    const seconds = await this.#shaped(() =>
      timed(async () => {
        await caller.must('pull', '-q', '--plain-http', ref);
        await caller.must('run', '-q', '--plain-http', ref, '--', ...COMMAND);
      }),
    );
    const bytes = (shaper.bytes.down - before) / MIB;
    forget(caller);
    return { seconds, bytes };
  }

  /** Content that came for the command. */
  async #fetched(way: Way): Promise<Figures> {
    const flags = ['--no-fill', `--backend=${way}`];
    const status = await this.#commandIn(flags, async (caller) =>
      JSON.parse((await caller.must('top', '--json')).out),
    );
    const { layers } = status as LoaderStatus;
    return { bytes: layers.reduce((sum, { fetchedBytes }) => sum + fetchedBytes, 0) / MIB };
  }

  /** What is stored of the chunks from which the command reads something, as it is stored: where the kernel does not read ahead. */
  async #unitsRead(): Promise<Figures> {
    const options = 'record=on,fill=off,prefetch=off';
    const flags = ['--backend=fuse', '-o', options];
    const caller = await this.#commandIn(flags, async (one) => one, 0);
    const [layer] = layersOf(join(caller.folder, 'images'));
    if (layer === undefined) throw new Error('the image store has no layer');
    const table = new ChunkTable(readFileSync(layer.table));
    const units = new Map<number, number>();
    for (const i of await untilRecorded(layer)) units.set(table.from(i), table.stored(i));
    return { bytes: [...units.values()].reduce((sum, size) => sum + size, 0) / MIB };
  }

  /** Mounts lazily, runs the command there, asks, unmounts. @param ahead KiB that the kernel reads ahead. */
  async #commandIn<T>(
    flags: readonly string[],
    ask: (caller: Caller) => Promise<T>,
    ahead?: number,
  ): Promise<T> {
    const caller = this.#newcomer();
    const mnt = join(caller.folder, 'mnt');
    mkdirSync(mnt);
    await caller.must('mount', '-q', '--lazy', '--plain-http', ...flags, this.#image.ref, mnt);
    try {
      if (ahead !== undefined) {
        const device = (await script(`mountpoint -d "${mnt}"`)).trim();
        writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(ahead));
      }
      await script(`chroot "${mnt}" ${COMMAND.map((word) => `'${word}'`).join(' ')}`);
      return await ask(caller);
    } finally {
      await caller.varve('umount', '--force', mnt);
    }
  }

  /** A wire that gives nothing holds readers of many files; one that is here is read meanwhile. */
  async #parked(): Promise<Figures> {
    // A wire of its own: what it promised while it gave nothing would hold up whoever comes after.
    const shaper = await startShaper(undefined, { to: this.#image.registry.host });
    const ref = `${shaper.host}/os:1`;
    const caller = this.#newcomer();
    const mnt = join(caller.folder, 'mnt');
    mkdirSync(mnt);
    await caller.must(
      'mount',
      '-q',
      '--lazy',
      '--no-fill',
      '--backend=fuse',
      '--plain-http',
      ref,
      mnt,
    );
    const large = join(mnt, 'usr/bin/git');
    const ms: number[] = [];
    let ended: Promise<unknown> = Promise.resolve();
    try {
      await script(`cat "${large}" >/dev/null`);
      shaper.rate = 1;
      const others = filesOf(join(mnt, 'usr/share'), PARKED);
      const readers = others.map((path) => run(['cat', path], process.env, 60));
      ended = Promise.all(readers);
      await new Promise((resolve) => setTimeout(resolve, 3000));
      for (let i = 0; i < 5; i++) {
        await script(`dd if="${large}" iflag=nocache count=0 status=none`);
        ms.push(readCold(large));
      }
    } finally {
      await caller.varve('umount', '--force', mnt);
      await shaper.stop();
      await ended;
      forget(caller);
    }
    return { ms: Math.min(...ms) };
  }

  /** Cold: nothing is in the page cache. */
  async #readAll(way: Way, lazily: boolean): Promise<Figures> {
    const { late, local } = await this.#mountsOf(way);
    const mnt = lazily ? late : local;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < READINGS; i++) {
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      const read = timed(() => script(`tar -C "${mnt}" -cf - . | cat >/dev/null`));
      least = Math.min(least, await read);
    }
    return { seconds: least };
  }

  /** One that was lazy and is detached, and one of what is here: of the same files, so that nothing but how they came is different. */
  #mountsOf(way: Way): Promise<Mounts> {
    const made = this.#mounts.get(way) ?? this.#mountBoth(way);
    this.#mounts.set(way, made);
    return made;
  }

  async #mountBoth(way: Way): Promise<Mounts> {
    const caller = this.#newcomer();
    const [late, local] = [join(caller.folder, 'late'), join(caller.folder, 'local')];
    for (const mnt of [late, local]) mkdirSync(mnt);
    const flags = ['-q', '--plain-http', `--backend=${way}`];
    await caller.must('mount', ...flags, '--lazy', this.#image.ref, late);
    await caller.must('detach', '--wait', late);
    await caller.must('mount', ...flags, this.#image.ref, local);
    return { caller, late, local };
  }

  async close(): Promise<void> {
    for (const { caller, late, local } of await Promise.all(this.#mounts.values())) {
      for (const mnt of [late, local]) await caller.varve('umount', '--force', mnt);
      forget(caller);
    }
  }
}

/** The order of first use, which the loader writes when its mount is gone. */
async function untilRecorded(layer: LayerFolder): Promise<number[]> {
  while (!existsSync(layer.order)) await new Promise((resolve) => setTimeout(resolve, 50));
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const bytes = readFileSync(layer.order);
  return Array.from({ length: bytes.length >>> 2 }, (_, k) => bytes.readUInt32LE(4 * k));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Milliseconds for 1 MiB by a process that has it open already. */
function readCold(path: string): number {
  const fd = openSync(path, 'r');
  try {
    const start = performance.now();
    readSync(fd, Buffer.alloc(MIB), 0, MIB, 0);
    return performance.now() - start;
  } finally {
    closeSync(fd);
  }
}

/** So many regular files with content below a folder. */
function filesOf(folder: string, count: number): string[] {
  const found: string[] = [];
  const pending = [folder];
  for (let at = pending.pop(); at !== undefined && found.length < count; at = pending.pop()) {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.isDirectory()) pending.push(join(at, entry.name));
      else if (entry.isFile() && found.length < count) found.push(join(at, entry.name));
    }
  }
  return found;
}

/** Space is short where many rounds are run. */
function forget(caller: Caller): void {
  rmSync(join(caller.folder, 'images'), { recursive: true, force: true });
}

if (options.help) process.stdout.write(HELP);
else await main();
