// Which Wine is meant: the installed one, a build in a folder, or Proton; where its programs are and what they need.
// Called by every command that runs Wine. Looks at files only: the version is asked for when somebody wants it.
// Follows: server_init_process() of Wine (WINELOADER, WINESERVER, WINEDLLPATH), the script `proton` of Proton 8.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { MountError } from '../../stack/errors.js';

export interface WineBuild {
  /** For people: `wine` of the system, or the name of the build's folder. */
  readonly name: string;
  /** `wine-8.0 (Debian 8.0~repack-4)`; '' where the program does not tell. Runs it. */
  readonly version: string;
  /** Absolute path of the program that runs Windows programs. */
  readonly wine: string;
  readonly wineserver: string;
  /** What its programs need in their environment beside what is there. */
  readonly env: Readonly<Record<string, string>>;
  /** wine.inf, whose time tells prefixes to update; undefined: not found. */
  readonly inf?: string;
}

/** By this the shims that `varve setup --wine` installs are known: it stands in their first lines. */
export const SHIM_MARK = 'varve shim of wine';

/** Where a build keeps its programs, from its folder. */
const BIN_FOLDERS = ['bin', 'files/bin', 'dist/bin'];
const LOADERS = ['wine', 'wine64'];

/**
 * @param wish a wine binary, the folder of a build (bin/wine) or of Proton (files/bin, dist/bin); undefined: $VARVE_WINE, else
 * the PATH without varve's own shims.
 * @throws MountError of kind `absent`.
 */
export function findWine(wish: string | undefined, env: NodeJS.ProcessEnv): WineBuild {
  const asked = wish ?? env['VARVE_WINE'] ?? '';
  if (asked === '') return installedWine(env);
  const path = resolve(asked);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new MountError(
      'absent',
      `${asked}: no such Wine: name a wine binary or a build's folder`,
    );
  }
  if (stat.isDirectory()) return buildIn(path);
  if (!isProgram(path)) {
    throw new MountError(
      'absent',
      `${asked}: cannot be run: name a wine binary or a build's folder`,
    );
  }
  return buildOf(path);
}

function installedWine(env: NodeJS.ProcessEnv): WineBuild {
  const wine = LOADERS.flatMap((name) => onPath(name, env) ?? [])[0];
  if (wine === undefined) {
    throw new MountError('absent', 'wine: not found on PATH: install Wine, or name one by --wine');
  }
  const wineserver = onPath('wineserver', env) ?? besideLoader(wine);
  if (wineserver === undefined) throw serverMissing(wine);
  return build('wine', wine, wineserver, {}, infNear(wine));
}

function buildIn(folder: string): WineBuild {
  for (const bin of BIN_FOLDERS) {
    for (const name of LOADERS) {
      const wine = join(folder, bin, name);
      if (isProgram(wine)) return buildOf(wine);
    }
  }
  throw new MountError(
    'absent',
    `${folder}: no Wine in it: it has none of ${BIN_FOLDERS.map((bin) => `${bin}/wine`).join(', ')}`,
  );
}

/** A build by its wine binary. */
function buildOf(wine: string): WineBuild {
  const wineserver = besideLoader(wine);
  if (wineserver === undefined) throw serverMissing(wine);
  const bin = dirname(wine);
  const root = dirname(bin);
  const proton = ['files', 'dist'].includes(basename(root)) && existsSync(join(root, '../proton'));
  const env: Record<string, string> = { WINESERVER: wineserver };
  // Wine starts further processes by it: a script would be run for each of them.
  if (!headOf(wine).startsWith('#!')) env['WINELOADER'] = wine;
  if (proton) {
    const libraries = ['lib64', 'lib'].map((name) => join(root, name)).filter((p) => existsSync(p));
    const dlls = libraries.map((path) => join(path, 'wine')).filter((path) => existsSync(path));
    if (libraries.length > 0) env['LD_LIBRARY_PATH'] = libraries.join(delimiter);
    if (dlls.length > 0) env['WINEDLLPATH'] = dlls.join(delimiter);
  }
  return build(basename(proton ? dirname(root) : root), wine, wineserver, env, infNear(wine));
}

function build(
  name: string,
  wine: string,
  wineserver: string,
  env: Readonly<Record<string, string>>,
  inf: string | undefined,
): WineBuild {
  return {
    name,
    wine,
    wineserver,
    env,
    ...(inf === undefined ? {} : { inf }),
    get version(): string {
      const said = spawnSync(wine, ['--version'], {
        env: { ...process.env, ...env },
        encoding: 'utf8',
        timeout: 10_000,
      });
      return said.status === 0 ? said.stdout.trim() : '';
    },
  };
}

function serverMissing(wine: string): MountError {
  return new MountError('absent', `${wine}: there is no wineserver beside it: name a whole build`);
}

/** Beside the loader as it is named, or where that name leads to. */
function besideLoader(wine: string): string | undefined {
  const places = [dirname(wine), dirname(realpathSync(wine))];
  return places.map((place) => join(place, 'wineserver')).find(isProgram);
}

function infNear(wine: string): string | undefined {
  const roots = [dirname(dirname(wine)), dirname(dirname(realpathSync(wine))), '/usr'];
  return roots
    .flatMap((root) => [join(root, 'share/wine/wine.inf'), join(root, 'share/wine/wine/wine.inf')])
    .find((path) => existsSync(path));
}

/** A program on PATH that is no shim of ours. */
function onPath(name: string, env: NodeJS.ProcessEnv): string | undefined {
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (!folder.startsWith('/')) continue;
    const path = join(folder, name);
    if (isProgram(path) && !isShim(path)) return path;
  }
  return undefined;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function isShim(path: string): boolean {
  return headOf(path).includes(SHIM_MARK);
}

/** The first bytes of a file; '' where it cannot be read. */
function headOf(path: string): string {
  const head = Buffer.alloc(256);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return '';
  }
  try {
    return head.toString('latin1', 0, readSync(fd, head));
  } finally {
    closeSync(fd);
  }
}
