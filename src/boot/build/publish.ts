// OUTDIR appears whole: its files are made in a folder beside it, which takes its name by one rename.
// Called by build.ts. An OUTDIR of an earlier build is exchanged for the new one; anything else is not touched.
// Follows: renameat2(2) RENAME_EXCHANGE and RENAME_NOREPLACE.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { AT, RENAME } from '../../linux/constants.js';
import { mapMemory } from '../../linux/memory.js';
import { renameName } from '../../linux/named.js';
import { lockFile } from '../../linux/peer.js';
import { syncPath } from '../../linux/sync-path.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { CONFIG_FILE, SIGNATURE_SUFFIX, VERITY_SUFFIX } from '../config.js';
import { MANIFEST_FILE, MINI_FILE, readManifest } from './manifest.js';

/** Signals after which nothing may be left, with their exit codes (128 and the number). */
const ENDING = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Ends the name of an OUTDIR that is about to be replaced, where a filesystem cannot exchange two names. */
const OLD = '.old';

/** The folder under construction. It is locked as long as its process lives: what a killed one left is taken away by the next. */
export class Stage {
  /** Where the files are made. */
  readonly folder: string;
  readonly #target: string;
  readonly #lock: number;
  readonly #handlers: [signal: NodeJS.Signals, handler: () => void][] = [];

  /** @throws MountError when OUTDIR is something else, or its parent cannot be written. */
  constructor(outdir: string) {
    mapMemory();
    this.#target = realTarget(outdir);
    checkTarget(this.#target, outdir);
    const prefix = `.${basename(this.#target)}.varve-`;
    removeAbandoned(this.#target, prefix);
    this.folder = join(dirname(this.#target), prefix + randomBytes(6).toString('hex'));
    // Before there is anything that a signal could leave.
    for (const [signal, code] of Object.entries(ENDING) as [NodeJS.Signals, number][]) {
      const handler = (): void => {
        this.discard();
        process.exit(code);
      };
      process.on(signal, handler);
      this.#handlers.push([signal, handler]);
    }
    try {
      mkdirSync(this.folder, { mode: 0o755 });
      this.#lock = openSync(this.folder, 'r');
    } catch (error) {
      this.#forget();
      const message = `${outdir}: cannot be made: ${reasonOf(error)}: name a folder below one that can be written`;
      throw new MountError('layer', message, { cause: error });
    }
    lockFile(this.#lock);
  }

  /** Gives the folder its name. @throws MountError when OUTDIR has become something else meanwhile. */
  publish(): void {
    for (const name of readdirSync(this.folder)) syncPath(join(this.folder, name));
    syncPath(this.folder);
    checkTarget(this.#target, this.#target);
    const swap = (flags: number): number =>
      renameName(AT.FDCWD, latin1(this.folder), AT.FDCWD, latin1(this.#target), flags);
    if (swap(RENAME.NOREPLACE) !== 0 && swap(RENAME.EXCHANGE) !== 0) {
      // A filesystem that knows neither: for a moment there is no OUTDIR.
      const old = this.folder + OLD;
      if (existsSync(this.#target)) renameSync(this.#target, old);
      renameSync(this.folder, this.#target);
      rmSync(old, { recursive: true, force: true });
    }
    syncPath(dirname(this.#target));
  }

  /** Takes away what has the temporary name: what was not published, or after an exchange the old OUTDIR. */
  discard(): void {
    this.#forget();
    rmSync(this.folder, { recursive: true, force: true });
    closeSync(this.#lock);
  }

  #forget(): void {
    for (const [signal, handler] of this.#handlers.splice(0)) process.off(signal, handler);
  }
}

/** Takes away what killed builds of this OUTDIR have left; one that was killed between two renames has left OUTDIR itself. */
function removeAbandoned(target: string, prefix: string): void {
  const parent = dirname(target);
  for (const name of namesIn(parent)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(parent, name);
    if (name.endsWith(OLD) && !existsSync(target)) {
      renameSync(path, target);
      continue;
    }
    const fd = openSync(path, 'r');
    if (lockFile(fd) === 0) rmSync(path, { recursive: true, force: true });
    closeSync(fd);
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // Whether it can be used is seen when something is made there.
    return [];
  }
}

/** What a symlink leads to is replaced, not the symlink. */
function realTarget(outdir: string): string {
  return existsSync(outdir) ? realpathSync(outdir) : resolve(outdir);
}

/** Refuses what no build has made: the whole folder is replaced. */
function checkTarget(target: string, shown: string): void {
  let names: string[];
  try {
    names = readdirSync(target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new MountError('layer', `${shown}: ${reasonOf(error)}: name another folder`, {
      cause: error,
    });
  }
  if (names.length === 0) return;
  if (!names.includes(MANIFEST_FILE)) {
    throw new MountError(
      'busy',
      `${shown}: is there, and no folder of varve boot build: name another, or move it away`,
    );
  }
  const images = readManifest(target).layers.map(({ file }) => file);
  const known = new Set([MANIFEST_FILE, MINI_FILE, CONFIG_FILE]);
  for (const image of images) {
    known
      .add(image)
      .add(image + VERITY_SUFFIX)
      .add(image + VERITY_SUFFIX + SIGNATURE_SUFFIX);
  }
  const odd = names.find((name) => !known.has(name));
  if (odd === undefined) return;
  throw new MountError(
    'busy',
    `${join(shown, odd)}: is not of varve boot build: it would be lost: move it away, or name another folder`,
  );
}

const latin1 = (path: string): string => Buffer.from(path).toString('latin1');
