// One change in a few words, sizes and counts for people, and the colours of what happened.
// Used by outline.ts and stat.ts.
// Colours: ECMA-48 SGR, the sixteen that every terminal has.

import type { Status } from '../union/change.js';
import type { ChangeEntry, Sides } from './document.js';

/** Bytes: `41.2 MiB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let n = bytes;
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) {
    n /= 1024;
    unit++;
  }
  return unit === 0 ? `${n} B` : `${n.toFixed(1)} ${units[unit]}`;
}

/** Text that cannot end a line, move the cursor or turn what follows around. */
export function plain(text: string): string {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (char) => {
      const code = char.charCodeAt(0);
      return code < 0x100
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : `\\u${code.toString(16).padStart(4, '0')}`;
    },
  );
}

/** Size, or size before and after. */
export function sizeWords(entry: ChangeEntry): string {
  const { size } = entry;
  if (size === undefined) return '';
  const { before, after } = size;
  if (entry.status === 'D') return before === undefined ? '' : bytesText(before);
  if (after === undefined) return '';
  const isOther = entry.what.includes('content') && before !== undefined && before !== after;
  return isOther ? `${bytesText(before)} → ${bytesText(after)}` : bytesText(after);
}

/** What is another now: `content`, `mode 0644 → 0600`, `owner 0:0 → 1000:1000`, `xattr +user.x`... */
export function changeWords(entry: ChangeEntry): string[] {
  const words: string[] = [];
  const has = (aspect: ChangeEntry['what'][number]): boolean => entry.what.includes(aspect);
  const { target, device } = entry;
  if (entry.status === 'T') words.push(`was a ${entry.typeBefore}, is a ${entry.type}`);
  else if (target?.after !== undefined && target.before === undefined) {
    words.push(`→ ${plain(target.after)}`);
  } else if (has('content')) words.push(arrow('target', target) ?? arrow('', device) ?? 'content');
  if (has('mode')) words.push(arrow('mode', entry.mode) ?? 'mode');
  if (has('owner')) words.push(arrow('owner', ownerText(entry.owner)) ?? 'owner');
  if (has('xattr')) words.push(xattrWords(entry));
  if (has('time') && entry.what.length === 1) words.push('time');
  // A new directory hides nothing.
  const wasThere = entry.mode?.before !== undefined && entry.status !== 'T';
  if (entry.opaque === true && wasThere) words.push('replaced');
  if (entry.link !== undefined) words.push(`hard link of ${plain(entry.link)}`);
  return words;
}

function arrow(name: string, sides: Sides<string> | undefined): string | undefined {
  if (sides?.before === undefined || sides.after === undefined) return undefined;
  const text = `${plain(sides.before)} → ${plain(sides.after)}`;
  return name === '' ? text : `${name} ${text}`;
}

function ownerText(owner: ChangeEntry['owner']): Sides<string> {
  return { before: owner?.before?.join(':'), after: owner?.after?.join(':') };
}

function xattrWords(entry: ChangeEntry): string {
  const names = (entry.xattrs ?? []).map(({ name, before, after }) => {
    const sign = before === undefined ? '+' : after === undefined ? '-' : '~';
    return `${sign}${plain(name)}`;
  });
  return ['xattr', ...names].join(' ');
}

/** Puts text into a colour, or leaves it. */
export type Paint = (colour: Colour, text: string) => string;

export type Colour = Status | 'dim' | 'bold' | 'added' | 'removed';

const CODES: Readonly<Record<Colour, string>> = {
  A: '32',
  M: '33',
  D: '31',
  R: '36',
  T: '35',
  '=': '2',
  dim: '2',
  bold: '1',
  added: '32',
  removed: '31',
};

/** @param colours whether the reader's terminal has them. */
export function painter(colours: boolean): Paint {
  return (colour, text) => (colours && text !== '' ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text);
}
