// One 512-byte tar header: its fields as bytes and numbers, in every dialect.
// Read by tar-read; long names, attributes and sparse maps come from tar-pax and tar-sparse.
// Follows: pax(1) of POSIX.1-2017 (ustar), tar.h of GNU tar 1.34 (old GNU format, base-256 numbers), star's prefix.

import { bytes, struct, u8 } from '../bytes/struct.js';
import { ArchiveError } from './errors.js';

export const BLOCK = 512;

/** struct posix_header, 500 bytes and padding; all numbers are text. */
export const TarHeader = struct('tar header', BLOCK, {
  name: [0, bytes(100)],
  mode: [100, bytes(8)], // octal, as all numbers here, or base-256
  uid: [108, bytes(8)],
  gid: [116, bytes(8)],
  size: [124, bytes(12)], // bytes of data behind the header
  mtime: [136, bytes(12)], // seconds since 1970
  chksum: [148, bytes(8)], // sum of the header's bytes, this field taken as spaces
  typeflag: [156, u8],
  linkname: [157, bytes(100)],
  magic: [257, bytes(6)], // "ustar\0" or "ustar "
  version: [263, bytes(2)], // "00" or " \0"
  uname: [265, bytes(32)],
  gname: [297, bytes(32)],
  devmajor: [329, bytes(8)],
  devminor: [337, bytes(8)],
  prefix: [345, bytes(155)], // ustar: goes before the name; other things in other dialects
  pad: [500, bytes(12)],
});

const AT = TarHeader.at;

/** A header's fields, as far as they do not depend on other headers. */
export interface Header {
  /** Byte offset in the archive. */
  readonly offset: number;
  /** One character. */
  readonly type: string;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** The 512 bytes, for what dialects put behind the prefix. */
  readonly raw: Uint8Array;
}

/**
 * Decodes a header that is not all zeros.
 * @param block 512 bytes, copied. @throws ArchiveError with the field that is malformed.
 */
export function decodeHeader(block: Uint8Array, offset: number): Header {
  const raw = Uint8Array.prototype.slice.call(block);
  checkSum(raw, offset);
  const type = String.fromCharCode(raw[AT.typeflag] as number);
  const isDevice = type === '3' || type === '4';
  const read = (field: keyof typeof AT) => number(raw, field, offset);
  return {
    offset,
    type,
    name: fullName(raw),
    linkName: text(raw, AT.linkname, 100),
    mode: read('mode'),
    uid: read('uid'),
    gid: read('gid'),
    size: read('size'),
    mtime: read('mtime'),
    // Elsewhere these fields may hold anything.
    devMajor: isDevice ? read('devmajor') : 0,
    devMinor: isDevice ? read('devminor') : 0,
    raw,
  };
}

/** Whether bytes begin with a header: only the oldest have no magic, and their checksum tells. */
export function looksLikeHeader(block: Uint8Array): boolean {
  if (block.length < BLOCK || block[0] === 0) return false;
  if (text(block, AT.magic, 5) === 'ustar') return true;
  try {
    checkSum(block, 0);
    return true;
  } catch {
    return false;
  }
}

export function isZeroBlock(block: Uint8Array): boolean {
  return block[0] === 0 && block.every((byte) => byte === 0);
}

function fullName(raw: Uint8Array): string {
  const name = text(raw, AT.name, 100);
  const magic = text(raw, AT.magic, 8);
  // GNU keeps times and sparse maps where the prefix would be.
  if (!magic.startsWith('ustar') || magic.startsWith('ustar ')) return name;
  const isStar = text(raw, 508, 4) === 'tar';
  const prefix = text(raw, AT.prefix, isStar ? 131 : 155);
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Bytes up to the first NUL, latin1. */
export function text(raw: Uint8Array, at: number, size: number): string {
  const field = Buffer.from(raw.buffer, raw.byteOffset + at, size);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end < 0 ? size : end);
}

function number(raw: Uint8Array, name: keyof typeof AT, offset: number): number {
  const at = AT[name];
  const end = at + TarHeader.fields[name][1].size;
  // What every writer writes: digits and one end mark. Anything else is looked at with care.
  let value = 0;
  let i = at;
  for (
    let byte = raw[i] as number;
    byte >= 0x30 && byte <= 0x37 && i < end;
    byte = raw[i] as number
  ) {
    value = value * 8 + byte - 0x30;
    i++;
  }
  const isPlain = i > at && i >= end - 2 && (i === end || raw[i] === 0 || raw[i] === 0x20);
  return isPlain ? value : parseNumber(raw.subarray(at, end), name, offset);
}

/**
 * Octal digits among spaces, ended by a space or NUL; or, when the first bit is set, a big-endian two's complement number
 * in the bits behind it (base-256). Empty means 0.
 */
export function parseNumber(field: Uint8Array, name: string, offset: number): number {
  const first = field[0] as number;
  if (first >= 0x80) {
    // 0x80 begins positive and 0xff negative numbers; the bits between belong to the number.
    let value = BigInt.asIntN(7, BigInt(first & 0x7f));
    for (let i = 1; i < field.length; i++) value = (value << 8n) | BigInt(field[i] as number);
    const narrowed = Number(value);
    if (!Number.isSafeInteger(narrowed)) throw bad(name, offset, `${value} is out of range`);
    return narrowed;
  }
  const digits = Buffer.from(field).toString('latin1').replace(/\0.*$/s, '').trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) {
    throw bad(name, offset, `${JSON.stringify(digits)} is no octal number`);
  }
  return Number.parseInt(digits, 8);
}

function checkSum(raw: Uint8Array, offset: number): void {
  const stated = number(raw, 'chksum', offset);
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) sum += raw[i] as number;
  for (let i = AT.chksum; i < AT.chksum + 8; i++) sum -= raw[i] as number;
  if (stated === sum) return;
  // Some old tars summed signed characters.
  const negative = raw.reduce((count, byte, i) => {
    const inSum = i >= AT.chksum && i < AT.chksum + 8;
    return byte > 127 && !inSum ? count + 1 : count;
  }, 0);
  if (stated !== sum - 256 * negative) {
    throw bad('chksum', offset, `is ${stated.toString(8)}, the bytes sum up to ${sum.toString(8)}`);
  }
}

function bad(field: string, offset: number, problem: string): ArchiveError {
  return new ArchiveError(TarHeader.name, field, offset, problem);
}
