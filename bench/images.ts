// `npm run bench:images`: EROFS images, built and read, by varve and by the programs of erofs-utils that are named.
// A program of its own: its subjects are not stacks. Everything takes turns, minimums count, as in main.ts.
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import type { Job } from './client.js';
import { type Case, type Figures, ROOT, sizeOf, Turns, tableOf, writeDocs } from './turns.js';

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

if (options.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

const turns = new Turns({
  scratch: options.scratch,
  varve: options.varve,
  rounds: Number(options.rounds),
});
const at = (name: string): string => turns.at(name);
const varve = (...args: string[]): string[] => turns.varve(...args);

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
  const figures = await turns.run(command);
  return { ...figures, bytes: statSync(image).size / 1024 ** 2 };
}

function buildCase(method: string, varveFlags: readonly string[], mkfsFlag: string): Case {
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
const forEachReader = (job: Job): Case['subjects'] =>
  Object.fromEntries(
    Object.entries(READERS).map(([name, mount]) => [
      name,
      () =>
        turns.mounted(mount(IMAGE), async (mountpoint) => ({
          seconds: turns.client(mountpoint, job),
        })),
    ]),
  );

const CASES: readonly Case[] = [
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
          return turns.mounted(byVarve(layer), async (mountpoint) => {
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

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('needs root, to mount images');
  if (!existsSync(options.source)) throw new Error(`${options.source} does not exist`);
  const cases = CASES.filter(({ name }) => new RegExp(options.only).test(name));
  if (cases.some(({ name }) => !name.startsWith('build'))) {
    await turns.run(varve('image', 'build', '-q', '-z', 'lz4hc', '-o', IMAGE, options.source));
  }
  const rows: string[] = [];
  for (const one of cases) rows.push(...(await turns.rows(one)));
  const about = `${sizeOf(options.source)}; minimums of ${options.rounds} rounds`;
  const table = tableOf(about, rows);
  process.stdout.write(`${table}\n`);
  if (options['write-docs']) writeDocs('images', table);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
} finally {
  turns.close();
}
