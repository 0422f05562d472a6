// What the commands about bases, layers and prefixes share: foreseen failures, dates, conflicts as text.
// Used by wine-*.ts.
// Manual: wine-library-commands.ts.

import type { RegistryConflict } from '../wine/registry/three-way.js';
import type { Arguments } from './args.js';
import { counted, remark } from './output.js';
import { StatusLine } from './status-line.js';
import { failing } from './store.js';

/** Runs `work` with a line on the terminal that says what is going on. @param what named where a failure does not name it. */
export async function withProgress<T>(
  given: Arguments,
  what: string,
  work: (onProgress: (text: string) => void) => Promise<T>,
): Promise<T> {
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  try {
    return await failing(what, () => work((text) => line.show(text)));
  } finally {
    line.end();
  }
}

/** `2026-11-21 14:05`, local; `-` where nobody knows. */
export function dateText(iso: string | undefined): string {
  if (iso === undefined) return '-';
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** Says where a prefix and its layers have changed the same of the registry. */
export function remarkConflicts(given: Arguments, conflicts: readonly RegistryConflict[]): void {
  if (conflicts.length === 0) return;
  const keys = [...new Set(conflicts.map(({ hive, path }) => `${hive}: ${path}`))];
  const some = keys.slice(0, 3).join(', ');
  const more = keys.length > 3 ? ` and ${keys.length - 3} more` : '';
  remark(
    given,
    `the prefix had changed the same ${counted(conflicts.length, 'place')} of the registry, and its side counts: ${some}${more}`,
  );
}
