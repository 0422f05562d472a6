// The half of `varve run` that is in the namespace: mounts, runs the command, takes everything down, ends as it ended.
// Started by run.ts through unshare(1), same process id. If this is killed, the supervisor clears the namespace.
// What is done with the command itself stands in run-command.ts.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MNT, MS } from '../linux/constants.js';
import { check, errnoName } from '../linux/errno.js';
import { mount, umount2 } from '../linux/mount.js';
import {
  killNamespace,
  MARK,
  markOf,
  mountNamespace,
  type OwnNamespace,
  processesOf,
} from '../linux/namespace.js';
import { plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { type MountedImage, mountImage } from '../stack/mount-image.js';
import { type Arguments, parseArguments } from './args.js';
import type { CommandRecord } from './command-record.js';
import { commandNamed } from './commands.js';
import { exitCodeOf, lineOf } from './exit-codes.js';
import { announce, askedImage } from './mount-composefs.js';
import { askedCommand, OUTSIDE } from './run.js';
import { bindsOf, type Ended, endAs, inRoot, putBind, runCommand } from './run-command.js';
import { FORWARDED } from './signals.js';

/** Milliseconds between two looks at what is ending, and how long is waited for it. */
const LOOK = 5;
const PATIENCE = 5000;

/** @param argv what stood behind `varve run`. @returns the exit code. */
export async function runInside(argv: readonly string[]): Promise<number> {
  try {
    const namespace = requireNamespace();
    const { flags } = commandNamed('run') as CommandRecord;
    return await runIn(namespace, parseArguments(argv, flags));
  } catch (error) {
    process.stderr.write(`varve: ${lineOf(error)}\n`);
    return exitCodeOf(error);
  }
}

/** @returns the namespace of this process, which must be a new one: it will be cleared in the end. */
function requireNamespace(): string {
  const outside = process.env[OUTSIDE];
  delete process.env[OUTSIDE];
  const namespace = mountNamespace();
  if (outside === undefined || namespace === undefined || namespace === outside) {
    throw new MountError('option', 'unknown command run-inside: see --help for what can be given');
  }
  return namespace;
}

async function runIn(namespace: string, given: Arguments): Promise<number> {
  const wanted = askedCommand(given);
  const asked = askedImage(given);
  const folder = process.env['VARVE_RUNTIME_DIR'] as string;
  // Sockets, logs and the place of the mount: gone with the namespace, whatever happens.
  const r = mount(MARK, folder, 'tmpfs', MS.NOSUID | MS.NODEV, 'mode=700,size=64m');
  if (r < 0) throw new MountError('permission', `run: ${folder}: no tmpfs here: ${errnoName(r)}`);
  const own = join(folder, 'mnt');
  mkdirSync(own);
  const mounted = await mountImage({
    ...asked,
    mountpoint: wanted.mountpoint ?? own,
    namespace,
    env: { ...process.env, VARVE_SUPERVISOR_IDLE: '0' },
  });
  const { mountpoint } = mounted.spec;
  const bound: string[] = [];
  let end: Ended;
  try {
    announce(given, asked.image, mounted);
    const chroot = given.has('chroot');
    for (const bind of bindsOf(given.values('bind'), chroot)) bound.push(putBind(mountpoint, bind));
    const cwd = wanted.mountpoint === undefined ? mountpoint : undefined;
    const { command, args } = wanted;
    const words = chroot ? inRoot(mountpoint, command, args) : [command, ...args];
    const env = { ...process.env, VARVE_MOUNT: chroot ? '/' : mountpoint };
    end = await runCommand(words, command, { cwd, env });
  } finally {
    await takeDown({ id: namespace, mark: markOf(folder) }, mounted, bound);
  }
  return endAs(end);
}

/** Ends what the command left running, unmounts, and waits until server and supervisor are gone. */
async function takeDown(
  namespace: OwnNamespace,
  { spec, served }: MountedImage,
  bound: readonly string[],
): Promise<void> {
  // A signal now must not keep anything from being taken down.
  for (const signal of FORWARDED) process.on(signal, () => {});
  const { mountpoint } = spec;
  const reply = await served?.supervisor.ask({ op: 'status', mountpoint }).catch(() => undefined);
  const own = [served?.status.pid, reply?.supervisor].filter((pid) => pid !== undefined);
  const why = reply?.mounts?.[0]?.why;
  if (why !== undefined) process.stderr.write(`varve: ${plain(why)}\n`);
  killNamespace(namespace, own);
  await until(() => processesOf(namespace).every((pid) => own.includes(pid)));
  for (const place of bound.toReversed()) if (place !== '') umount2(place, MNT.DETACH);
  await unmountImage(mountpoint);
  // Somebody of another namespace may have it open still: nothing is left all the same. An answer of "no such mount" is the rule.
  await served?.supervisor.ask({ op: 'umount', mountpoint, force: true }).catch(() => {});
  await served?.supervisor.ask({ op: 'wait', mountpoint }).catch(() => {});
  served?.supervisor.close();
  await until(() => processesOf(namespace).length === 0);
}

async function unmountImage(mountpoint: string): Promise<void> {
  const { unmount } = await import('../stack/unmount.js');
  try {
    await unmount(mountpoint, { lazy: false, force: false });
  } catch (error) {
    // Its server has failed, and took the mount with it; or a process of another namespace is in it.
    const kind = error instanceof MountError ? error.kind : 'server';
    if (kind === 'absent') return;
    if (kind !== 'busy') throw error;
    check(umount2(mountpoint, MNT.DETACH), 'umount', mountpoint);
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (!condition() && Date.now() < deadline) await sleep(LOOK);
}
