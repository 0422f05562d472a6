// A folder with a project and a home, for root or a plain user, and `varve try` run in it as a person would.
// Used by the try tests of this folder. Trials lie in the folder, and go with it.
// What a test leaves running carries the folder in its environment.

import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { chownSync, closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** As it is installed: three programs are started one after the other. */
export const PROGRAM = fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url));

export const UID = 1001;

export const skip = requires({
  root: true,
  features: ['userns', 'overlayfs', 'plain-user'],
  commands: ['unshare', 'setpriv'],
});

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface TryPlace {
  readonly folder: string;
  /** Where commands start. */
  readonly project: string;
  at(path: string): string;
  /** `varve try ...`. */
  run(...args: string[]): Ran;
  start(...args: string[]): ChildProcess;
  /** A shell command as the same user, outside of any sandbox. */
  sh(script: string, cwd?: string): Ran;
  /** Processes that have the folder in their environment, by their arguments. */
  left(): string[];
  /** Folders of trials. */
  trials(): string[];
}

export function tryPlace(
  t: { after(fn: () => void): void },
  root: boolean,
  env: NodeJS.ProcessEnv = {},
): TryPlace {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['project', 'home', 'trials', 'run']) {
    mkdirSync(at(name), { mode: name === 'project' ? 0o755 : 0o700 });
    if (!root) chownSync(at(name), UID, UID);
  }
  // What npm tells the tests that it runs is nothing that a person's shell has.
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  const environment = {
    ...Object.fromEntries(inherited),
    HOME: at('home'),
    XDG_RUNTIME_DIR: at('run'),
    VARVE_RUNTIME_DIR: at('run'),
    VARVE_TRY_DIR: at('trials'),
    TRY_PLACE: folder,
    ...env,
  };
  const user = root ? [] : [`--reuid=${UID}`, `--regid=${UID}`, '--clear-groups'];
  const options = { cwd: at('project'), env: environment } as const;
  const words = (args: readonly string[]): string[] => [
    ...user,
    ...['--', process.execPath, PROGRAM, 'try', ...args],
  ];
  const spawned = (args: readonly string[], cwd = at('project')): Ran => {
    // A descriptor that nobody inside should have.
    const extra = openSync(folder, 'r');
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', extra];
    const all = { ...options, cwd, stdio, encoding: 'utf8', timeout: 120_000 } as const;
    const { status, stdout, stderr } = spawnSync('setpriv', args, all);
    closeSync(extra);
    return { code: status, out: stdout, err: stderr };
  };
  return {
    folder,
    project: at('project'),
    at,
    run: (...args) => spawned(words(args)),
    start: (...args) => {
      const child = spawn('setpriv', words(args), { ...options, stdio: 'pipe' });
      t.after(() => child.kill('SIGKILL'));
      return child;
    },
    sh: (script, cwd) => spawned([...user, '--', 'sh', '-ec', script], cwd),
    left: () =>
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name) && hasPlace(name, folder))
        .map((pid) => textOf(pid, 'cmdline').replaceAll('\0', ' ')),
    trials: () => readdirSync(at('trials')),
  };
}

function hasPlace(pid: string, folder: string): boolean {
  return textOf(pid, 'environ').includes(`TRY_PLACE=${folder}\0`);
}

function textOf(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}
