// Varve as a package manager lays it out: a folder that every user can read, without sources.
// Used by tests that run it as a plain user, or from other programs, by the names in bin/.

import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { shell } from './shell.js';

export interface Installed {
  /** The command `varve`. */
  varve: string;
  /** Stands in for fuse-overlayfs. */
  overlayfs: string;
  /** The helper of mount(8). */
  mountHelper: string;
}

const repository = fileURLToPath(new URL('../../../', import.meta.url));

/** All that is needed at run time, as the lock file has it: the folders of packages that are there on this platform. */
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return Object.entries(lock.packages).flatMap(([path, { dev }]) =>
    path !== '' && dev !== true && existsSync(join(repository, path)) ? [path] : [],
  );
}

/** Copies this build into `folder`, which is made. */
export function installVarve(folder: string): Installed {
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  const copy = (path: string): void =>
    cpSync(join(repository, path), join(folder, path), { recursive: true, verbatimSymlinks: true });
  for (const path of ['bin', 'dist/bundle', 'package.json']) copy(path);
  for (const path of packages()) copy(path);
  // The repository may belong to someone who keeps it private.
  shell('chmod -R a+rX "$FOLDER"', { env: { FOLDER: folder } });
  return {
    varve: join(folder, 'bin', 'varve.js'),
    overlayfs: join(folder, 'bin', 'varve-overlayfs'),
    mountHelper: join(folder, 'bin', 'mount.fuse.varve'),
  };
}
