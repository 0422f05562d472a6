// Runs the command line as a child, as a person would; used by the tests of this folder.
// The child gets the test's runtime folder, so that it shares no supervisor with anything else.

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What is shipped and starts soonest: one bundled file, and so are the programs that it starts. */
export const MAIN = fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Cli {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  run(...args: string[]): Ran;
}

/** @param folder where relative paths of the arguments start; its `run` becomes the runtime folder. */
export function cliIn(folder: string): Cli {
  const runtime = join(folder, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  const env = { ...process.env, VARVE_RUNTIME_DIR: runtime, VARVE_SUPERVISOR_IDLE: '300' };
  return {
    folder,
    env,
    run: (...args) => {
      const ran = spawnSync(process.execPath, [MAIN, ...args], {
        cwd: folder,
        env,
        encoding: 'utf8',
        maxBuffer: 64 << 20,
        timeout: 60_000,
      });
      return { code: ran.status, out: ran.stdout, err: ran.stderr };
    },
  };
}
