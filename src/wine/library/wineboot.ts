// A prefix as Wine itself makes or updates one: wineboot -i or -u, and the end of its wineserver.
// Called where a base or a new version of one is made; what Wine prints goes to a file, for services.exe holds a pipe for seconds.
// Follows: wineboot(1), wineserver(1).

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { MountError } from '../../stack/errors.js';
import type { WineBuild } from '../prefix/build.js';

/** @param prefix does not exist yet. @throws MountError of kind `server` with what Wine said. */
export function makePristine(
  prefix: string,
  build: WineBuild,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  return boot(prefix, '-i', build, env);
}

/** Brings a prefix of another build up to this one. @throws MountError of kind `server` with what Wine said. */
export function updatePristine(
  prefix: string,
  build: WineBuild,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  return boot(prefix, '-u', build, env);
}

async function boot(
  prefix: string,
  how: '-i' | '-u',
  build: WineBuild,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const log = `${prefix}.log`;
  mkdirSync(prefix, { recursive: true });
  const own = { ...env, ...build.env, WINEPREFIX: prefix, WINEPREFIX_OVERLAYS: undefined };
  const failure = await ended(build.wine, ['wineboot', how], own, log);
  // The registry is written when the server has gone; its exit code only tells whether there was one.
  await ended(build.wineserver, ['-w'], own, log);
  if (failure === undefined) return;
  const last = readFileSync(log, 'latin1').trim().split('\n').at(-1) ?? '';
  throw new MountError(
    'server',
    `wineboot ${how}: ${failure}${last === '' ? '' : ` (${last})`}: run \`${build.wine} wineboot ${how}\` with a WINEPREFIX of its own to see more`,
  );
}

/** @returns how it failed. */
function ended(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  log: string,
): Promise<string | undefined> {
  const fd = openSync(log, 'a');
  const child = spawn(program, args, { env, stdio: ['ignore', fd, fd] });
  closeSync(fd);
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => {
      if (code === 0) resolve(undefined);
      else resolve(signal === null ? `exit code ${code}` : `ended by ${signal}`);
    });
  });
}
