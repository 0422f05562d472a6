// Words and numbers as the page shows them, the same where Node writes and where the browser does.
// Used by html.ts and page/: pure code.
// Sizes are powers of 1024, as everywhere in Varve.

import type { StatusLetter } from './page-data.js';

export const STATUS_WORDS: Readonly<Record<StatusLetter, string>> = {
  A: 'Added',
  M: 'Modified',
  D: 'Deleted',
  R: 'Renamed',
  T: 'Type changed',
  '=': 'Identical',
};

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes for people: `41.2 MiB`. */
export function sizeText(bytes: number): string {
  let n = Math.abs(bytes);
  let unit = 0;
  while (n >= 1024 && unit + 1 < UNITS.length) {
    n /= 1024;
    unit++;
  }
  const digits = unit === 0 || n >= 100 ? 0 : 1;
  return `${bytes < 0 ? '−' : ''}${n.toFixed(digits)} ${UNITS[unit]}`;
}

/** A number with its noun: `1 change`, `3 changes`. */
export function countText(n: number, noun: string): string {
  return `${n.toLocaleString('en')} ${noun}${n === 1 ? '' : 's'}`;
}

/**
 * What a reader could not see, or what would show other text in another order than it stands: control characters,
 * direction marks, zero-width and line-separating characters, lone surrogates, tags.
 */
export const HIDDEN =
  /[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udfff]/g;

/** One such character as an escape. */
export function escapeHidden(char: string): string {
  const code = char.codePointAt(0) as number;
  if (char === '\n') return '\\n';
  if (char === '\t') return '\\t';
  if (char === '\r') return '\\r';
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  return `\\u{${code.toString(16)}}`;
}

export function visibleText(text: string): string {
  return text.replace(HIDDEN, escapeHidden);
}

/** `0755` as `rwxr-xr-x`, with the bits above as ls(1) shows them. */
export function modeText(octal: string): string {
  const bits = Number.parseInt(octal, 8);
  const letters = [...'rwxrwxrwx'].map((letter, i) => ((bits >> (8 - i)) & 1 ? letter : '-'));
  const special = (bit: number, at: number, letter: string): void => {
    if ((bits & bit) === 0) return;
    letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase();
  };
  special(0o4000, 2, 's');
  special(0o2000, 5, 's');
  special(0o1000, 8, 't');
  return letters.join('');
}
