// The test runner: `npm test -- [flags] [part of a file name ...]`; --help lists the flags.
// Runs the checks and every compiled test/**/*.test.js, each in a sandbox (test/support/sandbox.ts),
// and ends with what was skipped and why and the line `N passed, N failed[, N skipped]`.

import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runFile, takeDown } from './support/sandbox.js';
import { runAll, type Task } from './support/schedule.js';

const help = `npm test -- [flags] [part of a file name ...]

  --name REGEXP     only tests whose name matches
  --jobs N          test files at a time (2)
  --patience N      seconds without a sign of life until a file is killed (180)
  --no-check        leave out formatter, linter, types, import directions and dead code
  --only-check      nothing but these
  --node PATH       run the unit tests a second time under this node binary
  --ops N, --seed N, --seconds N, --rounds N
                    size of the long-running tests (see test/support/campaign.ts)
  --source DIR      what the tests of the image writer build from (erofs/write)
  --list            print the test files and stop

A unit test is a file that asks for nothing: it does not call requires().
A file named *.alone.test.ts makes mount namespaces: it runs after the others, with nothing beside it but unit tests.
VARVE_NO_SKIP=1 makes a skipped test a failure (.ci/run sets it).
`;

const root = fileURLToPath(new URL('../..', import.meta.url));
// Node reads all these certificates before it begins, in 140 ms of each of thousands of starts; nothing here asks for them.
delete process.env['NODE_EXTRA_CA_CERTS'];
const noSkip = process.env['VARVE_NO_SKIP'] === '1';

/** The npm scripts that belong to a full run. */
const checks = ['check:style', 'check:types', 'check:imports', 'check:dead'];

interface TestFile {
  /** Relative to test/, without the ending: what is shown and matched. */
  name: string;
  /** Compiled file. */
  script: string;
  unit: boolean;
  alone: boolean;
}

const tally = {
  passed: 0,
  failures: [] as string[],
  skipped: [] as { name: string; reason: string }[],
};

const sandboxes = new Set<string>();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      jobs: { type: 'string', default: '2' },
      patience: { type: 'string', default: '180' },
      'no-check': { type: 'boolean', default: false },
      'only-check': { type: 'boolean', default: false },
      node: { type: 'string' },
      ops: { type: 'string' },
      seed: { type: 'string' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      source: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const started = Date.now();
  const everything = findTests();
  const files = values['only-check'] ? [] : everything.filter(selected(positionals));
  if (values.list) {
    for (const file of files) console.log(`test/${file.name}.test.ts`);
    return 0;
  }
  for (const knob of ['ops', 'seed', 'seconds', 'rounds', 'source'] as const) {
    const value = values[knob];
    if (value !== undefined) process.env[`VARVE_TEST_${knob.toUpperCase()}`] = value;
  }

  const base = mkdtempSync(join(realpathSync(tmpdir()), 'vt-'));
  chmodSync(base, 0o755);
  cleanUpOnSignals(base);
  let number = 0;
  const runOne = (file: TestFile, node: string, label: string) => {
    number += 1;
    return runAndCount(file, {
      node,
      label,
      sandbox: join(base, String(number)),
      namePattern: values.name,
      patience: Number(values.patience) * 1000,
    });
  };
  const partial = positionals.length > 0 || values.name !== undefined;
  const tasks: (Task & { readonly run: () => Promise<void> })[] = [];
  for (const file of files) {
    const kind = file.alone ? 'alone' : file.unit ? 'quiet' : 'mounts';
    tasks.push({ name: file.name, kind, run: () => runOne(file, process.execPath, '') });
    const other = values.node;
    if (other === undefined || !file.unit) continue;
    tasks.push({ name: file.name, kind, run: () => runOne(file, other, ' (other node)') });
  }
  if (!partial && !values['no-check']) {
    for (const script of checks) {
      tasks.push({ name: script, kind: 'check', run: () => runCheck(script) });
    }
  }
  try {
    await runAll(tasks, Number(values.jobs), (task) => task.run());
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
  return summarise(Date.now() - started);
}

/** Sources decide, so that a leftover of an earlier build never runs. */
function findTests(): TestFile[] {
  const folder = join(root, 'test');
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .sort()
    .map((path) => {
      const name = path.slice(0, -'.test.ts'.length);
      return {
        name,
        script: join(root, 'dist', 'test', `${name}.test.js`),
        unit: !/\brequires\(/.test(readFileSync(join(folder, path), 'utf8')),
        alone: name.endsWith('.alone'),
      };
    });
}

function selected(parts: readonly string[]): (file: TestFile) => boolean {
  if (parts.length === 0) return () => true;
  return ({ name }) => parts.some((part) => `test/${name}.test.ts`.includes(part));
}

interface RunSettings {
  node: string;
  /** Added to the file's name where it runs a second time. */
  label: string;
  sandbox: string;
  namePattern: string | undefined;
  patience: number;
}

async function runAndCount(file: TestFile, settings: RunSettings): Promise<void> {
  const started = Date.now();
  const { node, label, sandbox, namePattern, patience } = settings;
  sandboxes.add(sandbox);
  const environment = process.env;
  const { script } = file;
  const run = { node, script, sandbox, namePattern, patience, environment };
  const result = await runFile(run);
  sandboxes.delete(sandbox);

  const name = file.name + label;
  let passed = 0;
  const failures: string[] = [];
  let skips = 0;
  for (const line of result.lines) {
    if (line.kind === 'pass') passed += 1;
    if (line.kind === 'fail') failures.push(`${name}: ${line.name}\n${indent(line.text)}`);
    if (line.kind !== 'skip') continue;
    if (noSkip) failures.push(`${name}: ${line.name}\n  skipped: ${line.text}`);
    else tally.skipped.push({ name: `${name}: ${line.name}`, reason: line.text });
    skips += 1;
  }
  if (result.hung !== undefined) failures.push(`${name}: hung\n${indent(result.hung)}`);
  else if (result.ending !== undefined && failures.length === 0) {
    failures.push(`${name}: ${result.ending}`);
  } else if (result.lines.length === 0 && namePattern === undefined) {
    failures.push(`${name}: holds no test`);
  }
  tally.passed += passed;
  tally.failures.push(...failures);

  const counts = [`${passed} passed`];
  if (failures.length > 0) counts.push(`${failures.length} failed`);
  if (skips > 0 && !noSkip) counts.push(`${skips} skipped`);
  printRow(failures.length === 0, name, counts.join(', '), Date.now() - started);
  for (const failure of failures) console.log(indent(failure));
  if (failures.length > 0 && result.output !== '') {
    console.log(indent(`--- output of ${name}\n${result.output.trimEnd()}\n---`));
  }
  for (const target of result.leftMounts) console.log(`  note: ${name} left ${target} mounted`);
}

/** An npm script of package.json as one test. */
async function runCheck(script: string): Promise<void> {
  const started = Date.now();
  const child = spawn('npm', ['run', '--silent', script], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  printRow(code === 0, script, '', Date.now() - started);
  if (code === 0) {
    tally.passed += 1;
    return;
  }
  tally.failures.push(script);
  console.log(indent(output.trimEnd()));
}

function summarise(elapsed: number): number {
  const { passed, failures, skipped } = tally;
  if (skipped.length > 0) {
    console.log('\nskipped:');
    for (const { name, reason } of skipped) console.log(`  ${name} (${reason})`);
  }
  if (failures.length > 0) {
    console.log('\nfailed:');
    for (const failure of failures) console.log(`  ${failure.split('\n', 1)[0]}`);
  }
  console.log(`\n${seconds(elapsed)}`);
  const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : '';
  console.log(`${passed} passed, ${failures.length} failed${tail}`);
  return failures.length > 0 || passed + skipped.length === 0 ? 1 : 0;
}

function printRow(ok: boolean, name: string, counts: string, elapsed: number): void {
  const row = `${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(44)} ${counts.padEnd(24)}`;
  console.log(`${row} ${seconds(elapsed)}`);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function indent(text: string): string {
  return text.replace(/^/gm, '  ');
}

/** An interrupted run unmounts and ends what its tests had started, then goes. */
function cleanUpOnSignals(base: string): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, async () => {
      await Promise.allSettled([...sandboxes].map(takeDown));
      rmSync(base, { recursive: true, force: true });
      process.exit(1);
    });
  }
}

process.exitCode = await main();
