// A file for regedit as a delta: what importing it would change.
// The way in for .reg files of people, installers and web pages; regedit.ts writes them.
// Follows: programs/regedit/regproc.c of Wine; REGEDIT4 and 5.00; where Windows reads more (strings of several lines), that.

import { type KeyDelta, NOTHING, type RegistryDelta } from './delta.js';
import { RegistryError } from './error.js';
import { fold, type HiveName, type RegistryValue } from './hive.js';
import { requireDepth } from './lines.js';
import { REGEDIT_5, REGEDIT_ROOTS } from './regedit-roots.js';
import {
  encodeValue,
  REG_BINARY,
  REG_DWORD,
  REG_EXPAND_SZ,
  REG_MULTI_SZ,
  REG_SZ,
} from './value.js';

/**
 * Later lines count more, as regedit does one after the other; lines that are neither key nor value are comments.
 * Bytes without a mark are UTF-8, or Windows-1252 where they are none.
 * @throws RegistryError for what regedit would leave out: a key of no root, a value that cannot be read
 */
export function readRegedit(bytes: Uint8Array): RegistryDelta {
  const lines = new TextLines(textOf(bytes));
  const header = lines.next()?.trim();
  if (header !== REGEDIT_5 && header !== 'REGEDIT4') {
    throw new RegistryError(1, `no file of regedit: it begins with ${REGEDIT_5} or REGEDIT4`);
  }
  const file: Reader = { lines, isUtf16: header === REGEDIT_5, delta: emptyDraft() };
  let entry: Draft | undefined;
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    const text = line.trimStart();
    if (text[0] === '[') entry = readKey(file, text);
    else if (text[0] === '@' || text[0] === '"') readValue(file, text, entry);
  }
  return file.delta;
}

interface Draft extends KeyDelta {
  readonly set: Map<string, RegistryValue>;
  readonly removed: Map<string, string>;
}

interface Reader {
  readonly lines: TextLines;
  /** Strings in hex are UTF-16; else in the code page. */
  readonly isUtf16: boolean;
  readonly delta: Record<HiveName, Map<string, KeyDelta>>;
}

const emptyDraft = () => ({ system: new Map(), user: new Map(), userdef: new Map() });

function textOf(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (buffer[0] === 0xff && buffer[1] === 0xfe) return buffer.subarray(2).toString('utf16le');
  if (buffer[0] === 0xfe && buffer[1] === 0xff) {
    const even = buffer.subarray(2, buffer.length - (buffer.length % 2));
    return Buffer.from(even).swap16().toString('utf16le');
  }
  return narrowText(buffer);
}

function narrowText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

class TextLines {
  readonly #lines: string[];
  /** Of the line last read, from 1. */
  number = 0;

  constructor(text: string) {
    this.#lines = text.split(/\r\n|\r|\n/);
  }

  next(): string | undefined {
    return this.#lines[this.number++];
  }

  wrong(what: string, line = this.number): RegistryError {
    return new RegistryError(line, what);
  }
}

/** @returns undefined where the values that follow belong to nobody, as after a deletion */
function readKey({ lines, delta }: Reader, line: string): Draft | undefined {
  const end = line.lastIndexOf(']');
  if (end === -1) throw lines.wrong(`a key without its ]: ${shortOf(line)}`);
  const isDeleted = line[1] === '-';
  const { hive, path } = placeOf(line.slice(isDeleted ? 2 : 1, end), lines);
  const folded = fold(path);
  const entries = delta[hive];
  if (!isDeleted) {
    const before = entries.get(folded);
    const entry: Draft = {
      ...(before ?? { path }),
      present: true,
      set: new Map(before?.set),
      removed: new Map(before?.removed),
    };
    entries.set(folded, entry);
    return entry;
  }
  if (path === '') throw lines.wrong(`a root cannot be deleted: ${shortOf(line)}`);
  for (const other of entries.keys()) {
    if (other.startsWith(`${folded}\\`)) entries.delete(other);
  }
  entries.set(folded, { path, deleted: true, set: NOTHING, removed: NOTHING });
  return undefined;
}

/** Roots that are views of a hive, and the hives: folded, the longest first. */
const PLACES: readonly (readonly [string, HiveName, string])[] = [
  [REGEDIT_ROOTS.system, 'system', ''],
  [REGEDIT_ROOTS.user, 'user', ''],
  [REGEDIT_ROOTS.userdef, 'userdef', ''],
  ['HKEY_USERS\\S-1-5-21-0-0-0-1000', 'user', ''],
  ['HKEY_CLASSES_ROOT', 'system', 'Software\\Classes'],
  ['HKEY_CURRENT_CONFIG', 'system', 'System\\CurrentControlSet\\Hardware Profiles\\Current'],
];

function placeOf(name: string, lines: TextLines): { hive: HiveName; path: string } {
  const full = name.replace(/\\+/g, '\\').replace(/\\$/, '');
  for (const [root, hive, above] of PLACES) {
    if (!fold(`${full}\\`).startsWith(fold(`${root}\\`))) continue;
    const path = full.slice(root.length + 1);
    requireDepth(path, () => lines.number);
    return { hive, path: above === '' || path === '' ? above + path : `${above}\\${path}` };
  }
  const users = '; of users there are HKEY_CURRENT_USER and HKEY_USERS\\.Default';
  const hint = /^hkey_users/i.test(full) ? users : '';
  throw lines.wrong(`a key that a prefix does not have: ${shortOf(full)}${hint}`);
}

function readValue(file: Reader, line: string, entry: Draft | undefined): void {
  const { lines } = file;
  const head = line[0] === '@' ? { text: '', end: 1 } : unquoted(line, 1);
  const data = head === undefined ? undefined : /^[ \t]*=[ \t]*(.*)$/s.exec(line.slice(head.end));
  if (head === undefined || !data) throw lines.wrong(`a value without =: ${shortOf(line)}`);
  const name = head.text;
  const folded = fold(name);
  if (/^-[ \t]*(?:;|$)/.test(data[1])) {
    entry?.set.delete(folded);
    entry?.removed.set(folded, name);
    return;
  }
  const { type, bytes } = dataOf(file, data[1]);
  entry?.removed.delete(folded);
  entry?.set.set(folded, { name, data: encodeValue(type, bytes, name) });
}

function dataOf(file: Reader, data: string): { type: number; bytes: Uint8Array } {
  if (data[0] === '"') return { type: REG_SZ, bytes: stringOf(file.lines, data) };
  const dword = /^dword:[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?$/.exec(data);
  if (dword !== null) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(Number.parseInt(dword[1], 16));
    return { type: REG_DWORD, bytes };
  }
  const hex = /^hex(?:\(([0-9a-fA-F]{1,8})\))?:(.*)$/s.exec(data);
  if (hex === null) throw file.lines.wrong(`data of no known form: ${shortOf(data)}`);
  const type = hex[1] === undefined ? REG_BINARY : Number.parseInt(hex[1], 16);
  const bytes = hexBytes(file.lines, hex[2]);
  return { type, bytes: file.isUtf16 ? bytes : widened(type, bytes) };
}

/** A string in quotes; over several lines, as Windows writes it. */
function stringOf(lines: TextLines, data: string): Buffer {
  const { number } = lines;
  for (let text = data; ; ) {
    const string = unquoted(text, 1);
    if (string !== undefined) {
      if (/^[ \t]*(?:;|$)/.test(text.slice(string.end))) {
        return Buffer.from(`${string.text}\0`, 'utf16le');
      }
      throw lines.wrong(`something behind a string: ${shortOf(data)}`, number);
    }
    const next = lines.next();
    if (next === undefined) throw lines.wrong(`a string without its end: ${shortOf(data)}`, number);
    text += `\r\n${next}`;
  }
}

/** What stands between quotes from `from` on; undefined where they do not end. */
function unquoted(line: string, from: number): { text: string; end: number } | undefined {
  const found = /([^"\\]*(?:\\.[^"\\]*)*)"/sy;
  found.lastIndex = from;
  const string = found.exec(line);
  if (string === null) return undefined;
  const text = string[1].replace(/\\(.)/gs, (_, mark) =>
    mark === 'n' ? '\n' : mark === 'r' ? '\r' : mark,
  );
  return { text, end: found.lastIndex };
}

/** Bytes with commas between, over all lines that end with a backslash; blank lines and comments between count for nothing. */
function hexBytes(lines: TextLines, first: string): Buffer {
  const { number } = lines;
  const bytes: number[] = [];
  for (let line: string | undefined = first; line !== undefined; line = lines.next()) {
    const part =
      /^[ \t]*((?:[0-9a-fA-F]{1,2}[ \t]*(?:,[ \t]*|(?=[\\;]|$)))*)(\\?)[ \t]*(?:;.*)?$/.exec(line);
    if (part === null) throw lines.wrong(`bytes that cannot be read: ${shortOf(line)}`);
    for (const byte of part[1].split(',')) {
      if (byte.trim() !== '') bytes.push(Number.parseInt(byte, 16));
    }
    const isBlank = part[1] === '' && part[2] === '' && number !== lines.number;
    if (part[2] === '' && !isBlank) break;
  }
  return Buffer.from(bytes);
}

/** Strings of REGEDIT4, in UTF-16. */
function widened(type: number, bytes: Buffer): Buffer {
  if (type !== REG_SZ && type !== REG_EXPAND_SZ && type !== REG_MULTI_SZ) return bytes;
  return Buffer.from(narrowText(bytes), 'utf16le');
}

const shortOf = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}...` : text);
