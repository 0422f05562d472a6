// A delta as a file for regedit, so that Windows, Wine and people can read it.
// The last step of `varve wine diff --format reg` and of exports; regedit-read.ts is the way back.
// Follows: programs/regedit/regproc.c of Wine, `Windows Registry Editor Version 5.00`, UTF-16LE with CR LF.

import { rankOf } from './apply.js';
import { creates, type KeyDelta, type RegistryDelta } from './delta.js';
import { HIVES, type RegistryValue } from './hive.js';
import { REGEDIT_5, REGEDIT_ROOTS } from './regedit-roots.js';
import { decodeValue, hexOf, hexTag, REG_DWORD, REG_SZ } from './value.js';

export { readRegedit } from './regedit-read.js';

export interface RegeditOptions {
  /** Lines for people at the top. */
  readonly comment?: string;
}

/**
 * What regedit cannot do is there as a comment: classes and links of keys, names with a NUL or (of keys) a line end.
 */
export function writeRegedit(delta: RegistryDelta, options: RegeditOptions = {}): Buffer {
  const lines = [REGEDIT_5];
  for (const line of options.comment?.split(/\r?\n/) ?? []) lines.push(`; ${line}`);
  for (const hive of HIVES) {
    const entries = [...delta[hive]].map(([folded, entry]) => ({ rank: rankOf(folded), entry }));
    entries.sort((a, b) => (a.rank < b.rank ? -1 : 1));
    for (const { entry } of entries) pushKey(lines, REGEDIT_ROOTS[hive], entry);
  }
  return Buffer.from(`\ufeff${lines.join('\r\n')}\r\n\r\n`, 'utf16le');
}

function pushKey(lines: string[], root: string, entry: KeyDelta): void {
  const path = entry.path === '' ? root : `${root}\\${entry.path}`;
  lines.push('');
  if (/[\0\r\n]/.test(path)) {
    lines.push(`; left out, a key whose name regedit cannot read: ${visible(path)}`);
    return;
  }
  if (entry.deleted) lines.push(`[-${path}]`);
  if (!creates(entry) && entry.removed.size === 0) return;
  const isLink = entry.options?.some((line) => line.startsWith('#link')) === true;
  if (isLink) {
    lines.push(`; left out, a link, which regedit cannot make: ${path}`);
    return;
  }
  lines.push(`[${path}]`);
  for (const option of entry.options ?? []) lines.push(`; ${visible(option)}`);
  for (const line of valueLines(entry)) lines.push(line);
}

function valueLines(entry: KeyDelta): string[] {
  const lines = new Map<string, string>();
  for (const [folded, name] of entry.removed)
    lines.set(
      folded,
      valueLine(name, () => '-'),
    );
  for (const [folded, value] of entry.set) {
    lines.set(
      folded,
      valueLine(value.name, (head) => dataOf(value, head.length)),
    );
  }
  return [...lines].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, line]) => line);
}

function valueLine(name: string, data: (head: string) => string): string {
  if (name.includes('\0')) return `; left out, a name that regedit cannot read: ${visible(name)}`;
  const head = name === '' ? '@=' : `"${escaped(name)}"=`;
  return head + data(head);
}

/** @param column what stands before it in its line */
function dataOf(value: RegistryValue, column: number): string {
  const { type, bytes, text } = decodeValue(value.data);
  // Windows writes line ends in strings as they are, Wine as \n, and each reads the other's wrongly.
  if (type === REG_SZ && text !== undefined && !/[\0\r\n]/.test(text) && isWhole(bytes, text)) {
    return `"${escaped(text)}"`;
  }
  if (type === REG_DWORD && bytes.length === 4) {
    return `dword:${bytes.readUInt32LE().toString(16).padStart(8, '0')}`;
  }
  const tag = hexTag(type);
  return tag + hexOf(bytes, column + tag.length, '\r\n');
}

/** A string and its NUL: what regedit makes of text. */
const isWhole = (bytes: Buffer, text: string) => bytes.length === 2 * text.length + 2;

const escaped = (text: string): string =>
  text.replace(/["\\]/g, '\\$&').replaceAll('\r', '\\r').replaceAll('\n', '\\n');

/** For a comment: one line. */
const visible = (text: string): string =>
  text.replace(/[\0-\x1f]/g, (unit) => `\\x${unit.charCodeAt(0).toString(16).padStart(2, '0')}`);
