// The half of `varve run REF` that is in the command's namespace: binds /proc, /dev and /sys, and runs the command in the image.
// Started by run-registry.ts through unshare(1), with a file that says what to do.
// Follows: the OCI image specification for environment, user and working directory.

import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import type { RunConfig } from '../lazy/image-record.js';
import { check } from '../linux/errno.js';
import { changeRoot } from '../linux/process.js';
import { MountError } from '../stack/errors.js';
import { exitCodeOf, lineOf } from './exit-codes.js';
import { type ImageUser, imageUser } from './image-user.js';
import { type Bind, endAs, putBind, runCommand } from './run-command.js';

/** What run-registry.ts says. */
export interface InsideOrders {
  readonly mountpoint: string;
  /** Program and arguments. */
  readonly words: readonly string[];
  readonly binds: readonly Bind[];
  readonly config: RunConfig;
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @param file of InsideOrders. @returns the exit code. */
export async function runImageInside(file: string): Promise<number> {
  try {
    const { mountpoint, words, binds, config } = JSON.parse(
      readFileSync(file, 'utf8'),
    ) as InsideOrders;
    for (const bind of binds) putBind(mountpoint, bind);
    enter(mountpoint, config.workdir || '/');
    const user = imageUser(config.user ?? '', textOf('/etc/passwd'), textOf('/etc/group'));
    become(user, config.user || 'root');
    const env = environment(config, user.home);
    return await endAs(await runCommand(words, words[0] ?? '', { cwd: undefined, env }));
  } catch (error) {
    process.stderr.write(`varve: run: ${lineOf(error)}\n`);
    return exitCodeOf(error);
  }
}

/**
 * From here on the image is all there is. Done by this process, so that nothing of this machine runs with the environment of the
 * image: its LD_PRELOAD and PATH are for programs of its own.
 */
function enter(root: string, workdir: string): void {
  check(changeRoot(root), 'chroot', root);
  process.chdir('/');
  try {
    process.chdir(workdir);
  } catch (error) {
    throw new MountError('layer', `the image's working directory ${workdir}: ${lineOf(error)}`);
  }
}

/** The image's own, and of the caller's what belongs to the terminal and the language. */
function environment({ env = [] }: RunConfig, home: string): NodeJS.ProcessEnv {
  const kept = ['TERM', 'COLORTERM', 'LANG', 'LC_ALL', 'TZ'].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [`${name}=${value}`];
  });
  const all = [PATH, ...kept, `HOME=${home}`, ...env];
  return Object.fromEntries(
    all.map((text) => {
      const at = text.indexOf('=');
      return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

/**
 * Becomes the user: its groups are lost when they are left to spawn(2) of Node, and what is to be done from here on needs no rights.
 * @throws MountError of kind `permission` where this namespace has no such numbers.
 */
function become({ uid, gid, groups }: ImageUser, user: string): void {
  try {
    process.setgroups?.([...groups]);
  } catch (error) {
    // Without further ids a user namespace has one group, which is the caller's own.
    if (uid !== 0 || gid !== 0) throw noSuchNumber(user, uid, gid, error);
  }
  if (uid === 0 && gid === 0) return;
  try {
    process.setgid?.(gid);
    process.setuid?.(uid);
  } catch (error) {
    throw noSuchNumber(user, uid, gid, error);
  }
}

function noSuchNumber(user: string, uid: number, gid: number, cause: unknown): MountError {
  return new MountError(
    'permission',
    `the image runs as ${user} (${uid}:${gid}), a number that this user namespace lacks: run as root, get further ids (/etc/subuid, /etc/subgid, newuidmap), or take --user root`,
    { cause },
  );
}

/** Longest passwd or group file that is read. */
const LONGEST = 16 << 20;

/** A file of the image, which may have put anything in its place; empty where it is none. */
function textOf(file: string): string {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return '';
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size > LONGEST) return '';
    const bytes = Buffer.alloc(stat.size);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}
