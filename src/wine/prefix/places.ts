// Where bases, layers and prefixes live, and what they may be called.
// Used by every command of `varve wine`; text in, paths out.
// Follows: XDG Base Directory Specification 0.8 ($XDG_DATA_HOME).

import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { MountError } from '../../stack/errors.js';

export interface WinePlaces {
  readonly root: string;
  /** NAME/VERSION (a folder) or NAME/VERSION.erofs, and NAME/current, a symlink to one of them. */
  readonly bases: string;
  /** NAME (a folder) or NAME.erofs. */
  readonly layers: string;
  /** NAME: a WINEPREFIX. */
  readonly prefixes: string;
}

/** @throws MountError of kind `option` for a folder that is not absolute. */
export function winePlaces(env: NodeJS.ProcessEnv = process.env): WinePlaces {
  const root = rootOf(env);
  return {
    root,
    bases: join(root, 'bases'),
    layers: join(root, 'layers'),
    prefixes: join(root, 'prefixes'),
  };
}

function rootOf(env: NodeJS.ProcessEnv): string {
  const own = env['VARVE_WINE_DIR'];
  if (own !== undefined && own !== '') {
    if (isAbsolute(own)) return resolve(own);
    throw new MountError('option', `VARVE_WINE_DIR: ${own}: name an absolute path`);
  }
  const data = env['XDG_DATA_HOME'];
  // The specification: a relative path is to be ignored.
  const folder =
    data !== undefined && isAbsolute(data) ? data : join(env['HOME'] || homedir(), '.local/share');
  return join(folder, 'varve/wine');
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;

/** With these files are told from folders. */
const RESERVED = /\.(?:erofs|objects)$/;

export const isName = (text: string): boolean => NAME.test(text) && !RESERVED.test(text);

/** @param what `prefix`, `layer`, `base`. @throws MountError of kind `option`. */
export function checkName(name: string, what: string): string {
  if (isName(name)) return name;
  throw new MountError(
    'option',
    `${what} ${JSON.stringify(name)}: not a name: begin with a letter or digit, then letters, digits and . _ + -, at most 64, and no .erofs or .objects at the end`,
  );
}

/** The folder of a prefix. @param named a name, or a path: that has a slash in it, or is `.` or `..`. */
export function prefixFolder(named: string, env: NodeJS.ProcessEnv = process.env): string {
  if (named.includes('/') || named === '.' || named === '..') return resolve(named);
  return join(winePlaces(env).prefixes, checkName(named, 'prefix'));
}

/** Paths in a layered prefix. */
export interface PrefixPaths {
  readonly folder: string;
  /** Down: the prefix's own files. Up: the mount point. */
  readonly driveC: string;
  /** Everything of ours. */
  readonly state: string;
  /** Up only: the prefix's own files. */
  readonly upper: string;
  readonly work: string;
  readonly record: string;
  readonly session: string;
}

export function pathsOf(folder: string): PrefixPaths {
  const state = join(folder, '.varve');
  return {
    folder,
    driveC: join(folder, 'drive_c'),
    state,
    upper: join(state, 'upper'),
    work: join(state, 'work'),
    record: join(state, 'prefix.json'),
    session: join(state, 'session.json'),
  };
}
