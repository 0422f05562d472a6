// A value of a key in words: as one line for a terminal, as lines for the page.
// Used by keys-outline.ts, keys-lines.ts and the HTML page: pure code.
// Forms are those of regedit: the default value, numbers in both bases, bytes in hexadecimal digits.

import type { KeyData, KeysSummary } from './keys.js';

/** What a key's default value is called. */
export function valueName(name: string): string {
  return name === '' ? '(Default)' : name;
}

export interface WordLimits {
  /** Characters of text. */
  readonly text: number;
  readonly bytes: number;
}

const LINE: WordLimits = { text: 120, bytes: 16 };

/** `"text"`, `0x0000000a (10)`, `"a", "b"`, `01 02 03 … (128 bytes)`. Control characters are the caller's to escape. */
export function dataWords(data: KeyData, limits: WordLimits = LINE): string {
  if (data.text !== undefined) return quoted(data.text, limits.text);
  if (data.lines !== undefined) return linesWords(data.lines, limits.text);
  if (data.number !== undefined) return numberWords(data.number, data.size);
  const bytes = data.bytes ?? '';
  if (bytes === '') return '(empty)';
  const shown = bytes.slice(0, 2 * limits.bytes).replace(/..(?=.)/g, '$& ');
  return 2 * limits.bytes < bytes.length ? `${shown} … (${data.size} bytes)` : shown;
}

function quoted(text: string, limit: number): string {
  return text.length <= limit
    ? `"${text}"`
    : `"${text.slice(0, limit)}…" (${text.length} characters)`;
}

function linesWords(lines: readonly string[], limit: number): string {
  if (lines.length === 0) return '(no lines)';
  let room = limit;
  const shown: string[] = [];
  for (const line of lines) {
    if (room <= 0) break;
    shown.push(quoted(line, limit));
    room -= line.length + 4;
  }
  const more = lines.length - shown.length;
  return more === 0 ? shown.join(', ') : `${shown.join(', ')}, … (${lines.length} lines)`;
}

/** @param size bytes: how many digits it has. */
export function numberWords(number: number, size: number): string {
  return `0x${number.toString(16).padStart(2 * size, '0')} (${number})`;
}

/** `2 keys added; 6 values: 5 added, 1 modified`; `` where nothing is. */
export function countWords({ keys, values }: KeysSummary): string {
  const words = (noun: string, counts: KeysSummary['keys']): string => {
    const parts = (
      [
        [counts.added, 'added'],
        [counts.modified, 'modified'],
        [counts.deleted, 'deleted'],
      ] as const
    ).filter(([n]) => n > 0);
    const [first] = parts;
    if (first === undefined) return '';
    const total = parts.reduce((sum, [n]) => sum + n, 0);
    const head = `${total} ${noun}${total === 1 ? '' : 's'}`;
    if (parts.length === 1) return `${head} ${first[1]}`;
    return `${head}: ${parts.map(([n, word]) => `${n} ${word}`).join(', ')}`;
  };
  return [words('key', keys), words('value', values)].filter((part) => part !== '').join('; ');
}
