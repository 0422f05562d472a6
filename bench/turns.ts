// Programs that take turns at the same work, and a table of what each needed at least.
// The base of images.ts and composefs.ts, whose subjects are not stacks of layers; main.ts has a runner of its own.
// Everything runs before the machine's other work; a figure is the minimum over the rounds.

import { spawn, spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Job } from './client.js';
import { firstInLine } from './priority.js';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
const CLIENT = fileURLToPath(new URL('./client.js', import.meta.url));

export const PREFIX = firstInLine();

/** What one turn gives: each figure by its name, which also says its unit. */
export type Figures = Readonly<Record<string, number>>;

const UNITS: Readonly<Record<string, string>> = {
  seconds: 's',
  memory: 'MB',
  bytes: 'MiB',
  ms: 'ms',
  rate: 'MB/s',
};

export interface Case {
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

export interface TurnOptions {
  /** Folder in which the folder of this run is made. */
  readonly scratch: string;
  /** Script to run as varve. */
  readonly varve: string;
  readonly rounds: number;
}

/** A run: its folder, its varve, its rounds. */
export class Turns {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly #options: TurnOptions;
  #mounts = 0;

  constructor(options: TurnOptions) {
    this.#options = options;
    this.folder = mkdtempSync(join(options.scratch, 'varve-bench-'));
    this.env = {
      ...process.env,
      VARVE_RUNTIME_DIR: this.at('run'),
      VARVE_SUPERVISOR_IDLE: '2000',
    };
    mkdirSync(this.at('run'), { mode: 0o700 });
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  at(name: string): string {
    return join(this.folder, name);
  }

  varve(...args: string[]): string[] {
    return [process.execPath, this.#options.varve, ...args];
  }

  /** A command to its end. @returns seconds, and the most memory (MB) that its process took. @throws when it fails. */
  run(command: readonly string[]): Promise<Figures> {
    return new Promise((resolve, reject) => {
      const start = performance.now();
      const child = spawn(command[0] as string, command.slice(1), {
        cwd: this.folder,
        env: this.env,
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

  /** The output of a command. @throws when it fails. */
  ask(command: readonly string[], cwd = this.folder): string {
    const [program, ...rest] = command;
    const ran = spawnSync(program as string, rest, {
      cwd,
      env: this.env,
      encoding: 'utf8',
      timeout: 600_000,
    });
    if (ran.status !== 0) throw new Error(`${command.join(' ')}: ${ran.stderr}`);
    return ran.stdout;
  }

  /** Seconds that a client takes in `dir`. */
  client(dir: string, job: Job): number {
    return secondsOf(this.ask([...PREFIX, ...clientCommand(job)], dir));
  }

  /** Mounts afresh, calls `use`, unmounts. */
  async mounted<T>(
    mount: (mountpoint: string) => readonly string[],
    use: (mountpoint: string) => Promise<T>,
  ): Promise<T> {
    const mountpoint = this.at(`m${this.#mounts++}`);
    mkdirSync(mountpoint);
    await this.run([...PREFIX, ...mount(mountpoint)]);
    try {
      return await use(mountpoint);
    } finally {
      await this.run(['umount', mountpoint]);
    }
  }

  /** The rows of the table for one case, after all its turns. */
  async rows(one: Case): Promise<string[]> {
    const found = new Map<string, Record<string, number>>();
    for (let round = 0; round < this.#options.rounds; round++) {
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
    return rowsOf(one, found);
  }
}

/** The command of a client, to be run in the folder that it works on. */
export function clientCommand(job: Job): string[] {
  return [process.execPath, CLIENT, JSON.stringify(job)];
}

/** Seconds, from what a client prints. */
export function secondsOf(output: string): number {
  return (JSON.parse(output) as { ms: number }).ms / 1000;
}

function rowsOf(one: Case, found: ReadonlyMap<string, Figures>): string[] {
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

/** The whole table. @param about a sentence on what was measured. */
export function tableOf(about: string, rows: readonly string[]): string {
  return [
    `Run on ${new Date().toISOString().slice(0, 10)}: ${about}.`,
    '',
    '| case | figure (limit), bold where missed | minimums |',
    '| --- | --- | --- |',
    ...rows,
  ].join('\n');
}

/** Puts a table between its marks in docs/benchmarks.md. @param name of the bench, as in `npm run bench:NAME`. */
export function writeDocs(name: string, table: string): void {
  const path = `${ROOT}/docs/benchmarks.md`;
  const text = readFileSync(path, 'utf8');
  const first = `<!-- ${name}: written by \`npm run bench:${name} -- --write-docs\` -->`;
  const start = text.indexOf(first);
  const end = text.indexOf(`<!-- end of ${name} -->`);
  if (start < 0 || end < start) throw new Error(`${path} has lost its marks: ${first}`);
  writeFileSync(path, `${text.slice(0, start)}${first}\n\n${table}\n\n${text.slice(end)}`);
}

/** `56,795 files, 1.02 GB`, of what lies below a folder. */
export function sizeOf(path: string): string {
  let files = 0;
  let bytes = 0;
  const pending = [path];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const entry of readdirSync(next, { withFileTypes: true })) {
      const child = join(next, entry.name);
      if (entry.isDirectory()) pending.push(child);
      else if (entry.isFile()) {
        files++;
        bytes += lstatSync(child).size;
      }
    }
  }
  return `${files} files, ${(bytes / 1e9).toFixed(2)} GB`;
}
