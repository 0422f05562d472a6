// The data of a registry value: from its text in a file to type and bytes, and back into Wine's own form.
// Used wherever two values are compared, shown, or written for regedit; text is latin1, one character a byte.
// Follows: server/registry.c of Wine (load_value, get_data_type, dump_value).

import { endOfEscaped, escapeText, unescapeText } from './escape.js';
import { HEX_TAG, skipHex, startOf } from './lines.js';

export const REG_SZ = 1;
export const REG_EXPAND_SZ = 2;
export const REG_BINARY = 3;
export const REG_DWORD = 4;
export const REG_LINK = 6;
export const REG_MULTI_SZ = 7;

/** By number: winnt.h. */
const TYPE_NAMES = [
  'REG_NONE',
  'REG_SZ',
  'REG_EXPAND_SZ',
  'REG_BINARY',
  'REG_DWORD',
  'REG_DWORD_BIG_ENDIAN',
  'REG_LINK',
  'REG_MULTI_SZ',
  'REG_RESOURCE_LIST',
  'REG_FULL_RESOURCE_DESCRIPTOR',
  'REG_RESOURCE_REQUIREMENTS_LIST',
  'REG_QWORD',
];

export interface DecodedValue {
  readonly type: number;
  /** `REG_SZ`; `REG_1234` (hex) for a type without a name. */
  readonly typeName: string;
  /** As a program gets them: a string with its NUL at the end, in UTF-16. */
  readonly bytes: Buffer;
  /** Of REG_SZ, REG_EXPAND_SZ and REG_LINK: without the NUL. Of REG_MULTI_SZ: the strings with a NUL between two. */
  readonly text?: string;
}

/** What Wine makes of the text behind `=`. What it does not understand is a value without type and bytes. */
export function decodeValue(data: string): DecodedValue {
  const string = /^(?:str(?:|\(([27])\)):)?"/.exec(data);
  if (string !== null) return decodeString(data, Number(string[1] ?? REG_SZ), string[0].length);
  if (data.startsWith('dword:')) return decoded(REG_DWORD, dwordOf(data.slice(6)));
  const hex = HEX_TAG.exec(data);
  if (hex === null) return NONE;
  const bytes = bytesOf(data, hex[0].length);
  const type = hex[1] === undefined ? REG_BINARY : Number.parseInt(hex[1], 16);
  return bytes === undefined ? NONE : decoded(type, Buffer.from(bytes));
}

const NONE: DecodedValue = { type: 0, typeName: 'REG_NONE', bytes: Buffer.alloc(0) };

/** Whether two texts behind `=` are the same type and bytes. */
export function isSameData(one: string, other: string): boolean {
  if (one === other) return true;
  const a = decodeValue(one);
  const b = decodeValue(other);
  return a.type === b.type && a.bytes.equals(b.bytes);
}

/**
 * As Wine writes it behind `=`.
 * @param content the bytes; or text as in DecodedValue, for the types that have one
 * @param name of the value: where the bytes are broken into lines depends on its length
 */
export function encodeValue(type: number, content: Uint8Array | string, name = ''): string {
  const bytes = typeof content === 'string' ? bytesOfText(type, content) : content;
  if (type === REG_DWORD && bytes.length === 4) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, 4);
    return `dword:${view.getUint32(0, true).toString(16).padStart(8, '0')}`;
  }
  if ((type === REG_SZ || type === REG_EXPAND_SZ || type === REG_MULTI_SZ) && isTerminated(bytes)) {
    const text = utf16(bytes.subarray(0, bytes.length - 2));
    return `${type === REG_SZ ? '' : `str(${type}):`}"${escapeText(text, '"')}"`;
  }
  const tag = hexTag(type);
  const head = name === '' ? 2 : escapeText(name, '"').length + 3;
  return tag + hexOf(bytes, head + tag.length);
}

/** What stands before bytes. */
export const hexTag = (type: number): string =>
  type === REG_BINARY ? 'hex:' : `hex(${(type >>> 0).toString(16)}):`;

function decoded(type: number, bytes: Buffer): DecodedValue {
  const typeName = TYPE_NAMES[type] ?? `REG_${type.toString(16)}`;
  const text = textOf(type, bytes);
  return text === undefined ? { type, typeName, bytes } : { type, typeName, bytes, text };
}

function decodeString(data: string, type: number, from: number): DecodedValue {
  const end = endOfEscaped(data, from, '"');
  if (end === -1) return NONE;
  return decoded(type, Buffer.from(`${unescapeText(data.slice(from, end))}\0`, 'utf16le'));
}

/** strtoul(3) of 64 bits, cut to 32. */
function dwordOf(text: string): Buffer {
  const [, sign, digits] = /^\s*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]*)/.exec(text)!;
  let value = BigInt(`0x${digits || '0'}`);
  if (value > 0xffffffffffffffffn) value = 0xffffffffffffffffn;
  else if (sign === '-') value = -value;
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Number(BigInt.asUintN(32, value)));
  return bytes;
}

/** The bytes in hex from `at` on, over all lines; undefined where Wine refuses them. */
function bytesOf(data: string, at: number): number[] | undefined {
  const bytes: number[] = [];
  for (;;) {
    const stop = skipHex(data, startOf(data, at), bytes);
    if (stop === data.length) return bytes;
    if (stop === -1 || data.charCodeAt(stop) !== 0x5c) return undefined;
    const feed = startOf(data, stop + 1);
    if (feed === stop + 1 || !data.slice(stop, feed).includes('\n')) return undefined;
    at = feed;
  }
}

/**
 * Bytes with commas between, `0a,ff`.
 * @param column how much stands before them in their line, which breaks after 76
 */
export function hexOf(bytes: Uint8Array, column: number, lineEnd = '\n'): string {
  let out = '';
  for (let i = 0; i < bytes.length; i++) {
    out += bytes[i].toString(16).padStart(2, '0');
    column += 2;
    if (i === bytes.length - 1) break;
    out += ',';
    if (++column > 76) {
      out += `\\${lineEnd}  `;
      column = 2;
    }
  }
  return out;
}

const utf16 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf16le');

const isTerminated = (bytes: Uint8Array) =>
  bytes.length >= 2 &&
  bytes.length % 2 === 0 &&
  bytes[bytes.length - 1] === 0 &&
  bytes[bytes.length - 2] === 0;

function textOf(type: number, bytes: Buffer): string | undefined {
  if (bytes.length % 2 !== 0) return undefined;
  if (type === REG_LINK) return utf16(bytes);
  if (type !== REG_SZ && type !== REG_EXPAND_SZ && type !== REG_MULTI_SZ) return undefined;
  const text = utf16(bytes).replace(/\0$/, '');
  return type === REG_MULTI_SZ ? text.replace(/\0$/, '') : text;
}

function bytesOfText(type: number, text: string): Buffer {
  if (type === REG_LINK) return Buffer.from(text, 'utf16le');
  const end = type === REG_MULTI_SZ && text !== '' ? '\0\0' : '\0';
  return Buffer.from(text + end, 'utf16le');
}
