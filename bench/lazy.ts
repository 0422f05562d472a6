// `npm run bench:lazy`: a command in an image of a slow registry, at once against pulled first; what waits, and what is left of it after detach.
// A program of its own, on the base of turns.ts; needs root and docker-registry. The wire is a proxy in this process (test/oci/shaper.ts).
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
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

/** `first` and `throughput` are ratios of seconds, `parked` milliseconds. */
const LIMITS = { first: 0.15, throughput: 1.03, parked: 20 } as const;
const COMMAND = ['/bin/bash', '-c', 'apt-get --version'] as const;
/** Readers that wait for what does not come. */
const PARKED = 200;
const MIB = 1 << 20;

type Way = 'kernel' | 'fuse';
const WAYS: readonly Way[] = ['kernel', 'fuse'];

async function main(): Promise<void> {
  const ends: (() => void | Promise<void>)[] = [];
  const turns = new Turns({ scratch: '/tmp', varve: '', rounds: Number(options.rounds) });
  try {
    const image = await debianImage({ after: (end) => void ends.push(end) });
    const bench = new Bench(image);
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

class Bench {
  readonly #image: DebianImage;
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
    const { ref } = this.#image;
    const caller = this.#newcomer();
    const mnt = join(caller.folder, 'mnt');
    mkdirSync(mnt);
    const flags = ['-q', '--plain-http', `--backend=${way}`];
    if (!lazily) await caller.must('pull', '-q', '--plain-http', ref);
    await caller.must('mount', ...flags, ...(lazily ? ['--lazy'] : []), ref, mnt);
    try {
      if (lazily) await caller.must('detach', '--wait', mnt);
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 3; i++) {
        writeFileSync('/proc/sys/vm/drop_caches', '3');
        least = Math.min(
          least,
          await timed(() => script(`tar -C "${mnt}" -cf - . | cat >/dev/null`)),
        );
      }
      return { seconds: least };
    } finally {
      await caller.varve('umount', '--force', mnt);
      forget(caller);
    }
  }
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
