// `npm run bench:boot`: boot images against the initramfs that they replace, in QEMU, and their building against mkfs.erofs.
// A program of its own, on the base of turns.ts and src/boot/bench; needs QEMU and, for one row, dracut or an image that it has made.
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there, and the charts into docs/images.

import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chartsOf } from '../src/boot/bench/charts.js';
import { madePayload } from '../src/boot/bench/payload.js';
import {
  type BenchReport,
  type BenchRequest,
  type BenchResult,
  runBench,
} from '../src/boot/bench/run.js';
import { spread } from '../src/boot/bench/statistics.js';
import { chartSvg } from '../src/boot/bench/svg.js';
import { extractTree } from '../src/tree/extract.js';
import { debianKernel } from '../test/vm/kernel.js';
import { PREFIX, ROOT, Turns, tableOf, writeDocs } from './turns.js';

const HELP = `usage: npm run bench:boot -- [OPTION]...

Boots payloads as initramfs and as images of varve in QEMU, in turn, and prints minimums and ratios.

  --rounds N            turns of each subject (default 3)
  --kernel FILE         vmlinuz or vmlinux (default: Debian's, by apt-get)
  --kernel-modules DIR  the folder that has its lib/modules
  --dracut FILE         an image of dracut (default: one is made, which takes a minute or two)
  --no-dracut           leave out the row about it
  --varve FILE          the script to run as varve (default: this build's)
  --scratch DIR         where everything is made (default: TMPDIR); 3 GB
  --charts DIR          put the charts there
  --write-docs          put the table into docs/benchmarks.md and the charts into docs/images
`;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    kernel: { type: 'string' },
    'kernel-modules': { type: 'string' },
    dracut: { type: 'string' },
    'no-dracut': { type: 'boolean', default: false },
    varve: { type: 'string', default: `${ROOT}/dist/bundle/programs/main.js` },
    scratch: { type: 'string', default: tmpdir() },
    charts: { type: 'string' },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const MB = 1e6;
const SMALL = 10 * MB;
const MIDDLE = 100 * MB;
const LARGE = 300 * MB;
const INITRAMFS = ['gzip', 'zstd', 'lz4'];
const OURS = ['varve', 'varve-verity', 'varve-embed'];

/** Ratios, but `verity` (seconds) and `memory` (MB). */
const LIMITS = {
  flat: 1.25,
  middle: 0.9,
  large: 0.6,
  dracut: 0.95,
  verity: 0.6,
  memory: 192,
  build: 1.1,
} as const;

async function main(): Promise<void> {
  const rounds = Number(options.rounds);
  const turns = new Turns({ scratch: options.scratch, varve: options.varve, rounds });
  try {
    const request = requestOf(turns, rounds);
    const sizes = await runBench(request);
    const rows = [...sizeRows(sizes), ...(await dracutRows(turns, request))];
    rows.push(...(await memoryRows(request)), ...(await buildRows(turns, request)));
    const table = tableOf(about(rounds, request), rows);
    process.stdout.write(`${table}\n`);
    const charts = options['write-docs'] ? `${ROOT}/docs/images` : options.charts;
    if (charts !== undefined) drawCharts(sizes, charts);
    if (options['write-docs']) writeDocs('boot', table);
  } finally {
    turns.close();
  }
}

function requestOf(turns: Turns, rounds: number): BenchRequest {
  const kernel = options.kernel === undefined ? debianKernel([]) : undefined;
  const folder = options['kernel-modules'] ?? kernel?.root ?? '/';
  const found = spawnSync('ls', [join(folder, 'lib/modules')], { encoding: 'utf8' });
  return {
    kernel: options.kernel ?? (kernel?.image as string),
    modules: { folder, release: kernel?.release ?? found.stdout.trim() },
    payloads: [SMALL, MIDDLE, LARGE],
    variants: [...INITRAMFS, ...OURS],
    rounds,
    memory: 1536,
    leastMemory: false,
    seconds: 120,
    prefix: PREFIX,
    scratch: turns.folder,
    onProgress: (text) => void process.stderr.write(`${text}\n`),
  };
}

function about(rounds: number, { modules }: BenchRequest): string {
  const qemu = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).stdout;
  const version = /version ([\d.]+)/.exec(qemu)?.[1];
  return `Linux ${modules?.release} in QEMU ${version} (TCG, 1 processor, 1536 MB) on ${cpus().length} x ${cpus()[0]?.model}, Linux ${release()}; minimums of ${rounds} rounds`;
}

type Figure = (result: BenchResult) => number;
const init: Figure = ({ best }) => best.init;

/** Of one payload: by variant. */
function pick({ results }: BenchReport, payload: number): (variant: string) => BenchResult {
  const name = `${payload / MB} MB`;
  return (variant) => {
    const found = results.find((one) => one.payload === name && one.variant === variant);
    if (found === undefined) throw new Error(`no result of ${name}, ${variant}`);
    return found;
  };
}

/** `1.08 (1.25)`, bold where it is missed. */
function verdict(name: string, value: number, limit: number, unit = ''): string {
  const text = `${value.toFixed(unit === ' MB' ? 0 : 2)}${unit} (${limit})`;
  return `${name}: ${value <= limit ? text : `**${text}**`}`;
}

function listed(variants: readonly string[], figure: (variant: string) => string): string {
  return variants.map((variant) => `${variant} ${figure(variant)}`).join('; ');
}

const seconds = (value: number): string => `${value.toFixed(2)} s`;
const megabytes = (value: number): string => `${(value / MB).toFixed(0)} MB`;

function sizeRows(report: BenchReport): string[] {
  const [small, middle, large] = [SMALL, MIDDLE, LARGE].map((size) => pick(report, size)) as [
    (variant: string) => BenchResult,
    (variant: string) => BenchResult,
    (variant: string) => BenchResult,
  ];
  const all = [small, middle, large];
  const growth = (variant: string): number => spread(all.map((of) => init(of(variant))));
  const best = (of: (variant: string) => BenchResult): number =>
    Math.min(...INITRAMFS.map((variant) => init(of(variant))));
  const against = (of: (variant: string) => BenchResult, limit: number): string =>
    verdict('seconds to the best initramfs', init(of('varve')) / best(of), limit);
  const times = (of: (variant: string) => BenchResult): string =>
    listed([...INITRAMFS, ...OURS], (variant) => seconds(init(of(variant))));
  const verity = Math.max(...all.map((of) => init(of('varve-verity')) - init(of('varve'))));
  const memory = (of: (variant: string) => BenchResult): string =>
    listed(['lz4', ...OURS], (variant) => megabytes(of(variant).best.memory));
  return [
    row(
      'kernel start to init, 10 MB',
      `largest to smallest, 10 to 300 MB: ${listed(INITRAMFS, (v) => growth(v).toFixed(2))}; ${verdict('varve', growth('varve'), LIMITS.flat)}`,
      times(small),
    ),
    row('kernel start to init, 100 MB', against(middle, LIMITS.middle), times(middle)),
    row('kernel start to init, 300 MB', against(large, LIMITS.large), times(large)),
    row(
      'dm-verity',
      verdict('most that it adds, 10 to 300 MB', verity, LIMITS.verity, ' s'),
      listed(['varve', 'varve-verity'], (v) => all.map((of) => seconds(init(of(v)))).join(', ')),
    ),
    row('memory in use at init, 100 MB', '-', memory(middle)),
    row('memory in use at init, 300 MB', '-', memory(large)),
    row(
      'read from the disk until init, 300 MB',
      '-',
      listed(['varve', 'varve-verity'], (v) => `${(large(v).best.read / MB).toFixed(1)} MB`),
    ),
    row(
      'stored, 300 MB',
      '-',
      listed([...INITRAMFS, ...OURS], (v) => megabytes(large(v).stored)),
    ),
  ];
}

const row = (title: string, verdicts: string, figures: string): string =>
  `| ${title} | ${verdicts} | ${figures} |`;

async function dracutRows(turns: Turns, request: BenchRequest): Promise<string[]> {
  if (options['no-dracut']) return [];
  const image = options.dracut ?? makeDracut(turns, request);
  const variants = ['zstd', 'lz4', 'varve', 'varve-verity'];
  const { results } = await runBench({ ...request, payloads: [image], variants });
  const of = (variant: string) => results.find((one) => one.variant === variant) as BenchResult;
  const best = Math.min(init(of('zstd')), init(of('lz4')));
  return [
    row(
      `kernel start to init, image of dracut (${megabytes(of('varve').bytes)})`,
      verdict('seconds to the best initramfs', init(of('varve')) / best, LIMITS.dracut),
      listed(variants, (variant) => seconds(init(of(variant)))),
    ),
  ];
}

/** As for a machine that is not known: all drivers. */
function makeDracut(turns: Turns, { modules }: BenchRequest): string {
  const { folder = '/', release: kver = '' } = modules ?? {};
  const image = turns.at('dracut.img');
  process.stderr.write('makes an image of dracut\n');
  turns.ask([
    'dracut',
    ...['--no-hostonly', '--force', '--no-early-microcode', '--no-compress', '--quiet'],
    ...['--kver', kver, '-k', join(folder, 'lib/modules', kver), '-o', 'systemd network nfs'],
    image,
  ]);
  return image;
}

async function memoryRows(request: BenchRequest): Promise<string[]> {
  const variants = ['lz4', 'varve'];
  const report = await runBench({
    ...request,
    payloads: [LARGE],
    variants,
    rounds: 1,
    leastMemory: true,
    // A machine that has almost enough goes on for long before it gives up.
    seconds: 30,
  });
  const least = (variant: string): number =>
    pick(report, LARGE)(variant).leastMemory ?? request.memory;
  return [
    row(
      'smallest machine that boots 300 MB',
      verdict('varve', least('varve'), LIMITS.memory, ' MB'),
      listed(variants, (variant) => `${least(variant)} MB`),
    ),
  ];
}

async function buildRows(turns: Turns, { modules }: BenchRequest): Promise<string[]> {
  const tree = turns.at('tree');
  const payload = madePayload(LARGE);
  extractTree(payload.root, tree);
  payload.close();
  const out = turns.at('built');
  const image = turns.at('mkfs.erofs');
  const { folder = '/', release: kver = '' } = modules ?? {};
  const build = ['boot', 'build', '--quiet', '--root', tree, '-o', out, '--verify', 'none'];
  build.push('--kernel-modules', folder, '--kver', kver, '--storage', 'virtio_pci,virtio_blk');
  build.push('--bootfs', 'LABEL=boot');
  const rows = await turns.rows({
    name: 'build',
    title: 'build of a 300 MB payload',
    subjects: {
      varve: () => {
        rmSync(out, { recursive: true, force: true });
        return turns.run([...PREFIX, ...turns.varve(...build)]);
      },
      'mkfs.erofs -zlz4hc': () => {
        rmSync(image, { force: true });
        return turns.run([...PREFIX, 'mkfs.erofs', '--quiet', '-zlz4hc', image, tree]);
      },
    },
    limits: [{ figure: 'seconds', to: 'mkfs.erofs -zlz4hc', limit: LIMITS.build }],
  });
  rmSync(tree, { recursive: true });
  return rows;
}

function drawCharts(report: BenchReport, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, chart] of Object.entries(chartsOf(report))) {
    writeFileSync(join(folder, `boot-${name}.svg`), chartSvg(chart));
  }
}

if (options.help) process.stdout.write(HELP);
else await main();
