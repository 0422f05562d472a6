// Temporary folders for tests, which take down what was mounted inside them, also when the test fails.
// Under TMPDIR, which test/run.ts points at a folder of its own for each test file.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { detachBelow } from './mounts.js';

/** What helpers need of node:test's context to clean up after the test; `before`-style hooks have another type. */
export interface Cleanup {
  after(fn: () => void | Promise<void>): void;
}

/**
 * A new empty folder, mode 0755, for one test; unmounted below and deleted when the test ends.
 *
 * @param t the test's context
 * @returns its absolute path, free of symbolic links
 */
export function tempDir(t: Cleanup): string {
  const folder = makeTempDir();
  t.after(() => removeTempDir(folder));
  return folder;
}

/** Runs a function with a folder as `tempDir` makes it. */
export async function withTempDir<T>(use: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = makeTempDir();
  try {
    return await use(folder);
  } finally {
    removeTempDir(folder);
  }
}

/** For suites with before and after hooks: pair it with `removeTempDir`. */
export function makeTempDir(): string {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'v-'));
  // Tests run as root and let a plain user look inside.
  chmodSync(folder, 0o755);
  return folder;
}

/** Detaches every mount below the folder, aborting FUSE connections, then deletes it. */
export function removeTempDir(folder: string): void {
  detachBelow(folder);
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // Trees beyond PATH_MAX, folders without permission: rm(1) walks by descriptors, after chmod.
    spawnSync('chmod', ['-R', 'u+rwX', '--', folder], { stdio: 'ignore' });
    const result = spawnSync('rm', ['-rf', '--one-file-system', '--', folder], {
      encoding: 'utf8',
    });
    if (result.status !== 0) throw new Error(`cannot delete ${folder}: ${result.stderr}`);
  }
}

/** As rm -r by somebody who goes on until it is gone: a process may have put something there meanwhile. */
export function removeWhole(folder: string): void {
  for (;;) {
    try {
      rmSync(folder, { recursive: true });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
    }
  }
}
