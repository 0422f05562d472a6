// The half of `varve run` that is in the namespace: mounts, runs the command, takes everything down, ends as it ended.
// Started by run.ts through unshare(1), same process id. If this is killed, the supervisor clears the namespace.
// Follows: wait(2) for the ends of processes; env(1) for 126 and 127.

import { spawn } from 'node:child_process';
import { mkdirSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AT, MNT, MS, O } from '../linux/constants.js';
import { check, errnoName } from '../linux/errno.js';
import { close, openAt, openInRoot } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { mount, umount2 } from '../linux/mount.js';
import {
  killNamespace,
  MARK,
  markOf,
  mountNamespace,
  type OwnNamespace,
  processesOf,
} from '../linux/namespace.js';
import { isFound } from '../sandbox/find-command.js';
import { EXIT_SANDBOX } from '../sandbox/plan.js';
import { MountError } from '../stack/errors.js';
import { type MountedImage, mountImage } from '../stack/mount-image.js';
import { putPath } from '../stack/open-dirs.js';
import { type Arguments, parseArguments } from './args.js';
import type { CommandRecord } from './command-record.js';
import { commandNamed } from './commands.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { announce, askedImage } from './mount-composefs.js';
import { askedCommand, OUTSIDE } from './run.js';
import { FORWARDED, forwardSignals } from './signals.js';

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
    for (const bind of bindsOf(given)) bound.push(putBind(mountpoint, bind));
    const cwd = wanted.mountpoint === undefined ? mountpoint : undefined;
    const chroot = given.has('chroot') ? mountpoint : undefined;
    end = await runCommand(wanted.command, wanted.args, { cwd, chroot, mountpoint });
  } finally {
    await takeDown({ id: namespace, mark: markOf(folder) }, mounted, bound);
  }
  return endAs(end);
}

interface Bind {
  readonly source: string;
  /** Absolute path in the mount. */
  readonly target: string;
  /** It may be missing on either side. */
  readonly optional: boolean;
}

function bindsOf(given: Arguments): Bind[] {
  const binds = given.values('bind').map((text): Bind => {
    const [source = '', target = source, ...rest] = text.split(':');
    if (source === '' || rest.length > 0) {
      throw new MountError('option', `--bind=${text}: write --bind SOURCE[:TARGET]`);
    }
    return { source: resolve(source), target: resolve('/', target), optional: false };
  });
  const system = given.has('chroot') ? ['/proc', '/dev', '/sys'] : [];
  return [...system.map((path) => ({ source: path, target: path, optional: true })), ...binds];
}

/**
 * The target is found as a command that has the mount as root directory finds it: a symlink of the image leads nowhere else.
 * @returns where it is, or '' when an optional one is missing.
 */
function putBind(mountpoint: string, { source, target, optional }: Bind): string {
  mapMemory();
  const root = check(
    openAt(AT.FDCWD, putPath(mountpoint), O.PATH | O.DIRECTORY),
    'open',
    mountpoint,
  );
  const fd = openInRoot(root, putPath(target), O.PATH);
  close(root);
  let r = fd;
  if (fd >= 0) {
    const opened = `/proc/self/fd/${fd}`;
    const place = readlinkSync(opened);
    r = mount(source, opened, 'none', MS.BIND | MS.REC, '');
    close(fd);
    if (r >= 0) return place;
  }
  if (optional) return '';
  throw new MountError(
    'layer',
    `bind: ${source} at ${target}: ${errnoName(r)}: both must exist, TARGET in the image`,
  );
}

/** How the command ended. */
interface Ended {
  readonly code: number;
  readonly signal?: NodeJS.Signals;
}

function runCommand(
  command: string,
  args: readonly string[],
  where: { cwd: string | undefined; chroot: string | undefined; mountpoint: string },
): Promise<Ended> {
  const { cwd, chroot, mountpoint } = where;
  const env = { ...process.env, VARVE_MOUNT: chroot === undefined ? mountpoint : '/' };
  const words = chroot === undefined ? [command, ...args] : inRoot(chroot, command, args);
  const [program, ...rest] = words as [string, ...string[]];
  return new Promise((done) => {
    // Before the command can have told anybody that it runs.
    const quiet = forwardSignals(() => child);
    const child = spawn(program, rest, { stdio: 'inherit', env, cwd });
    child.once('error', (error) => {
      quiet();
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT' || !isFound(command, cwd);
      const why = missing ? 'no such command' : lineOf(error);
      process.stderr.write(`varve: run: ${command}: ${why}\n`);
      done({ code: missing ? EXIT_SANDBOX.notFound : EXIT_SANDBOX.notRunnable });
    });
    child.once('exit', (code, signal) => {
      quiet();
      done(signal === null ? { code: code ?? EXIT.failed } : { code: EXIT.failed, signal });
    });
  });
}

/** unshare(1) without a namespace is chroot(1), which is not on everybody's PATH. */
function inRoot(root: string, command: string, args: readonly string[]): string[] {
  return ['unshare', `--root=${root}`, '--wd=/', '--', command, ...args];
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
  if (why !== undefined) process.stderr.write(`varve: ${why}\n`);
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

/** The exit code, or the same signal. */
async function endAs({ code, signal }: Ended): Promise<number> {
  if (signal === undefined) return code;
  for (const name of FORWARDED) process.removeAllListeners(name);
  process.kill(process.pid, signal);
  await sleep(PATIENCE / 10);
  // Ignored by whoever started us.
  return 128 + constants.signals[signal];
}
