// Runs the cases in one environment: round by round, the subjects taking turns, a fresh mount each time.
// Started by main.ts inside the namespaces that environments.ts describes; prints one JSON line a sample.
// Follows: nothing; what is timed and what is not is described in docs/benchmarks.md.

import { spawn, spawnSync } from 'node:child_process';
import { fstatSync, mkdirSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Bench, Case, Mounted, Scale, Wish } from './cases.js';
import { answers, CASES, PROBE_NAME } from './cases.js';
import type { Job } from './client.js';
import type { Environment } from './environments.js';
import { makeFile, makeLayer, makeWideLayer } from './layers.js';
import { killServers } from './processes.js';
import type { Stack, Subject, SubjectName } from './subjects.js';
import { makeSubjects } from './subjects.js';

/** What main.ts asks of one runner; its only argument, as JSON. */
export interface Order {
  readonly environment: Environment;
  readonly dir: string;
  readonly caseNames: readonly string[];
  readonly subjectNames: readonly SubjectName[];
  readonly rounds: number;
  readonly scale: Scale;
  readonly varvePath: string;
}

/** One line of output. */
export interface Sample {
  readonly case: string;
  readonly subject: SubjectName;
  readonly value?: number;
  /** Why there is no value. */
  readonly error?: string;
}

const MOUNT_TIMEOUT_MS = 20_000;
const CLIENT_TIMEOUT_MS = 180_000;
/** How often a disturbed measurement is taken before it counts as it is. */
const ATTEMPTS = 3;
/** After so many failures a subject is left out of the rest of a case. */
const FAILURES_ALLOWED = 2;

const order = JSON.parse(process.argv[2]) as Order;
const CLIENT = fileURLToPath(new URL('./client.js', import.meta.url));

if (order.environment.fs === 'tmpfs') {
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=80%', 'tmpfs', order.dir]);
  if (mounted.status !== 0) throw new Error(`no tmpfs: ${mounted.stderr}`);
}
mkdirSync(`${order.dir}/run`, { mode: 0o700 }); // XDG_RUNTIME_DIR, see main.ts

// Where everything started here writes its standard error: a file, because daemons keep it after their parent's end.
const complaints = openSync(`${order.dir}/stderr`, 'a+');

/**
 * Runs a command to its end; with `capture` its output is returned, else both streams stay open to daemons it leaves.
 * @throws Error when it fails or takes longer than `timeoutMs`.
 */
function run(
  command: readonly string[],
  timeoutMs: number,
  { cwd, capture = false }: { cwd?: string; capture?: boolean } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const said = fstatSync(complaints).size;
    const child = spawn(command[0], command.slice(1), {
      cwd,
      stdio: ['ignore', capture ? 'pipe' : 'ignore', complaints],
    });
    let out = '';
    let late = '';
    const timer = setTimeout(() => {
      late = `no end after ${timeoutMs} ms`;
      // A client that waits for a dead server ignores signals until the server's descriptor is closed.
      killServers();
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout?.on('data', (data: Buffer) => {
      out += data;
    });
    child.once('error', reject);
    child.once(capture ? 'close' : 'exit', (code: number | null) => {
      clearTimeout(timer);
      if (code === 0) resolve(out);
      else
        reject(
          new Error(
            `${command.slice(0, 3).join(' ')}: ${late || lastWords(said) || `exit ${code}`}`,
          ),
        );
    });
  });
}

/** The last line written to standard error since it was `from` bytes long. */
function lastWords(from: number): string {
  const text = Buffer.alloc(4096);
  const at = Math.max(from, fstatSync(complaints).size - text.length);
  const length = readSync(complaints, text, 0, text.length, at);
  return text.toString('utf8', 0, length).trim().split('\n').at(-1) ?? '';
}

let stacksMade = 0;

/** Builds what `wish` says under a folder of its own. */
function makeStack(wish: Wish, root: string): Stack {
  const [a, b, upper, work] = ['a', 'b', 'upper', 'work'].map((name) => `${root}/${name}`);
  const lowers = wish.tree === 'empty' ? [a, b] : sharedLowers(wish.tree ?? 'small');
  for (const dir of [a, b, upper, work, `${a}/${PROBE_NAME}`]) mkdirSync(dir, { recursive: true });
  if (wish.writable && (wish.tree ?? 'small') === 'small') {
    makeLayer(upper, 'upper', order.scale.files);
  }
  if (wish.big !== undefined) {
    const layer = wish.big.layer === 'upper' ? upper : lowers[0];
    makeFile(`${layer}/big`, wish.big.bytes);
  }
  const timeout0 = wish.timeout0 ?? false;
  return wish.writable ? { lowers, upper, work, timeout0 } : { lowers, timeout0 };
}

/** The two lowers of a tree; made once an environment, since nobody writes to them. */
function sharedLowers(tree: 'small' | 'wide'): string[] {
  const lowers = [`${order.dir}/${tree}-a`, `${order.dir}/${tree}-b`];
  if (madeTrees.has(tree)) return lowers;
  madeTrees.add(tree);
  for (const lower of lowers) mkdirSync(lower);
  if (tree === 'small') {
    makeLayer(lowers[0], 'lower-a', order.scale.files);
    makeLayer(lowers[1], 'lower-b', order.scale.files);
  } else {
    makeWideLayer(lowers[0], 0, order.scale.walked);
    makeWideLayer(lowers[1], 1, order.scale.walked);
  }
  return lowers;
}

const madeTrees = new Set<string>();

const bench: Bench = {
  environment: order.environment,
  scale: order.scale,
  killServers,

  async mounted<T>(
    subject: Subject,
    wish: Wish,
    use: (mounted: Mounted) => Promise<T>,
  ): Promise<T> {
    const root = `${order.dir}/stack${stacksMade++}`;
    const mountpoint = `${root}/mnt`;
    mkdirSync(mountpoint, { recursive: true });
    const stack = makeStack(wish, root);
    // What earlier cases left dirty must not be written back in somebody's time.
    if (order.environment.fs !== 'tmpfs') spawnSync('sync', ['-f', order.dir]);
    try {
      const start = performance.now();
      await run(subject.mount(stack, mountpoint), MOUNT_TIMEOUT_MS);
      await answers(mountpoint);
      const readyMs = performance.now() - start;
      return await use({ mountpoint, readyMs });
    } finally {
      await unmount(subject, mountpoint);
      rmSync(root, { recursive: true, force: true });
      if (wish.big?.layer === 'lower') rmSync(`${stack.lowers[0]}/big`, { force: true });
    }
  },

  async client(dir: string, job: Job): Promise<number> {
    const out = await run([process.execPath, CLIENT, JSON.stringify(job)], CLIENT_TIMEOUT_MS, {
      cwd: dir,
      capture: true,
    });
    return (JSON.parse(out) as { ms: number }).ms;
  },
};

/** Unmounts, by force where asking does not help: the next subject needs a clean place. */
async function unmount(subject: Subject, mountpoint: string): Promise<void> {
  try {
    await run(subject.umount(mountpoint), MOUNT_TIMEOUT_MS);
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
    killServers();
  }
}

function print(sample: Sample): void {
  process.stdout.write(`${JSON.stringify(sample)}\n`);
}

/** Subjects of a case in their order; `node` does not mount and only lends its name to a column. */
function subjectsOf(one: Case): Subject[] {
  const { privilege } = order.environment;
  const subjects = makeSubjects(order.subjectNames, privilege, order.varvePath).filter(
    ({ name }) => one.subjects === undefined || one.subjects.includes(name),
  );
  if (one.subjects?.includes('node')) {
    subjects.push({ name: 'node', mount: () => ['true'], umount: () => ['true'] });
  }
  return subjects;
}

/** Measures again when somebody dropped the machine's caches meanwhile: the cached state is part of every case. */
async function undisturbed(one: Case, subject: Subject): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const before = cacheDrops();
    const value = await one.measure(bench, subject);
    if (cacheDrops() === before || attempt === ATTEMPTS) return value;
  }
}

/** How often /proc/sys/vm/drop_caches was written since the machine started. */
function cacheDrops(): string {
  return (
    readFileSync('/proc/vmstat', 'latin1')
      .match(/^drop_\w+ \d+$/gm)
      ?.join() ?? ''
  );
}

async function runCase(one: Case): Promise<void> {
  const subjects = subjectsOf(one);
  const failures = new Map<SubjectName, number>();
  const rounds = Math.min(order.rounds, one.maxRounds ?? order.rounds);
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) {
      const failed = failures.get(subject.name) ?? 0;
      if (failed >= FAILURES_ALLOWED) continue;
      try {
        print({ case: one.name, subject: subject.name, value: await undisturbed(one, subject) });
      } catch (error) {
        failures.set(subject.name, failed + 1);
        print({ case: one.name, subject: subject.name, error: (error as Error).message });
      }
    }
  }
}

for (const one of CASES) if (order.caseNames.includes(one.name)) await runCase(one);
killServers();
process.exit(0);
