// How a process gets a mount namespace of its own: which unshare(1) call works here, for root and for anybody else.
// Called by `varve run`; the namespace is made by unshare(1), for Node has threads and may not make a user namespace.
// Follows: unshare(1) of util-linux 2.36 (--map-auto: 2.38), user_namespaces(7), subuid(5).

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { findProgram } from '../linux/find-program.js';
import { MountError } from './errors.js';
import { privilege } from './privilege.js';

/** A program that makes the namespace and then becomes what stands behind its arguments. */
export interface NamespaceMaker {
  /** Absolute path. */
  readonly program: string;
  /** Up to and with `--`. */
  readonly args: readonly string[];
}

/** @throws MountError of kind `permission` that says what the machine lacks. */
export function namespaceMaker(env: NodeJS.ProcessEnv = process.env): NamespaceMaker {
  const program = findProgram('unshare', env);
  if (program === undefined) {
    throw new MountError(
      'permission',
      'run: unshare is missing: install util-linux, or take `varve mount --mode=follow`',
    );
  }
  if (privilege().mayMount) return { program, args: ['--mount', '--'] };
  let said = '';
  for (const mapping of mappings(env)) {
    const args = ['--user', ...mapping, '--mount', '--'];
    const tried = spawnSync(program, [...args, 'true'], { env, encoding: 'utf8' });
    if (tried.status === 0) return { program, args };
    said = tried.stderr.trim().split('\n').at(-1) ?? '';
  }
  throw new MountError(
    'permission',
    `run: no user namespace for this user (${said}): run as root, have user namespaces permitted (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone), or take \`varve mount --mode=follow\``,
  );
}

/** The id mappings worth trying, best first. */
function mappings(env: NodeJS.ProcessEnv): string[][] {
  const root = '--map-root-user';
  const further =
    hasRange('/etc/subuid') &&
    hasRange('/etc/subgid') &&
    findProgram('newuidmap', env) !== undefined;
  return further ? [[root, '--map-auto'], [root]] : [[root]];
}

/** Whether this user has further ids: a line that begins with the name or the number. */
function hasRange(path: string): boolean {
  try {
    const { username, uid } = userInfo();
    return readFileSync(path, 'utf8')
      .split('\n')
      .some((line) => line.startsWith(`${username}:`) || line.startsWith(`${uid}:`));
  } catch {
    // No such file, or a user without a name.
    return false;
  }
}
