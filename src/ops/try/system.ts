// The running system as the user sees it, and which of its directories a trial lets the command write to.
// Called by ops/try/prepare.ts; what is decided here is carried out by sandbox/.
// Without root only directories of one's own can be overlaid: overlayfs must give a copied directory its owner back.

import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import {
  type Cover,
  type Machine,
  mountBelow,
  planCovers,
  SYSTEM_FOLDERS,
} from '../../sandbox/covers.js';
import { thisMachine } from '../../sandbox/this-machine.js';
import { isIn } from '../../sandbox/visible.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { privilege } from '../../stack/privilege.js';
import { latin1, text } from './paths.js';

/** Who asks. */
export interface User {
  readonly uid: number;
  /** Root of this user namespace, whichever it is. */
  readonly root: boolean;
  /** Root of the initial one: trusted.* marks, and mounts that are not locked. */
  readonly full: boolean;
  readonly home: string;
  readonly runtime: string | undefined;
}

export function thisUser(env: NodeJS.ProcessEnv): User {
  const { euid, mayMount, full } = privilege();
  const runtime = env['XDG_RUNTIME_DIR'];
  return {
    uid: euid,
    root: euid === 0 && mayMount,
    full: euid === 0 && full,
    home: homedir(),
    runtime:
      runtime?.startsWith('/') === true && isDirectory(runtime) ? realpathSync(runtime) : undefined,
  };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** What a trial covers. */
export interface Scope {
  readonly covers: readonly Cover[];
  /** What the user should know. */
  readonly remarks: readonly string[];
}

/**
 * @param on directories that take writes; empty: what this user can be given.
 * @param cwd working directory, absolute.
 * @throws MountError of kind `layer` for a directory that cannot take any.
 */
export function scopeOf(
  user: User,
  on: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
): Scope {
  const machine = thisMachine();
  const remarks: string[] = [];
  const scratch: string[] = [];
  let writable: string[] | undefined;
  if (on.length > 0) writable = on.map((path) => askedDirectory(machine, user, path));
  else if (!user.root) writable = ownDirectories(machine, user, cwd, env, scratch, remarks);
  const wish = {
    writable: writable === undefined ? undefined : outermost(writable, user).map(latin1),
    scratch: scratch.map(latin1),
    locked: !user.full,
    ...(user.runtime === undefined || user.root ? {} : { runtime: latin1(user.runtime) }),
  };
  return { covers: planCovers(machine, wish), remarks };
}

function askedDirectory(machine: Machine, user: User, path: string): string {
  let real: string;
  try {
    real = realpathSync.native(path);
  } catch (error) {
    throw new MountError('layer', `--on ${path}: ${reasonOf(error)}: name a directory`);
  }
  if (!isDirectory(real)) throw new MountError('layer', `--on ${path}: not a directory`);
  if (real === '/' && !user.root) {
    throw new MountError(
      'permission',
      '--on /: only root may: overlayfs must give copied directories their owners back; name directories of your own',
    );
  }
  if (SYSTEM_FOLDERS.some((folder) => isIn(real, folder))) {
    throw new MountError('layer', `--on ${path}: the kernel's own files cannot be overlaid`);
  }
  const below = user.full || real === '/' ? undefined : mountBelow(machine, latin1(real));
  if (below !== undefined) {
    throw new MountError(
      'layer',
      `--on ${path}: ${text(below)} is mounted below it, and a user namespace may not look beneath a mount: name directories beside it, or run as root`,
    );
  }
  return real;
}

/** Home, temporary folders, and the tree of the user's own in which the command starts. */
function ownDirectories(
  machine: Machine,
  user: User,
  cwd: string,
  env: NodeJS.ProcessEnv,
  scratch: string[],
  remarks: string[],
): string[] {
  const temporary = ['/tmp', '/var/tmp', env['TMPDIR'] ?? ''];
  const wanted = [ownTree(machine, user, cwd), user.home, ...temporary];
  const found: string[] = [];
  for (const path of wanted) {
    if (path === undefined || !path.startsWith('/') || path === '/') continue;
    let real: string;
    try {
      real = realpathSync.native(path);
      accessSync(real, constants.W_OK | constants.R_OK);
    } catch {
      continue;
    }
    if (!isDirectory(real) || SYSTEM_FOLDERS.some((folder) => isIn(real, folder))) continue;
    const below = mountBelow(machine, latin1(real));
    if (below === undefined) found.push(real);
    else if (temporary.includes(path)) {
      scratch.push(real);
      remarks.push(
        `what is written to ${real} is forgotten: ${text(below)} is mounted below it, which without root keeps it from being overlaid`,
      );
    } else {
      remarks.push(
        `${real} is read-only in here: ${text(below)} is mounted below it; --on DIR names directories beside that`,
      );
    }
  }
  return found;
}

/** The topmost directory above `cwd` of an unbroken row that the user owns; undefined where cwd is another's. */
function ownTree(machine: Machine, user: User, cwd: string): string | undefined {
  let tree: string | undefined;
  for (let path = cwd; path !== '/'; path = path.slice(0, path.lastIndexOf('/')) || '/') {
    if (statSync(path, { throwIfNoEntry: false })?.uid !== user.uid) break;
    if (mountBelow(machine, latin1(path)) !== undefined) break;
    tree = path;
  }
  return tree;
}

/** Those that lie in no other one, each once; and those that could not be written to as a part of it. */
function outermost(paths: readonly string[], user: User): string[] {
  const once = [...new Set(paths)];
  return once.filter(
    (path) =>
      !once.some((other) => other !== path && isIn(path, other) && isPartOf(path, other, user)),
  );
}

/** Without root a directory on the way that is another's cannot be copied up, and nothing below it then. */
function isPartOf(path: string, outer: string, user: User): boolean {
  if (user.root) return true;
  const parent = (of: string): string => of.slice(0, of.lastIndexOf('/')) || '/';
  for (let at = parent(path); at !== outer && at !== '/'; at = parent(at)) {
    const stat = statSync(at, { throwIfNoEntry: false });
    if (stat?.uid !== user.uid || stat.gid !== process.getegid?.()) return false;
  }
  return true;
}
