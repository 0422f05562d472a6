// `varve reload`: puts servers of the installed version in the place of those that run, under their mounts.
// Run by main.ts; the supervisor does it (supervisor/mount.ts), this only asks, one mount after the other.
// How it works and what may be in the way: docs/restart.md.

import { mountpointNamed } from '../named/resolve.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { throwRefusal } from '../stack/mount.js';
import { type KnownMount, knownMounts } from '../stack/mounts-known.js';
import { serverProgram } from '../stack/server-program.js';
import { findSupervisor, type Supervisor } from '../supervisor/client.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { print, remark } from './output.js';

interface Reloaded {
  /** Absolute. */
  readonly mountpoint: string;
  /** Of the server that serves now; absent: the kernel serves it, there is none. */
  readonly serverPid?: number;
  /** How long nobody answered. */
  readonly stallMilliseconds?: number;
}

export async function run(given: Arguments): Promise<number> {
  const all = given.has('all');
  if (all !== (given.operands.length === 0)) {
    const message = all
      ? 'reload: --all and mount points exclude each other: leave one out'
      : 'reload: name a mount point, or use --all';
    throw new MountError('option', message);
  }
  const known = await knownMounts();
  const names = all
    ? known.filter((mount) => mount.status !== undefined).map((mount) => mount.mountpoint)
    : given.operands;
  const supervisor = await findSupervisor();
  let code: number = EXIT.ok;
  const done: (Reloaded | { mountpoint: string; error: string })[] = [];
  for (const name of names) {
    try {
      const path = all ? name : await mountpointNamed(name);
      const reloaded = await reload(path, known, supervisor);
      done.push(reloaded);
      if (!given.has('json')) remark(given, sentence(reloaded));
    } catch (error) {
      code = exitCodeOf(error);
      done.push({ mountpoint: name, error: lineOf(error) });
      if (!given.has('json')) process.stderr.write(`varve: ${lineOf(error)}\n`);
    }
  }
  supervisor?.close();
  if (given.has('json')) print(given, done, () => '');
  return code;
}

function sentence({ mountpoint, serverPid, stallMilliseconds }: Reloaded): string {
  if (serverPid === undefined) return `${mountpoint} is served by the kernel: nothing to reload`;
  return `${mountpoint} is served by process ${serverPid} now, after ${stallMilliseconds} ms`;
}

async function reload(
  path: string,
  known: readonly KnownMount[],
  supervisor: Supervisor | undefined,
): Promise<Reloaded> {
  const mountpoint = mountpointPath(path);
  const mount = known.findLast((other) => other.mountpoint === mountpoint);
  if (mount === undefined) {
    throw new MountError('absent', `${mountpoint}: not a varve mount: see \`varve status\``);
  }
  if (mount.backend === 'kernel') return { mountpoint };
  if (supervisor === undefined || mount.state === 'lost') {
    throw new MountError(
      'server',
      `${mountpoint}: its supervisor is gone, so nobody can replace its server: unmount, then mount again`,
    );
  }
  const reply = await supervisor.ask({ op: 'reload', mountpoint, program: serverProgram() });
  throwRefusal(reply);
  const status = reply.mounts?.[0];
  return {
    mountpoint,
    serverPid: status?.pid,
    stallMilliseconds: status?.lastRestart?.stallMilliseconds,
  };
}
