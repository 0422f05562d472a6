// `npm run bench`: kernel overlayfs, fuse-overlayfs and varve over the same layers, in one interleaved run.
// Starts one runner.ts an environment, one after the other, gathers their samples and writes the report.
// Follows: docs/benchmarks.md, whose table `--write-docs` regenerates.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Case } from './cases.js';
import { CASES, FULL_SCALE, QUICK_SCALE } from './cases.js';
import type { Environment } from './environments.js';
import { openScratch, preparePlace } from './environments.js';
import { firstInLine } from './priority.js';
import type { Results, Series } from './report.js';
import { describeCpu, toMarkdown, toText } from './report.js';
import type { Order, Sample } from './runner.js';
import type { SubjectName } from './subjects.js';
import { SUBJECT_NAMES, whyMissing } from './subjects.js';

const HELP = `usage: npm run bench -- [OPTION]...

Times kernel overlayfs, fuse-overlayfs and varve over the same layers, taking turns, and
prints minimums and their ratios. Root and rootless runs need root; a plain user gets the
rootless ones.

  --only PATTERN      cases whose name matches this regular expression
  --fs LIST           of tmpfs,ext4,xfs
  --privilege LIST    of root,rootless
  --subjects LIST     of kernel,fuse-overlayfs,varve
  --rounds N          turns of each subject (default 5; with --quick 2)
  --quick             a quarter or less of the work
  --uid N             the plain user of rootless runs (default 65534)
  --varve FILE        the script to run as varve (default: this build's)
  --scratch DIR       where the folders and images are made (default: TMPDIR)
  --json FILE         write all samples
  --from FILE         measure nothing, report what --json wrote
  --write-docs        put the table into docs/benchmarks.md
  --list              name the cases
  --help
`;

const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
const RUNNER = fileURLToPath(new URL('./runner.js', import.meta.url));
const DOCS = `${ROOT}/docs/benchmarks.md`;
const ENVIRONMENTS: readonly Environment[] = (['tmpfs', 'ext4', 'xfs'] as const).flatMap((fs) =>
  (['root', 'rootless'] as const).map((privilege) => ({ fs, privilege })),
);

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    fs: { type: 'string', default: 'tmpfs,ext4,xfs' },
    privilege: { type: 'string', default: 'root,rootless' },
    subjects: { type: 'string', default: SUBJECT_NAMES.join(',') },
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    uid: { type: 'string', default: '65534' },
    varve: { type: 'string', default: `${ROOT}/dist/bundle/programs/main.js` },
    scratch: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
    from: { type: 'string' },
    'write-docs': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** Measures what the options ask for. */
async function measure(): Promise<Results> {
  const scale = options.quick ? QUICK_SCALE : FULL_SCALE;
  const rounds = Number(options.rounds ?? (options.quick ? 2 : 5));
  const skipped: string[] = [];
  const subjectNames = options.subjects.split(',').filter((name) => {
    const reason = whyMissing(name as SubjectName, options.varve);
    if (reason !== undefined) skipped.push(`${name}: ${reason}`);
    return reason === undefined;
  }) as SubjectName[];
  const scratch = mkdtempSync(`${options.scratch}/varve-bench-`);
  openScratch(scratch);
  const series: Series[] = [];
  try {
    for (const environment of chosenEnvironments()) {
      const caseNames = casesOf(environment).map(({ name }) => name);
      if (caseNames.length === 0) continue;
      const { fs, privilege } = environment;
      const place = preparePlace(environment, scratch, Number(options.uid), [
        RUNNER,
        process.execPath,
        ...(subjectNames.includes('varve') ? [options.varve] : []),
      ]);
      if (typeof place === 'string') {
        skipped.push(`${fs}, ${privilege}: ${place}`);
        continue;
      }
      const { dir } = place;
      const varvePath = options.varve;
      const order = { environment, dir, caseNames, subjectNames, rounds, scale, varvePath };
      const outcome = await runThere(place.command, order);
      series.push(...outcome.series);
      if (outcome.code !== 0) skipped.push(`${fs}, ${privilege}: its runner ended early`);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const machine = {
    kernel: release(),
    cpu: describeCpu(),
    node: process.version,
    fuseOverlayfs: fuseOverlayfsVersion(),
  };
  return { date: new Date().toISOString(), machine, scale, rounds, series, skipped };
}

function chosenEnvironments(): Environment[] {
  return ENVIRONMENTS.filter(
    ({ fs, privilege }) =>
      options.fs.split(',').includes(fs) && options.privilege.split(',').includes(privilege),
  );
}

function casesOf(environment?: Environment): Case[] {
  const pattern = new RegExp(options.only ?? '');
  return CASES.filter(
    (one) =>
      pattern.test(one.name) &&
      (environment === undefined ||
        (one.fs.includes(environment.fs) && one.privileges.includes(environment.privilege))),
  );
}

/** Runs one runner to its end, showing its samples as they come. */
async function runThere(
  command: readonly string[],
  order: Order,
): Promise<{ code: number | null; series: Series[] }> {
  const whole = [...firstInLine(), ...command, process.execPath, RUNNER, JSON.stringify(order)];
  const child = spawn(whole[0], whole.slice(1), {
    stdio: ['ignore', 'pipe', 'inherit'],
    // A supervisor of this run must not be the one that serves the user's own mounts.
    env: { ...process.env, HOME: order.dir, XDG_RUNTIME_DIR: `${order.dir}/run` },
  });
  // An interrupted run takes its namespaces, and so every server and mount in them, with it.
  const interrupt = () => child.kill('SIGKILL');
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const found = new Map<string, { -readonly [K in keyof Series]: Series[K] }>();
  const { fs, privilege } = order.environment;
  for await (const line of createInterface({ input: child.stdout })) {
    const sample = JSON.parse(line) as Sample;
    const outcome = sample.error ?? sample.value?.toFixed(2);
    process.stderr.write(`${fs} ${privilege} ${sample.case} ${sample.subject}: ${outcome}\n`);
    const key = `${sample.case}/${sample.subject}`;
    const { case: caseName, subject } = sample;
    const kept = found.get(key) ?? {
      case: caseName,
      fs,
      privilege,
      subject,
      samples: [],
      errors: [],
    };
    if (sample.value !== undefined) kept.samples = [...kept.samples, sample.value];
    else kept.errors = [...kept.errors, sample.error ?? 'unknown'];
    found.set(key, kept);
  }
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  return { code: await ended, series: [...found.values()] };
}

function fuseOverlayfsVersion(): string {
  const { stdout } = spawnSync('fuse-overlayfs', ['--version'], { encoding: 'utf8' });
  return /fuse-overlayfs: version (\S+)/.exec(stdout ?? '')?.[1] ?? 'absent';
}

const START = '<!-- results: written by `npm run bench -- --write-docs` -->';
const END = '<!-- end of results -->';

/** Replaces what stands between the two marks of docs/benchmarks.md. */
function writeDocs(results: Results): void {
  const text = readFileSync(DOCS, 'utf8');
  const start = text.indexOf(START);
  const end = text.indexOf(END);
  if (start < 0 || end < start) throw new Error(`${DOCS} has lost its marks: ${START} ... ${END}`);
  const table = `${START}\n\n${toMarkdown(results)}\n\n`;
  writeFileSync(DOCS, text.slice(0, start) + table + text.slice(end));
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  if (options.list) {
    for (const { name, title } of casesOf()) process.stdout.write(`${name.padEnd(20)} ${title}\n`);
    return;
  }
  if (options.from !== undefined && !existsSync(options.from)) {
    throw new Error(`${options.from} does not exist`);
  }
  const results =
    options.from === undefined
      ? await measure()
      : (JSON.parse(readFileSync(options.from, 'utf8')) as Results);
  process.stdout.write(`${toText(results)}\n`);
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify(results, undefined, 1)}\n`);
  }
  if (options['write-docs']) writeDocs(results);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
