// The kernel's overlayfs for a plain user: a user namespace in which everybody is who they are, and a process that holds it.
// Used by drive.ts with --backend=kernel. Programs join it by nsenter(1); the mount goes with the last process in it.
// Follows: user_namespaces(7), unshare(1) of util-linux 2.36, overlayfs.rst ("userxattr").

import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoName } from '../../linux/errno.js';
import { mount } from '../../linux/mount.js';
import { mountNamespace, processesOf } from '../../linux/namespace.js';
import { MountError } from '../../stack/errors.js';
import { escapePath, joinLayers } from '../../stack/option-text.js';
import type { Below } from './below.js';
import { isAlive, type Process, processOf } from './layout.js';
import type { PrefixPaths } from './places.js';

/** The word of the command line by which the inside is started; see inside(). */
export const HOLDER_WORD = 'wine-holder';

/** Milliseconds for what is ending. */
const PATIENCE = 3000;

/**
 * Makes the namespace and mounts in it.
 * @returns the process that holds it. @throws MountError.
 */
export async function startHolder(
  paths: PrefixPaths,
  below: readonly Below[],
  env: NodeJS.ProcessEnv,
): Promise<Process> {
  const image = below.find(({ isImage }) => isImage);
  if (image !== undefined) {
    throw new MountError(
      'option',
      `backend=kernel: ${image.label}: only root may have the kernel mount an image: take --backend=fuse`,
    );
  }
  const foreign = below.find(({ driveC }) => statSync(driveC).uid !== process.geteuid?.());
  if (foreign !== undefined) {
    throw new MountError(
      'option',
      `backend=kernel: ${foreign.label}: belongs to another user, and nothing in it could be changed: take --backend=fuse`,
    );
  }
  const options = [
    `lowerdir=${joinLayers(below.map(({ driveC }) => driveC))}`,
    `upperdir=${escapePath(paths.upper)}`,
    `workdir=${escapePath(paths.work)}`,
    'userxattr,index=off',
  ].join(',');
  const args = ['--user', '--map-current-user', '--keep-caps', '--mount', '--'];
  const again = [process.execPath, process.argv[1] as string, HOLDER_WORD, paths.driveC, options];
  const child = spawn('unshare', [...args, ...again], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
    cwd: '/',
  });
  let said = '';
  let wrong = '';
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (wrong += text));
  await new Promise<void>((done) => {
    child.once('error', (error) => {
      wrong = error.message;
      done();
    });
    // It closes its output when it has mounted, and lives on.
    child.stdout.once('end', done);
  });
  const holder = processOf(child.pid ?? 0);
  child.unref();
  if (said.trim() === 'mounted' && holder !== undefined) return holder;
  const why = wrong.trim().split('\n').at(-1) ?? '';
  throw new MountError(
    'permission',
    `backend=kernel: no overlayfs in a user namespace here (${why}): take --backend=fuse`,
  );
}

/**
 * The inside: mounts, says so, and becomes a process that costs nothing and waits for its end.
 * @returns exit code of a failure.
 */
export async function inside([driveC = '', options = '']: readonly string[]): Promise<number> {
  const { execute } = await import('../../linux/namespace.js');
  const r = mount('varve', driveC, 'overlay', 0, options);
  if (r < 0) {
    process.stderr.write(`${driveC}: overlayfs says ${errnoName(r)}\n`);
    return 1;
  }
  process.stdout.write('mounted\n');
  for (const sleeper of ['/usr/bin/sleep', '/bin/sleep']) {
    execute(sleeper, ['varve-wine-holder', 'infinity'], {}, []);
  }
  process.stderr.write('sleep(1) is missing\n');
  return 1;
}

/** The words before a command that is to run in the namespace, in the folder `cwd` as it is seen there. */
export function joining(holder: Process, cwd: string): string[] {
  return [
    'nsenter',
    `--target=${holder.pid}`,
    '--user',
    '--mount',
    '--preserve-credentials',
    '--',
    ...['sh', '-c', 'cd -- "$1" || exit 125; shift; exec "$@"', 'sh', cwd],
  ];
}

/** Ends the holder, when nobody else is in its namespace. @throws MountError `busy`. */
export async function endHolder(paths: PrefixPaths, holder: Process): Promise<void> {
  if (!isAlive(holder)) return;
  const id = mountNamespace(holder.pid) ?? '';
  const namespace = { id, mark: undefined };
  if (processesOf(namespace).some((pid) => pid !== holder.pid)) {
    throw new MountError('busy', `${paths.driveC}: programs still run in its mount namespace`);
  }
  process.kill(holder.pid, 'SIGTERM');
  const deadline = Date.now() + PATIENCE;
  while (isAlive(holder) && Date.now() < deadline) await sleep(5);
}
