// The lines of a registry file: what kind each is, and one value with its continuation lines.
// Used by parse.ts and delta-text.ts. Text is latin1, one character a byte; lines end with LF or CR LF.
// Follows: server/registry.c of Wine (load_keys, parse_value_name, load_value).

import { RegistryError } from './error.js';
import { endOfEscaped, unescapeText } from './escape.js';
import type { RegistryValue } from './hive.js';

/** The data of a value whose line Wine does not understand: it takes the value as one without type and bytes. */
export const NO_DATA = 'hex(0):';

/** Of keys below one another: the limit of Windows; Wine has none. Without one, a single line could cost minutes. */
const MAX_DEPTH = 512;

/** @throws RegistryError for a path with more than 512 parts */
export function requireDepth(path: string, line: () => number): void {
  if (path.length > MAX_DEPTH && path.split('\\', MAX_DEPTH + 1).length > MAX_DEPTH) {
    throw new RegistryError(line(), `a key deeper than ${MAX_DEPTH} levels: ${path.slice(0, 60)}`);
  }
}

/** Walks over lines. */
export class Lines {
  readonly text: string;
  /** Where the next line begins. */
  at: number;
  /** Number of the line last read, from 1. */
  number: number;

  constructor(text: string, at = 0, number = 0) {
    this.text = text;
    this.at = at;
    this.number = number;
  }

  /** The next line without its end; undefined after the last one. */
  next(): string | undefined {
    const from = this.at;
    if (from >= this.text.length) return undefined;
    const feed = this.text.indexOf('\n', from);
    const end = feed === -1 ? this.text.length : feed;
    this.at = end + 1;
    this.number++;
    const isCr = feed !== -1 && end > from && this.text.charCodeAt(end - 1) === 0x0d;
    return this.text.slice(from, isCr ? end - 1 : end);
  }
}

/** What isspace(3) takes, a line feed included. */
export const isBlank = (code: number) => code === 0x20 || (code >= 0x09 && code <= 0x0d);

/** Where the text of a line begins: blanks before it count for nothing. */
export function startOf(line: string, from = 0): number {
  let at = from;
  while (isBlank(line.charCodeAt(at))) at++;
  return at;
}

const isHexDigit = (code: number) =>
  (code >= 0x30 && code <= 0x39) ||
  (code >= 0x41 && code <= 0x46) ||
  (code >= 0x61 && code <= 0x66);

/**
 * Reads bytes in hex, `0a,ff,`, from `at` on.
 * @returns where it stops: at the first character that does not belong to them; -1 for a number above ff
 */
export function skipHex(line: string, at: number, bytes?: number[]): number {
  while (isHexDigit(line.charCodeAt(at))) {
    const from = at;
    while (isHexDigit(line.charCodeAt(at))) at++;
    const value = Number.parseInt(line.slice(from, at), 16);
    if (value > 0xff) return -1;
    bytes?.push(value);
    at = startOf(line, at);
    if (line.charCodeAt(at) === 0x2c) at = startOf(line, at + 1);
  }
  return at;
}

/** `hex:` or `hex(7):`; the type is at 1. */
export const HEX_TAG = /^hex(?::|\(([0-9a-fA-F]{1,8})\):)/;

/** A line of bytes as Wine writes it. */
const WRITTEN_HEX = /(?:[0-9a-f]{2},)*(?:\\|[0-9a-f]{2})?$/y;

/** Whether this line of bytes, hex from `at` on, goes on in the next: `end` when it does not, `bad` when Wine refuses it. */
function hexLine(line: string, at: number): 'more' | 'end' | 'bad' {
  WRITTEN_HEX.lastIndex = at;
  if (WRITTEN_HEX.test(line)) return line.charCodeAt(line.length - 1) === 0x5c ? 'more' : 'end';
  const stop = skipHex(line, at);
  if (stop === -1) return 'bad';
  if (stop === line.length) return 'end';
  const isMore = line.charCodeAt(stop) === 0x5c && startOf(line, stop + 1) === line.length;
  return isMore ? 'more' : 'bad';
}

/** Whether a line is a value whose bytes go on in the next one. */
export function goesOn(line: string): boolean {
  const head = nameOf(line);
  if (head === undefined) return false;
  const tag = HEX_TAG.exec(line.slice(head.data));
  return tag !== null && hexLine(line, startOf(line, head.data + tag[0].length)) === 'more';
}

/** The name of a value line and where its data begins; undefined where Wine skips the line. */
export function nameOf(line: string): { readonly name: string; readonly data: number } | undefined {
  const start = startOf(line);
  let after = start + 1;
  let name = '';
  if (line[start] === '"') {
    const end = endOfEscaped(line, after, '"');
    if (end === -1) return undefined;
    name = unescapeText(line.slice(after, end));
    after = end + 1;
  } else if (line[start] !== '@') return undefined;
  const equals = startOf(line, after);
  return line[equals] === '=' ? { name, data: startOf(line, equals + 1) } : undefined;
}

/**
 * Reads a value whose first line has just been read from `lines`; its continuation lines are read as well.
 * @returns undefined where Wine skips the line
 */
export function readValue(line: string, lines: Lines): RegistryValue | undefined {
  const head = nameOf(line);
  if (head === undefined) return undefined;
  const { name } = head;
  let data = line.slice(head.data);
  if (!data.endsWith('\\') && !isBlank(data.charCodeAt(data.length - 1))) return { name, data };
  if (!goesOn(line)) return { name, data };
  for (;;) {
    const next = lines.next();
    if (next === undefined) return { name, data: NO_DATA };
    const kind = hexLine(next, startOf(next));
    if (kind === 'bad') return { name, data: NO_DATA };
    data += `\n${next}`;
    if (kind === 'end') return { name, data };
  }
}
