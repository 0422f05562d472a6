// The keeper of a session: a small process that waits until nobody uses the prefix, and has it taken down then.
// Started by session.ts for programs that nobody waits for. It sleeps in flock(1) and in wineserver; only the end needs Node.
// If it is killed the mount stays, and the next session or `varve wine stop` ends it.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SessionPaths } from './layout.js';
import type { Served } from './waiting.js';

/** The script, in the installation of varve's main program. */
export const keeperScript = (main: string): string =>
  join(dirname(main), '../../../bin/wine-keeper');

/** @param varve the command line up to its first word. @param linger seconds between the last program and the end. */
export function startKeeper(
  paths: SessionPaths,
  { wineserver, env }: Served,
  varve: readonly string[],
  linger: number,
): void {
  const log = openSync(paths.log, 'a', 0o600);
  const stop = [...varve, 'wine', 'stop', '--quiet', '--timeout=0', paths.folder];
  const words = [paths.keeper, paths.users, wineserver, String(linger), ...stop];
  const child = spawn('/bin/sh', [keeperScript(varve.at(-1) as string), ...words], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...env, WINEPREFIX: paths.folder, WINEPREFIX_OVERLAYS: '' },
  });
  child.on('error', () => {});
  child.unref();
  closeSync(log);
}
