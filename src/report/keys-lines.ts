// Changed keys one a line: for scripts, and as counts with a bar.
// Printed by `varve wine diff --name-status` and `--stat` behind the lines of files.
// A key ends with a backslash; behind that of its key a value's name stands in a column of its own, `@` for the default one.

import { isOwn, type KeyStatus, type KeysDocument } from './keys.js';
import { escapeName } from './quote.js';
import { type Paint, painter, plain } from './words.js';

/** Columns are separated by tabs; what has control characters or quotes is quoted as paths are. @returns UTF-8 bytes as a latin1 string. */
export function keysNameStatus(
  { keys }: KeysDocument,
  { z = false }: { z?: boolean } = {},
): string {
  const [tab, end] = z ? ['\0', '\0'] : ['\t', '\n'];
  const text = (name: string): string => {
    const bytes = Buffer.from(name).toString('latin1');
    return z || !/[\x00-\x1f\x7f"]/.test(bytes) ? bytes : `"${escapeName(bytes)}"`;
  };
  const lines: string[] = [];
  for (const key of keys) {
    const path = text(`${key.path}\\`);
    // As many columns in each line: a script that reads NULs counts them.
    if (isOwn(key)) lines.push(`${key.status}${tab}${path}${z ? tab : ''}${end}`);
    for (const { name, status } of key.values) {
      const shown = name === '' ? '@' : name === '@' && !z ? '"@"' : text(name);
      lines.push(`${status}${tab}${path}${tab}${shown}${end}`);
    }
  }
  return lines.join('');
}

/** Signs of a bar. */
const BAR = 24;

/** One line a key: `HKEY_CURRENT_USER\Software\App | 3 +++`. @returns lines, each ended. */
export function keysStat(
  { keys }: KeysDocument,
  options: { colours?: boolean; width?: number } = {},
): string {
  if (keys.length === 0) return '';
  const paint = painter(options.colours === true);
  const rows = keys.map((key) => {
    const counts: Record<KeyStatus, number> = { A: 0, M: 0, D: 0 };
    if (isOwn(key)) counts[key.status]++;
    for (const { status } of key.values) counts[status]++;
    return { path: plain(key.path), counts, total: counts.A + counts.M + counts.D };
  });
  const most = rows.reduce((n, { total }) => Math.max(n, total), 1);
  const digits = String(most).length;
  const room = Math.max(20, (options.width ?? 80) - digits - Math.min(BAR, most) - 5);
  const names = Math.min(
    room,
    rows.reduce((n, { path }) => Math.max(n, path.length), 0),
  );
  return rows
    .map(({ path, counts, total }) => {
      const name = path.length > names ? `...${path.slice(3 - names)}` : path;
      return ` ${name.padEnd(names)} | ${String(total).padStart(digits)} ${bar(counts, most, paint)}\n`;
    })
    .join('');
}

function bar(counts: Record<KeyStatus, number>, most: number, paint: Paint): string {
  const signs = (n: number): number => (most <= BAR ? n : Math.ceil((n * BAR) / most));
  return (
    paint('A', '+'.repeat(signs(counts.A))) +
    paint('M', '~'.repeat(signs(counts.M))) +
    paint('D', '-'.repeat(signs(counts.D)))
  );
}
