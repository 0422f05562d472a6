// `npm run bench:wine`: Wine in a layered prefix and in a plain one, taking turns at the same work.
// A program of its own, on the base of turns.ts; needs Wine. Everything lies in a folder of its own, HOME included.
// Follows: the targets of docs/benchmarks.md; `--write-docs` puts the table there.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, cpSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { run as runDiff } from '../src/cli/wine-diff.js';
import { type Case, type Figures, ROOT, Turns, tableOf, writeDocs } from './turns.js';

const HELP = `usage: npm run bench:wine -- [OPTION]...

Times Wine in prefixes over one base against plain prefixes, taking turns, and prints minimums and ratios.

  --rounds N          turns of each subject (default 5)
  --only PATTERN      cases whose name matches this regular expression
  --base DIR          a pristine plain prefix to copy, in place of one that is made
  --varve FILE        the script to run as varve (default: this build's)
  --scratch DIR       where everything is made (default: TMPDIR); 3 GB
  --write-docs        put the table into docs/benchmarks.md
`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    base: { type: 'string' },
    varve: { type: 'string', default: `${ROOT}/dist/bundle/programs/main.js` },
    scratch: { type: 'string', default: tmpdir() },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** Seconds that a layered prefix may take, as a ratio to a plain one. */
const LIMITS = { ver: 1.15, create: 0.1, first: 0.2 } as const;
/** Milliseconds of the diff of a registry, after start-up. */
const DIFF_LIMIT = 100;

/** In a process of its own: everything is loaded, nothing has run. */
async function timeDiff(prefix: string): Promise<void> {
  const started = performance.now();
  await runDiff({
    operands: [prefix],
    before: undefined,
    has: (name) => name === 'registry',
    value: () => undefined,
    values: () => [],
  });
  process.stderr.write(`${performance.now() - started}\n`);
}

async function main(): Promise<void> {
  const turns = new Turns({
    scratch: options.scratch,
    varve: options.varve,
    rounds: Number(options.rounds),
  });
  const bench = new Bench(turns);
  try {
    await bench.prepare();
    const rows: string[] = [];
    for (const one of bench.cases().filter(({ name }) => new RegExp(options.only).test(name))) {
      rows.push(...(await turns.rows(one)));
    }
    const table = tableOf(bench.about(), rows);
    process.stdout.write(`${table}\n`);
    if (options['write-docs']) writeDocs('wine', table);
  } finally {
    await bench.close();
    turns.close();
  }
}

/** A folder of prefixes, and what is done in them. */
class Bench {
  readonly #turns: Turns;
  readonly #env: NodeJS.ProcessEnv;
  readonly #plain: string;
  readonly #open: ChildProcess[] = [];
  #made = 0;

  constructor(turns: Turns) {
    this.#turns = turns;
    this.#plain = turns.at('plain');
    this.#env = {
      ...turns.env,
      HOME: turns.at('home'),
      PATH: `${turns.at('local/bin')}:${process.env['PATH']}`,
      WINEDEBUG: '-all',
      DISPLAY: '',
      VARVE_WINE_DIR: turns.at('library'),
    };
    for (const name of ['WINEPREFIX', 'WINEPREFIX_OVERLAYS', 'WINEARCH']) delete this.#env[name];
    mkdirSync(turns.at('home'));
  }

  /** A plain prefix that has run once, and a base that is the same. */
  async prepare(): Promise<void> {
    if (options.base === undefined) await this.#plainly(this.#plain, ['wineboot', '-i']);
    else cpSync(options.base, this.#plain, { recursive: true, verbatimSymlinks: true });
    await this.#end(this.#plain);
    await this.#time(this.#varve('wine', 'base', 'add', 'bench', '--from', this.#plain));
    await this.#time(this.#varve('setup', '--wine', '--prefix', this.#turns.at('local')));
    for (const name of ['fuse', 'kernel']) await this.#create(name);
  }

  about(): string {
    const version = spawnSync('wine', ['--version'], { encoding: 'utf8' }).stdout.trim();
    return `Linux ${release()}, ${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}, ${version}; minimums of ${options.rounds} rounds, root`;
  }

  cases(): Case[] {
    const backends = ['fuse', 'kernel'] as const;
    return [
      ...backends.flatMap((backend) => this.#verCases(backend)),
      this.#createCase(),
      ...backends.map((backend) => this.#firstCase(backend)),
      this.#diffCase(),
    ];
  }

  async close(): Promise<void> {
    for (const child of this.#open) child.stdin?.end();
    await this.#time(this.#varve('wine', 'stop', '--all', '--kill', '--quiet'));
    await this.#end(this.#plain);
  }

  #verCases(backend: 'fuse' | 'kernel'): Case[] {
    const prefix = this.#turns.at(`library/prefixes/${backend}`);
    const ver = ['cmd', '/c', 'ver'];
    // The command as it is installed: a launcher, which needs Node for what it does not know already.
    const run = ['wine', 'run', `--backend=${backend}`, '--detach', backend];
    const byVarve = [this.#turns.at('local/bin/varve'), ...run, ...ver];
    const byShim = [this.#turns.at('local/bin/wine'), ...ver];
    const plain = (): Promise<Figures> => this.#plainly(this.#plain, ver);
    const limits = [{ figure: 'seconds', to: 'plain', limit: LIMITS.ver }] as const;
    const warm = (subject: () => Promise<Figures>) => async () => {
      await this.#keepUp(backend);
      return subject();
    };
    const cold = (subject: () => Promise<Figures>) => async () => {
      await this.#takeDown(backend);
      return subject();
    };
    const layered = {
      'varve wine run': () => this.#time(byVarve),
      // As root the shim takes the kernel's overlayfs.
      ...(backend === 'fuse'
        ? {}
        : { 'the shim': () => this.#time(byShim, { WINEPREFIX: prefix }) }),
    };
    return Object.entries({ warm, cold }).flatMap(([state, ready]) =>
      Object.entries(layered).map(([way, subject]) => ({
        name: `ver-${state}-${backend}-${way.replaceAll(' ', '-')}`,
        title: `\`wine cmd /c ver\`, ${state === 'warm' ? 'wineserver up' : 'nothing up'}, by ${way} (${backend})`,
        subjects: { varve: ready(subject), plain: ready(plain) },
        limits,
      })),
    );
  }

  #createCase(): Case {
    return {
      name: 'create',
      title: 'creating a prefix, to `wineboot -i`',
      subjects: {
        varve: () => this.#create(`made${this.#made++}`),
        plain: () => this.#newPlain(['wineboot', '-i']),
      },
      limits: [{ figure: 'seconds', to: 'plain', limit: LIMITS.create }],
    };
  }

  #firstCase(backend: 'fuse' | 'kernel'): Case {
    const ver = ['cmd', '/c', 'ver'];
    return {
      name: `first-${backend}`,
      title: `first \`wine cmd /c ver\` in a new prefix (${backend})`,
      subjects: {
        varve: async () => {
          const name = `new${this.#made++}`;
          await this.#create(name);
          const flags = [`--backend=${backend}`, '--detach'];
          const figures = await this.#time(this.#varve('wine', 'run', ...flags, name, ...ver));
          await this.#time(this.#varve('wine', 'stop', '--quiet', '--kill', name));
          await this.#time(this.#varve('wine', 'rm', '--quiet', '--yes', name));
          return figures;
        },
        plain: () => this.#newPlain(ver),
      },
      limits: [{ figure: 'seconds', to: 'plain', limit: LIMITS.first }],
    };
  }

  #diffCase(): Case {
    const script = fileURLToPath(import.meta.url);
    return {
      name: 'diff',
      title: 'registry diff of a prefix (9,000 keys), after start-up',
      subjects: {
        varve: async () => {
          await this.#takeDown('fuse');
          const { status, stderr } = spawnSync(process.execPath, [script, 'diff', 'fuse'], {
            env: this.#env,
            encoding: 'utf8',
          });
          if (status !== 0) throw new Error(stderr);
          return { ms: Number(stderr.trim().split('\n').at(-1)) };
        },
      },
      limits: [{ figure: 'ms', to: 'absolute', limit: DIFF_LIMIT }],
    };
  }

  #varve(...args: string[]): string[] {
    return this.#turns.varve(...args);
  }

  #create(name: string): Promise<Figures> {
    return this.#time(this.#varve('wine', 'create', '--quiet', name, '--base', 'bench'));
  }

  #plainly(prefix: string, command: readonly string[]): Promise<Figures> {
    return this.#time(['/usr/bin/wine', ...command], { WINEPREFIX: prefix });
  }

  /** What a command takes in a prefix that was not there before; it is removed again. */
  async #newPlain(command: readonly string[]): Promise<Figures> {
    const prefix = this.#turns.at(`plain${this.#made++}`);
    const figures = await this.#plainly(prefix, command);
    await this.#end(prefix);
    rmSync(prefix, { recursive: true });
    return figures;
  }

  #end(prefix: string): Promise<Figures> {
    return this.#time(['/usr/bin/wineserver', '-k'], { WINEPREFIX: prefix }, [0, 1]);
  }

  /** Both prefixes have a program that waits for input: their wineservers stay. */
  async #keepUp(backend: string): Promise<void> {
    if (this.#open.length > 0) return;
    const layered = this.#varve('wine', 'run', `--backend=${backend}`, backend, 'cmd');
    for (const [command, env] of [
      [layered, {}],
      [['/usr/bin/wine', 'cmd'], { WINEPREFIX: this.#plain }],
    ] as const) {
      const [program = '', ...args] = command;
      const out = openSync('/dev/null', 'w');
      const child = spawn(program, args, {
        env: { ...this.#env, ...env },
        stdio: ['pipe', out, out],
      });
      this.#open.push(child);
    }
    // Wine's services need some seconds until they are all there, and are idle.
    await new Promise((resolve) => setTimeout(resolve, 5000));
  }

  async #takeDown(backend: string): Promise<void> {
    for (const child of this.#open.splice(0)) child.stdin?.end();
    await this.#time(this.#varve('wine', 'stop', '--kill', '--quiet', backend));
    await this.#end(this.#plain);
    await this.#time(['/usr/bin/wineserver', '-w'], { WINEPREFIX: this.#plain });
  }

  /** Until the program itself has ended; output to nowhere, for Wine's services would hold a pipe. @throws when it fails. */
  #time(
    command: readonly string[],
    env: NodeJS.ProcessEnv = {},
    good: readonly number[] = [0],
  ): Promise<Figures> {
    return new Promise((resolve, reject) => {
      const [program = '', ...args] = command;
      const path = this.#turns.at('log');
      const log = openSync(path, 'w');
      const start = performance.now();
      const child = spawn(program, args, {
        cwd: this.#turns.folder,
        env: { ...this.#env, ...env },
        stdio: ['ignore', log, log],
      });
      closeSync(log);
      child.once('error', reject);
      child.once('exit', (code) => {
        const seconds = (performance.now() - start) / 1000;
        if (code !== null && good.includes(code)) resolve({ seconds });
        else reject(new Error(`${command.join(' ')}: exit ${code}: ${readFileSync(path, 'utf8')}`));
      });
    });
  }
}

if (options.help) {
  process.stdout.write(HELP);
} else if (positionals[0] === 'diff') {
  await timeDiff(positionals[1] as string);
} else {
  await main();
}
