// Runs one command where an image is: binds what it needs of this machine, forwards signals, ends as it ended.
// Used by run-inside.ts (composefs images) and image-inside.ts (images of registries), both in a mount namespace of their own.
// Follows: wait(2) for the ends of processes; env(1) for 126 and 127.

import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AT, MS, O } from '../linux/constants.js';
import { check, errnoName } from '../linux/errno.js';
import { close, openAt, openInRoot } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { mount } from '../linux/mount.js';
import { plain } from '../report/words.js';
import { isFound } from '../sandbox/find-command.js';
import { EXIT_SANDBOX } from '../sandbox/plan.js';
import { MountError } from '../stack/errors.js';
import { putPath } from '../stack/open-dirs.js';
import { EXIT, lineOf } from './exit-codes.js';
import { FORWARDED, forwardSignals } from './signals.js';

/** Milliseconds in which a signal that this process sends itself arrives. */
const PATIENCE = 500;

export interface Bind {
  readonly source: string;
  /** Absolute path in the mount. */
  readonly target: string;
  /** It may be missing on either side. */
  readonly optional: boolean;
}

/**
 * What `--bind` and a root directory of its own ask for.
 * @param texts SOURCE[:TARGET] each. @throws MountError of kind `option`.
 */
export function bindsOf(texts: readonly string[], chroot: boolean): Bind[] {
  const binds = texts.map((text): Bind => {
    const [source = '', target = source, ...rest] = text.split(':');
    if (source === '' || rest.length > 0) {
      throw new MountError('option', `--bind=${text}: write --bind SOURCE[:TARGET]`);
    }
    return { source: resolve(source), target: resolve('/', target), optional: false };
  });
  const system = chroot ? ['/proc', '/dev', '/sys'] : [];
  return [...system.map((path) => ({ source: path, target: path, optional: true })), ...binds];
}

/**
 * The target is found as a command that has the mount as root directory finds it: a symlink of the image leads nowhere else.
 * @returns where it is, or '' when an optional one is missing.
 */
export function putBind(mountpoint: string, { source, target, optional }: Bind): string {
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
export interface Ended {
  readonly code: number;
  readonly signal?: NodeJS.Signals;
}

/** @param words the program and its arguments. @param named what was asked for, for the message. */
export function runCommand(
  words: readonly string[],
  named: string,
  where: {
    readonly cwd: string | undefined;
    readonly env: NodeJS.ProcessEnv;
  },
): Promise<Ended> {
  const { cwd, env } = where;
  const [program, ...rest] = words as [string, ...string[]];
  return new Promise((done) => {
    // Before the command can have told anybody that it runs.
    const quiet = forwardSignals(() => child);
    const child = spawn(program, rest, { stdio: 'inherit', env, cwd });
    child.once('error', (error) => {
      quiet();
      const missing =
        (error as NodeJS.ErrnoException).code === 'ENOENT' || !isFound(named, cwd, env['PATH']);
      const why = missing ? 'no such command' : lineOf(error);
      // An image may have named it.
      process.stderr.write(`varve: run: ${plain(named)}: ${why}\n`);
      done({ code: missing ? EXIT_SANDBOX.notFound : EXIT_SANDBOX.notRunnable });
    });
    child.once('exit', (code, signal) => {
      quiet();
      done(signal === null ? { code: code ?? EXIT.failed } : { code: EXIT.failed, signal });
    });
  });
}

/** unshare(1) without a namespace is chroot(1), which is not on everybody's PATH. */
export function inRoot(root: string, command: string, args: readonly string[]): string[] {
  return ['unshare', `--root=${root}`, '--wd=/', '--', command, ...args];
}

/** The exit code, or the same signal. */
export async function endAs({ code, signal }: Ended): Promise<number> {
  if (signal === undefined) return code;
  for (const name of FORWARDED) process.removeAllListeners(name);
  process.kill(process.pid, signal);
  await sleep(PATIENCE);
  // Ignored by whoever started us.
  return 128 + constants.signals[signal];
}
