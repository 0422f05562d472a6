// The keeper of a session: a small process that waits until nobody uses the prefix, and has it taken down then.
// Started by session.ts for programs that nobody waits for. It sleeps in flock(1) and in wineserver; only the end needs Node.
// If it is killed the mount stays, and the next session or `varve wine stop` ends it.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { SessionPaths } from './layout.js';
import type { Served } from './waiting.js';

/**
 * $1 locked by the one keeper; $2 the lock of the programs; $3 the wineserver; $4 seconds to linger; then what stops the
 * prefix: exit code 5 says that somebody uses it again.
 */
const SCRIPT = `
only=$1 users=$2 server=$3 linger=$4
shift 4
exec 7>>"$only" 8<"$users" || exit
flock -x -w 20 7 || exit 0
while :; do
  flock -x 8 && flock -u 8
  "$server" -w </dev/null
  sleep "$linger"
  flock -xn 8 || continue
  flock -u 8
  "$@" 7>&- 8<&-
  [ $? = 5 ] || exit
  sleep 1
done
`;

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
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'varve-wine-keeper', ...words], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...env, WINEPREFIX: paths.folder, WINEPREFIX_OVERLAYS: '' },
  });
  child.on('error', () => {});
  child.unref();
  closeSync(log);
}
