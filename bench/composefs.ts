// `npm run bench:composefs`: stores and composefs images, by varve and by the programs of composefs that are named.
// The harness is turns.ts. Images without content are made of dumps; what is stored, and read again, comes from --source.
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import type { Job } from './client.js';
import {
  type Case,
  clientCommand,
  type Figures,
  PREFIX,
  ROOT,
  secondsOf,
  sizeOf,
  Turns,
  tableOf,
  writeDocs,
} from './turns.js';

const HELP = `usage: npm run bench:composefs -- [OPTION]...

Fills stores, mounts composefs images and reads them, taking turns, and prints minimums and ratios. Needs root.

  --source DIR            what is stored (default /usr/share)
  --mkcomposefs FILE      a mkcomposefs to compare with (default: the one on PATH, if there is one)
  --composefs-fuse FILE   a composefs-fuse to compare with (default: the one on PATH, if there is one)
  --rounds N              turns of each subject (default 3)
  --only PATTERN          cases whose name matches this regular expression
  --varve FILE            the script to run as varve (default: this build's)
  --scratch DIR           where stores and images are made (default: TMPDIR)
  --write-docs            put the table into docs/benchmarks.md
`;

const { values: options } = parseArgs({
  options: {
    source: { type: 'string', default: '/usr/share' },
    mkcomposefs: { type: 'string', default: 'mkcomposefs' },
    'composefs-fuse': { type: 'string', default: 'composefs-fuse' },
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
const has = (program: string): boolean => spawnSync(program, ['--help']).error === undefined;
const hasMkcomposefs = has(options.mkcomposefs);
const hasComposefsFuse = has(options['composefs-fuse']);

/** Folder of objects that images without content are mounted with. */
const NO_OBJECTS = at('no-objects');
const STORE = at('store');
/** Bytes of the file that is read from end to end. */
const LARGE = 512 * 1024 ** 2;

/** Makes, once, an image of `names` names in folders of 1000, without content. */
async function imageOf(names: number): Promise<string> {
  const image = at(`image-${names}`);
  if (existsSync(image)) return image;
  const lines = ['/ 4096 40755 2 0 0 0 0.0 - - -'];
  for (let n = 0; n < names; n++) {
    const folder = `/folder${Math.floor(n / 1000)}`;
    if (n % 1000 === 0) lines.push(`${folder} 4096 40755 2 0 0 0 0.0 - - -`);
    const digest = n.toString(16).padStart(64, '0');
    const object = `${digest.slice(0, 2)}/${digest.slice(2)} - ${digest}`;
    lines.push(`${folder}/file${n} ${100 + n} 100644 1 0 0 0 ${n}.0 ${object}`);
  }
  writeFileSync(at('dump'), `${lines.join('\n')}\n`);
  mkdirSync(NO_OBJECTS, { recursive: true });
  await turns.run(
    varve('image', 'build', '-q', '--composefs', '--from-dump', at('dump'), '-o', image),
  );
  rmSync(at('dump'));
  return image;
}

/** The store of a large file. */
async function storeOf(): Promise<void> {
  if (existsSync(STORE)) return;
  mkdirSync(at('large'));
  // Not zeros: their blocks would all be one digest.
  const block = Buffer.alloc(1024 * 1024);
  for (let i = 0; i < block.length; i += 4) block.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
  writeFileSync(at('large/file'), '');
  for (let n = 0; n < LARGE / block.length; n++) {
    block.writeUInt32LE(n);
    writeFileSync(at('large/file'), block, { flag: 'a' });
  }
  await turns.run(varve('store', 'init', '-q', STORE));
  await turns.run(varve('store', 'add', '-q', '--store', STORE, '--name', 'large', at('large')));
  // The plain user of the rootless case reads it.
  chmodSync(turns.folder, 0o755);
}

const byFollow = (image: string) => (mountpoint: string) =>
  varve('mount', '-q', '--mode', 'follow', '--image', image, '--store', NO_OBJECTS, mountpoint);
const byKernel = (image: string) => (mountpoint: string) => [
  'mount',
  '-t',
  'erofs',
  '-o',
  'loop,ro',
  image,
  mountpoint,
];
const byComposefsFuse = (image: string) => (mountpoint: string) => [
  options['composefs-fuse'],
  '-o',
  `source=${image},basedir=${NO_OBJECTS}`,
  mountpoint,
];

/** The client's job in a fresh mount of 64,000 names, by each reader. */
function forEachReader(job: Job): Case['subjects'] {
  const readers = {
    varve: byFollow,
    ...(hasComposefsFuse ? { 'composefs-fuse': byComposefsFuse } : {}),
    kernel: byKernel,
  };
  return Object.fromEntries(
    Object.entries(readers).map(([name, mount]) => [
      name,
      async () =>
        turns.mounted(mount(await imageOf(64_000)), async (mountpoint) => ({
          seconds: turns.client(mountpoint, job),
        })),
    ]),
  );
}

/** Time until a mount of an image answers, and memory of its server when it has. */
async function ready(names: number): Promise<Figures> {
  const image = await imageOf(names);
  const start = performance.now();
  return turns.mounted(byFollow(image), async (mountpoint) => {
    const ms = performance.now() - start;
    const status = JSON.parse(turns.ask(varve('status', '--json', mountpoint))) as { pid: number };
    const smaps = readFileSync(`/proc/${status.pid}/smaps_rollup`, 'latin1');
    return { ms, memory: Number(/^Pss:\s+(\d+)/m.exec(smaps)?.[1] ?? 0) / 1024 };
  });
}

const WALK: Job = { do: 'walk', stat: true, warmups: 0 };

/** Two clients in folders of their own: at the same time, or one after the other. */
function two(together: boolean): () => Promise<Figures> {
  return async () =>
    turns.mounted(byFollow(await imageOf(64_000)), async (mountpoint) => {
      const command = (half: number): string[] => [
        process.execPath,
        '-e',
        CLIENT_OF_HALF,
        mountpoint,
        String(half),
      ];
      const start = performance.now();
      if (together) await Promise.all([0, 1].map((half) => clientOf(command(half))));
      else for (const half of [0, 1]) await clientOf(command(half));
      return { seconds: (performance.now() - start) / 1000 };
    });
}

/** Stats every name in every other folder. */
const CLIENT_OF_HALF = `
const { readdirSync, lstatSync } = require('node:fs');
const [root, half] = process.argv.slice(1);
readdirSync(root).forEach((folder, i) => {
  if (i % 2 !== Number(half)) return;
  for (const name of readdirSync(root + '/' + folder)) lstatSync(root + '/' + folder + '/' + name);
});`;

function clientOf(command: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0] as string, command.slice(1), { stdio: 'inherit' });
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0 ? resolve() : reject(new Error(`client: exit ${code}`)),
    );
  });
}

let folders = 0;

/** Never one that was there: ext4 looks for a minute at the inodes that a large `rm` has freed, whoever creates files. */
const newFolder = (): string => at(`new-${folders++}`);

const ingest = (threads: number): Case => ({
  name: `ingest-${threads}`,
  title: `store ${options.source}, ${threads} thread${threads === 1 ? '' : 's'}`,
  subjects: {
    varve: async () => {
      const store = newFolder();
      await turns.run(varve('store', 'init', '-q', store));
      return turns.run([
        ...PREFIX,
        ...varve('store', 'add', '-q', `--threads=${threads}`, `--store=${store}`, options.source),
      ]);
    },
    ...(hasMkcomposefs
      ? {
          mkcomposefs: async () => {
            const store = newFolder();
            mkdirSync(store);
            return turns.run([
              ...PREFIX,
              options.mkcomposefs,
              `--digest-store=${store}`,
              `--threads=${threads}`,
              options.source,
              at('new-image'),
            ]);
          },
        }
      : {}),
  },
  limits: hasMkcomposefs ? [{ figure: 'seconds', to: 'mkcomposefs', limit: 1.5 }] : [],
});

/** A plain user reads the large file, through `varve run`, or from the store itself. */
function reader(name: string, cold: boolean): Case {
  const job: Job = { do: 'read', file: 'file' };
  const asUser = [
    ...['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
    ...['env', '-u', 'VARVE_RUNTIME_DIR', '-u', 'XDG_RUNTIME_DIR', `HOME=${turns.folder}`],
  ];
  const object = (): string => {
    const shown = turns.ask(varve('image', 'dump', `${STORE}/images/refs/large`));
    return `${STORE}/objects/${/ (\S+\/\S+) - \S+$/m.exec(shown)?.[1]}`;
  };
  const chill = (): void => {
    if (cold) writeFileSync('/proc/sys/vm/drop_caches', '1');
  };
  return {
    name,
    title: `mode overlay as a plain user: read 512 MiB, ${cold ? 'cold' : 'hot'}`,
    subjects: {
      varve: async () => {
        await storeOf();
        const inside = varve('run', '--image', 'large', '--store', STORE, '--');
        const warm = cold ? [] : [job];
        const script = [...warm, job]
          .map((one) => shellWords(clientCommand(one)))
          .join(' > /dev/null; ');
        chill();
        const out = turns.ask([...PREFIX, ...asUser, ...inside, 'sh', '-c', script]);
        return { seconds: secondsOf(out) };
      },
      'the store itself': async () => {
        await storeOf();
        const there: Job = { do: 'read', file: object() };
        if (!cold) turns.client(turns.folder, there);
        chill();
        return { seconds: turns.client(turns.folder, there) };
      },
    },
    limits: [{ figure: 'seconds', to: 'the store itself', limit: 1.05 }],
  };
}

/** For sh(1). */
function shellWords(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
}

const CASES: readonly Case[] = [
  ingest(1),
  ...(availableParallelism() > 1 ? [ingest(2)] : []),
  {
    name: 'ready',
    title: 'mount ready and server memory, 1,000,000 names against 10,000',
    subjects: { varve: () => ready(1_000_000), '10,000 names': () => ready(10_000) },
    limits: [
      { figure: 'ms', to: '10,000 names', limit: 1.2 },
      { figure: 'memory', to: '10,000 names', limit: 1.2 },
    ],
  },
  {
    name: 'walk',
    title: 'readdir and stat of 64,000 names, fresh',
    subjects: forEachReader(WALK),
    limits: hasComposefsFuse ? [{ figure: 'seconds', to: 'composefs-fuse', limit: 1 }] : [],
  },
  {
    name: 'walk-again',
    title: 'readdir and stat of 64,000 names, repeated',
    subjects: forEachReader({ ...WALK, warmups: 1 }),
    limits: [{ figure: 'seconds', to: 'kernel', limit: 1.2 }],
  },
  {
    name: 'two',
    title: 'two clients in parallel, against one after the other',
    subjects: { varve: two(true), 'in turn': two(false) },
    limits: [{ figure: 'seconds', to: 'in turn', limit: 0.75 }],
  },
  reader('read-large', false),
  reader('read-large-cold', true),
];

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('needs root, to mount and to drop caches');
  if (!existsSync(options.source)) throw new Error(`${options.source} does not exist`);
  const rows: string[] = [];
  for (const one of CASES.filter(({ name }) => new RegExp(options.only).test(name))) {
    rows.push(...(await turns.rows(one)));
  }
  const table = tableOf(`${sizeOf(options.source)}; minimums of ${options.rounds} rounds`, rows);
  process.stdout.write(`${table}\n`);
  if (options['write-docs']) writeDocs('composefs', table);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
} finally {
  turns.close();
}
