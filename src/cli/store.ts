// What the `varve store` commands share: which store is meant, and its failures as lines with exit codes.
// Used by store-*.ts.
// Manual: store-commands.ts.

import { homedir } from 'node:os';
import { join } from 'node:path';
import { ErofsError } from '../erofs/errors.js';
import { MountError, type MountErrorKind } from '../stack/errors.js';
import { StoreError, type StoreErrorKind } from '../store/errors.js';
import { Store } from '../store/store.js';
import type { Arguments } from './args.js';
import { asMountError } from './image.js';

const KINDS: Record<StoreErrorKind, MountErrorKind> = {
  store: 'layer',
  busy: 'busy',
  absent: 'absent',
  name: 'option',
};

/** The folder of the store: what is named, else $VARVE_STORE, else the user's own. */
export function storePath(given: Arguments, operand?: string): string {
  const flag = given.value('store');
  if (flag !== undefined && operand !== undefined && flag !== operand) {
    throw new MountError('option', `--store=${flag}: ${operand} is named as well: name one store`);
  }
  const named = operand ?? flag ?? process.env['VARVE_STORE'];
  if (named === '') throw new MountError('option', '--store: is empty: name a folder');
  if (named !== undefined) return named;
  if (process.getuid?.() === 0) return '/var/lib/varve/store';
  return join(process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'varve/store');
}

/** Opens the store that is meant, does the work, and makes lines of its failures. */
export async function withStore<T>(
  given: Arguments,
  operand: string | undefined,
  work: (store: Store) => T | Promise<T>,
): Promise<T> {
  const path = storePath(given, operand);
  return failing(path, () => work(new Store(path)));
}

/** Runs `work`; what it fails with in a foreseen way becomes a MountError. @param path to name where the error does not. */
export async function failing<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StoreError) {
      throw new MountError(KINDS[error.kind], error.message, { cause: error });
    }
    if (error instanceof ErofsError || error instanceof RangeError) {
      throw new MountError('layer', `${path}: ${error.message}`, { cause: error });
    }
    throw asMountError(error, path);
  }
}

/** A digest for people: its first digits. */
export function short(digest: string): string {
  return digest.slice(0, 12);
}

/** The value of a flag that is a number of threads. */
export function threadsOf(given: Arguments): number | undefined {
  const text = given.value('threads');
  if (text === undefined) return undefined;
  if (/^[1-9][0-9]{0,2}$/.test(text)) return Number(text);
  throw new MountError('option', `--threads=${text}: must be a number from 1 to 999`);
}

/** The value of --format-version; undefined: as the tree needs it. */
export function formatVersionOf(given: Arguments): 0 | 1 | undefined {
  const text = given.value('format-version');
  if (text === undefined) return undefined;
  if (text === '0' || text === '1') return text === '0' ? 0 : 1;
  throw new MountError('option', `--format-version=${text}: must be 0 or 1`);
}
