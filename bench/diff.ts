// `npm run bench:diff`: how long `varve diff` takes for one changed file, over a lower of ten files and over one of a million.
// A program of its own: nothing is mounted. Turns alternate, minimums count, as in main.ts.
// Follows: the targets of docs/benchmarks.md: 50 ms after start-up, whatever the lower has.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { run } from '../src/cli/diff.js';
import { firstInLine } from './priority.js';
import { ROOT } from './turns.js';

const HELP = `usage: npm run bench:diff -- [OPTION]...

Times varve diff of one changed file over a small and a large lower: the whole command, and the part after its start.

  --files N           files of the large lower (default 1000000)
  --rounds N          turns of each (default 7)
  --scratch DIR       where the layers are made (default: TMPDIR)
`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    files: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '7' },
    scratch: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', default: false },
  },
});

const FILES_PER_DIRECTORY = 1000;
const varve = `${ROOT}/dist/bundle/programs/main.js`;

if (options.help) {
  process.stdout.write(HELP);
} else if (positionals[0] === 'child') {
  await timeRun(positionals[1] as string);
} else {
  main(Number(options.files), Number(options.rounds));
}

/** In a process of its own: everything is loaded, nothing has run. */
async function timeRun(layers: string): Promise<void> {
  const started = performance.now();
  await run({
    operands: [],
    before: undefined,
    has: (name) => name === 'name-status',
    value: () => undefined,
    values: (name) => (name === 'options' ? [layers] : []),
  });
  process.stderr.write(`${performance.now() - started}\n`);
}

function main(files: number, rounds: number): void {
  const folder = mkdtempSync(join(options.scratch, 'varve-bench-'));
  try {
    const stacks = [10, files].map((count) => ({ count, layers: makeStack(folder, count) }));
    const best = stacks.map(() => ({ whole: Infinity, work: Infinity }));
    const start = { whole: Infinity };
    for (let round = 0; round < rounds; round++) {
      start.whole = Math.min(start.whole, wall([varve, '--version']).milliseconds);
      stacks.forEach(({ layers }, i) => {
        const one = best[i] as (typeof best)[number];
        const whole = wall([varve, 'diff', '--name-status', '-o', layers]);
        if (whole.out !== 'M\tdir0/file3\n') throw new Error(`unexpected: ${whole.out}`);
        one.whole = Math.min(one.whole, whole.milliseconds);
        const child = wall([fileURLToPath(import.meta.url), 'child', layers]);
        one.work = Math.min(one.work, Number(child.err));
      });
    }
    const ms = (n: number): string => `${n.toFixed(0)} ms`;
    console.log('| files of the lower | after start-up | whole command |\n| --: | --: | --: |');
    stacks.forEach(({ count }, i) => {
      const { work, whole } = best[i] as (typeof best)[number];
      console.log(`| ${count.toLocaleString('en')} | ${ms(work)} | ${ms(whole)} |`);
    });
    console.log(`| \`varve --version\` | | ${ms(start.whole)} |`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function wall(args: readonly string[]): { milliseconds: number; out: string; err: string } {
  const [program = process.execPath, ...before] = [...firstInLine(), process.execPath];
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(program, [...before, ...args], { encoding: 'utf8' });
  const milliseconds = performance.now() - started;
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
  return { milliseconds, out: stdout, err: stderr };
}

/** A lower of empty files, and an upper with one of them. @returns the options of the stack. */
function makeStack(folder: string, files: number): string {
  const at = (name: string): string => join(folder, `${name}${files}`);
  for (let i = 0; i < files; i++) {
    const directory = join(at('l'), `dir${Math.floor(i / FILES_PER_DIRECTORY)}`);
    if (i % FILES_PER_DIRECTORY === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `file${i % FILES_PER_DIRECTORY}`), '');
  }
  for (const name of ['u', 'w']) mkdirSync(at(name));
  mkdirSync(join(at('u'), 'dir0'));
  writeFileSync(join(at('u'), 'dir0/file3'), 'changed');
  return `lowerdir=${at('l')},upperdir=${at('u')},workdir=${at('w')}`;
}
