// How commands print: JSON or text, tables with aligned columns, sizes and counts for people.
// Used by every command; everything goes to stdout, remarks to stderr.
// Holds no decisions about what is printed; what a stranger has written cannot steer the terminal.

import { plain } from '../report/words.js';
import type { Arguments } from './args.js';

/** Prints `value` as JSON when --json was given, else the text. */
export function print(given: Arguments, value: unknown, text: () => string): void {
  const out = given.has('json') ? jsonText(value) : harmless(text());
  if (out !== '') process.stdout.write(out.endsWith('\n') ? out : `${out}\n`);
}

/** Lines in which nothing but their ends, tabs and what can be seen is left as it is. */
export function harmless(text: string): string {
  return text.replace(/[^\n\t]+/g, plain);
}

/** JSON leaves what terminals take for the beginning of a command (C1) as it is. */
function jsonText(value: unknown): string {
  return JSON.stringify(value, undefined, 2).replace(
    /[\x7f-\x9f]/g,
    (char) => `\\u00${char.charCodeAt(0).toString(16)}`,
  );
}

/** A remark that is no result: to stderr, unless --quiet. */
export function remark(given: Arguments, text: string): void {
  if (!given.has('quiet')) process.stderr.write(`varve: ${plain(text)}\n`);
}

/** Rows as columns two spaces apart; the last column keeps its width. */
export function table(texts: readonly (readonly string[])[], indent = ''): string {
  const rows = texts.map((row) => row.map(plain));
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      (
        indent +
        row.map((cell, i) => (i + 1 < row.length ? cell.padEnd(widths[i] ?? 0) : cell)).join('  ')
      ).trimEnd(),
    )
    .join('\n');
}

/** A number with its noun: `1 file`, `3 files`. */
export function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

/** How long ago, roughly: `3 min`. */
export function age(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}
