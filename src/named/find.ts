// Which varve.yaml is meant: the one that is named, or the first of the places where there may be one.
// Called by stacks.ts and write.ts.
// Order: --file, $VARVE_FILE, varve.yaml here and upwards, the user's own ($XDG_CONFIG_HOME/varve), /etc/varve.

import { closeSync, fstatSync, lstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { MountError, reasonOf } from '../stack/errors.js';
import { LARGEST } from './parse.js';

const NAME = 'varve.yaml';
const SYSTEM = '/etc/varve/varve.yaml';

/** What decides which file is meant. */
export interface Search {
  /** As --file says. */
  readonly file?: string;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

/** Where this process looks. */
export function searchHere(file?: string): Search {
  return { ...(file === undefined ? {} : { file }), env: process.env, cwd: process.cwd() };
}

/** The folder that `~` stands for. */
export function homeOf(env: NodeJS.ProcessEnv): string {
  const { HOME } = env;
  return HOME?.startsWith('/') === true ? HOME : homedir();
}

/** The user's own file, wherever it is looked for last but one. */
export function ownFile(env: NodeJS.ProcessEnv): string {
  const config = env['XDG_CONFIG_HOME'];
  const folder = config?.startsWith('/') === true ? config : join(homeOf(env), '.config');
  return join(folder, 'varve', NAME);
}

/**
 * @returns the absolute path; undefined when none was named and there is none.
 * @throws MountError of kind `permission` for a file on the way up that another user controls.
 */
export function findStackFile(search: Search): string | undefined {
  const { file, env, cwd } = search;
  const named = file ?? env['VARVE_FILE'];
  if (named !== undefined) {
    if (named === '') {
      const what = file === undefined ? '$VARVE_FILE' : '--file';
      throw new MountError('option', `${what}: is empty: name a file, or leave it out`);
    }
    return resolve(cwd, named);
  }
  for (let folder = cwd; ; folder = dirname(folder)) {
    const path = join(folder, NAME);
    const stat = statOf(path);
    if (stat !== undefined) {
      for (const each of [lstatSync(path), stat]) distrust(path, each, env);
      return path;
    }
    if (folder === dirname(folder)) break;
  }
  return [ownFile(env), SYSTEM].find((path) => statOf(path) !== undefined);
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A folder that may not be looked into has nothing for us.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined;
    throw new MountError('layer', `${path}: ${reasonOf(error)}: check the path`);
  }
}

/** A file that nobody named must not be one that somebody laid in the way, in /tmp say. */
function distrust(path: string, stat: Stats, env: NodeJS.ProcessEnv): void {
  const me = process.geteuid?.() ?? 0;
  // Whoever became root by sudo trusts his own files.
  const sudo = me === 0 ? Number(env['SUDO_UID'] ?? Number.NaN) : Number.NaN;
  const mine = stat.uid === 0 || stat.uid === me || stat.uid === sudo;
  // The mode of a symlink says nothing.
  if (mine && (stat.isSymbolicLink() || (stat.mode & 0o002) === 0)) return;
  const why = mine ? 'everybody may write to it' : `it belongs to user ${stat.uid}`;
  throw new MountError('permission', `${path}: ${why}: name it with --file if you trust it`);
}

/** The bytes of a file. @throws MountError of kind `absent` or `layer`. */
export function readStackFile(path: string): Buffer {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const advice = missing ? '`varve stack add` makes one' : 'check the path';
    const kind = missing ? 'absent' : 'layer';
    throw new MountError(kind, `${path}: ${reasonOf(error)}: ${advice}`);
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) {
      throw new MountError('layer', `${path}: a directory: name the file in it`);
    }
    // One byte too many is enough to be refused.
    const bytes = Buffer.alloc(LARGEST + 1);
    let length = 0;
    for (let n = 1; n > 0 && length < bytes.length; length += n) {
      n = readSync(fd, bytes, length, bytes.length - length, null);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}
