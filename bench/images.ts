// `npm run bench:images`: EROFS images, built and read, by varve and by the programs of erofs-utils that are named.
// A program of its own: its subjects are not stacks. Everything takes turns, minimums count, as in main.ts.
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Job } from './client.js';
import { firstInLine } from './priority.js';

const HELP = `usage: npm run bench:images -- [OPTION]...

Builds EROFS images of one source and reads them, taking turns, and prints minimums and ratios. Needs root.

  --source DIR        what the images hold (default /usr)
  --mkfs FILE         a mkfs.erofs to compare with; may be given several times (default: the one on PATH)
  --erofsfuse FILE    an erofsfuse to compare with (default: the one on PATH, if there is one)
  --rounds N          turns of each subject (default 3)
  --only PATTERN      cases whose name matches this regular expression
  --varve FILE        the script to run as varve (default: this build's)
  --scratch DIR       where images are made (default: TMPDIR)
  --write-docs        put the table into docs/benchmarks.md
`;

const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
const CLIENT = fileURLToPath(new URL('./client.js', import.meta.url));

const { values: options } = parseArgs({
  options: {
    source: { type: 'string', default: '/usr' },
    mkfs: { type: 'string', multiple: true },
    erofsfuse: { type: 'string', default: 'erofsfuse' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    varve: { type: 'string', default: `${ROOT}/dist/bundle/programs/main.js` },
    scratch: { type: 'string', default: tmpdir() },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const PREFIX = firstInLine();

/** What one turn gives: each figure by its name. */
type Figures = Readonly<Record<string, number>>;

interface ImageCase {
  readonly name: string;
  readonly title: string;
  /** By subject; the first is varve. */
  readonly subjects: Readonly<Record<string, () => Promise<Figures>>>;
  /** Upper bounds of varve's figure: as a ratio to a subject, or `absolute`. */
  readonly limits: readonly {
    readonly figure: string;
    readonly to: string;
    readonly limit: number;
  }[];
}

const folder = mkdtempSync(join(options.scratch, 'varve-images-'));
const at = (name: string): string => join(folder, name);
const env = {
  ...process.env,
  VARVE_RUNTIME_DIR: at('run'),
  VARVE_SUPERVISOR_IDLE: '2000',
};

/** A command to its end. @returns seconds, and the most memory (MB) that its process took. @throws when it fails. */
function run(command: readonly string[], cwd = folder): Promise<Figures> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command[0] as string, command.slice(1), {
      cwd,
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let complaint = '';
    child.stderr.on('data', (data) => {
      complaint = `${complaint}${data}`.slice(-2000);
    });
    let memory = 0;
    const poll = setInterval(() => {
      try {
        const status = readFileSync(`/proc/${child.pid}/status`, 'latin1');
        memory = Math.max(memory, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
      } catch {
        // It has ended.
      }
    }, 20);
    child.once('error', reject);
    child.once('exit', (code) => {
      clearInterval(poll);
      const seconds = (performance.now() - start) / 1000;
      if (code === 0) resolve({ seconds, memory });
      else reject(new Error(`${command.join(' ')}: ${complaint.trim() || `exit ${code}`}`));
    });
  });
}

const varve = (...args: string[]): string[] => [process.execPath, options.varve, ...args];

/** Seconds that a client takes in `dir`. */
async function client(dir: string, job: Job): Promise<number> {
  const [program, ...rest] = [...PREFIX, process.execPath, CLIENT, JSON.stringify(job)];
  const ran = spawnSync(program as string, rest, {
    cwd: dir,
    encoding: 'utf8',
    timeout: 600_000,
  });
  if (ran.status !== 0) throw new Error(`client: ${ran.stderr}`);
  return (JSON.parse(ran.stdout) as { ms: number }).ms / 1000;
}

let mounts = 0;

/** Mounts afresh, calls `use`, unmounts. */
async function mounted<T>(
  mount: (mountpoint: string) => readonly string[],
  use: (mountpoint: string) => Promise<T>,
): Promise<T> {
  const mountpoint = at(`m${mounts++}`);
  mkdirSync(mountpoint);
  await run([...PREFIX, ...mount(mountpoint)]);
  try {
    return await use(mountpoint);
  } finally {
    await run(['umount', mountpoint]);
  }
}

const byKernel = (image: string) => (mountpoint: string) => [
  'mount',
  '-t',
  'erofs',
  '-o',
  'loop,ro',
  image,
  mountpoint,
];
const byErofsfuse = (image: string) => (mountpoint: string) => [
  options.erofsfuse,
  image,
  mountpoint,
];
const byVarveAlone = (image: string) => (mountpoint: string) =>
  varve('image', 'mount', '-q', '--backend=fuse', image, mountpoint);
const byVarve = (image: string) => (mountpoint: string) =>
  varve('mount', '-q', '--backend=fuse', '-o', `lowerdir=${image}`, mountpoint);

/** `mkfs.erofs 1.5`, from what the program says of itself. */
function nameOfMkfs(path: string): string {
  const { stdout, stderr } = spawnSync(path, ['-V'], { encoding: 'utf8' });
  return `mkfs.erofs ${/(\d+\.[\d.]+)/.exec(`${stdout}${stderr}`)?.[1] ?? path}`;
}

const MKFS = (options.mkfs ?? ['mkfs.erofs']).filter(
  (path) => spawnSync(path, ['-V']).error === undefined,
);
const hasErofsfuse = spawnSync(options.erofsfuse, ['--version']).error === undefined;

async function built(command: readonly string[], image: string): Promise<Figures> {
  rmSync(image, { force: true });
  const figures = await run(command);
  return { ...figures, bytes: statSync(image).size / 1024 ** 2 };
}

function buildCase(method: string, varveFlags: readonly string[], mkfsFlag: string): ImageCase {
  const peers = MKFS.filter((path) => {
    const { stdout, stderr } = spawnSync(path, ['--help'], { encoding: 'utf8' });
    return method === 'lz4hc' || `${stdout}${stderr}`.includes(method);
  });
  return {
    name: `build-${method}`,
    title: `build with ${method}`,
    subjects: {
      varve: () =>
        built(
          varve('image', 'build', '-q', ...varveFlags, '-o', at(`v-${method}`), options.source),
          at(`v-${method}`),
        ),
      ...Object.fromEntries(
        peers.map((path) => [
          nameOfMkfs(path),
          () =>
            built(
              [path, mkfsFlag, '--quiet', at(`m-${method}`), options.source],
              at(`m-${method}`),
            ),
        ]),
      ),
    },
    limits: peers.flatMap((path) => [
      // Version 1.5 has one thread, later ones two here.
      {
        figure: 'seconds',
        to: nameOfMkfs(path),
        limit: nameOfMkfs(path).endsWith(' 1.5') ? 0.5 : 1,
      },
      { figure: 'bytes', to: nameOfMkfs(path), limit: 1.02 },
    ]),
  };
}

const IMAGE = at('image');
const READERS: Readonly<Record<string, typeof byKernel>> = {
  varve: byVarve,
  'varve, the image alone': byVarveAlone,
  ...(hasErofsfuse ? { erofsfuse: byErofsfuse } : {}),
  kernel: byKernel,
};

/** The client's job in a fresh mount of the image, by each reader. */
const forEachReader = (job: Job): ImageCase['subjects'] =>
  Object.fromEntries(
    Object.entries(READERS).map(([name, mount]) => [
      name,
      () =>
        mounted(mount(IMAGE), async (mountpoint) => ({ seconds: await client(mountpoint, job) })),
    ]),
  );

const CASES: readonly ImageCase[] = [
  buildCase('lz4hc', ['-z', 'lz4hc'], '-zlz4hc'),
  buildCase('zstd', ['-z', 'zstd'], '-zzstd'),
  {
    name: 'ready',
    title: 'mount ready, beyond that of an empty directory',
    subjects: {
      varve: async () => {
        mkdirSync(at('empty'), { recursive: true });
        const time = async (layer: string): Promise<number> => {
          const start = performance.now();
          return mounted(byVarve(layer), async (mountpoint) => {
            lstatSync(mountpoint);
            return performance.now() - start;
          });
        };
        const empty = Math.min(await time(at('empty')), await time(at('empty')));
        const image = Math.min(await time(IMAGE), await time(IMAGE));
        return { ms: image - empty };
      },
    },
    limits: [{ figure: 'ms', to: 'absolute', limit: 60 }],
  },
  {
    name: 'walk',
    title: 'readdir and stat of everything, fresh',
    subjects: forEachReader({ do: 'walk', stat: true, warmups: 0 }),
    limits: [{ figure: 'seconds', to: 'erofsfuse', limit: 0.4 }],
  },
  {
    name: 'walk-again',
    title: 'readdir and stat of everything, repeated',
    subjects: forEachReader({ do: 'walk', stat: true, warmups: 1 }),
    limits: [{ figure: 'seconds', to: 'kernel', limit: 1.2 }],
  },
  {
    name: 'read-all',
    title: 'read everything',
    subjects: forEachReader({ do: 'read-all' }),
    limits: [{ figure: 'seconds', to: 'erofsfuse', limit: 1.2 }],
  },
];

/** Minimum of each figure of each subject. */
type Minimums = Map<string, Record<string, number>>;

async function measure(one: ImageCase): Promise<Minimums> {
  const found: Minimums = new Map();
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const [subject, turn] of Object.entries(one.subjects)) {
      const figures = await turn();
      const kept = found.get(subject) ?? {};
      for (const [name, value] of Object.entries(figures)) {
        kept[name] = Math.min(kept[name] ?? Number.POSITIVE_INFINITY, value);
      }
      found.set(subject, kept);
      process.stderr.write(`${one.name} ${subject}: ${JSON.stringify(figures)}\n`);
    }
  }
  return found;
}

const UNITS: Readonly<Record<string, string>> = {
  seconds: 's',
  memory: 'MB',
  bytes: 'MiB',
  ms: 'ms',
};

function rowsOf(one: ImageCase, found: Minimums): string[] {
  const ours = found.get('varve') ?? {};
  const verdicts = one.limits.map(({ figure, to, limit }) => {
    const mine = ours[figure];
    const base = to === 'absolute' ? 1 : found.get(to)?.[figure];
    if (mine === undefined || base === undefined) return `${figure} to ${to}: no figure`;
    const value = mine / base;
    const text = `${value.toFixed(to === 'absolute' ? 0 : 2)} (${limit})`;
    const unit = to === 'absolute' ? ` ${UNITS[figure]}` : '';
    return `${figure}${to === 'absolute' ? '' : ` to ${to}`}: ${value <= limit ? text : `**${text}**`}${unit}`;
  });
  const minimums = [...found].map(
    ([subject, figures]) =>
      `${subject} ${Object.entries(figures)
        .map(([name, value]) => `${value.toFixed(value < 10 ? 2 : 0)} ${UNITS[name]}`)
        .join(', ')}`,
  );
  return [`| ${one.title} | ${verdicts.join('; ')} | ${minimums.join('; ')} |`];
}

const START = '<!-- images: written by `npm run bench:images -- --write-docs` -->';
const END = '<!-- end of images -->';

function writeDocs(table: string): void {
  const path = `${ROOT}/docs/benchmarks.md`;
  const text = readFileSync(path, 'utf8');
  const start = text.indexOf(START);
  const end = text.indexOf(END);
  if (start < 0 || end < start) throw new Error(`${path} has lost its marks: ${START} ... ${END}`);
  writeFileSync(path, `${text.slice(0, start)}${START}\n\n${table}\n\n${text.slice(end)}`);
}

/** Files and bytes below a folder. */
function sizeOf(path: string): { files: number; bytes: number } {
  const sum = { files: 0, bytes: 0 };
  const pending = [path];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const entry of readdirSync(next, { withFileTypes: true })) {
      const child = join(next, entry.name);
      if (entry.isDirectory()) pending.push(child);
      else if (entry.isFile()) {
        sum.files++;
        sum.bytes += lstatSync(child).size;
      }
    }
  }
  return sum;
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  if (process.getuid?.() !== 0) throw new Error('needs root, to mount images');
  if (!existsSync(options.source)) throw new Error(`${options.source} does not exist`);
  mkdirSync(at('run'), { mode: 0o700 });
  try {
    const cases = CASES.filter(({ name }) => new RegExp(options.only).test(name));
    if (cases.some(({ name }) => !name.startsWith('build'))) {
      await run(varve('image', 'build', '-q', '-z', 'lz4hc', '-o', IMAGE, options.source));
    }
    const rows: string[] = [];
    for (const one of cases) rows.push(...rowsOf(one, await measure(one)));
    const { files, bytes } = sizeOf(options.source);
    const table = [
      `Run on ${new Date().toISOString().slice(0, 10)}: ${files} files, ${(bytes / 1e9).toFixed(2)} GB; minimums of ${options.rounds} rounds.`,
      '',
      '| case | figure (limit), bold where missed | minimums |',
      '| --- | --- | --- |',
      ...rows,
    ].join('\n');
    process.stdout.write(`${table}\n`);
    if (options['write-docs']) writeDocs(table);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
