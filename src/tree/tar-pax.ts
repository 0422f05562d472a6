// PAX extended headers: records of key and value that override or add to a tar header.
// Read by tar-read. Values are bytes (latin1): names need not be UTF-8 and xattr values are binary.
// Follows: pax(1) of POSIX.1-2017, "pax Extended Header"; SCHILY.* of star(5), LIBARCHIVE.* of tar(5) of libarchive,
// RHT.security.selinux and GNU.* of GNU tar 1.34.

import { XATTR_SIZE_MAX } from '../linux/constants.js';
import { parseAclText } from './acl-text.js';
import { ArchiveError } from './errors.js';
import { isRepeatedXattr, show } from './tree.js';

/** Bytes of one extended header: an inode's xattrs are at most some 64 KiB in all file systems but a few. */
export const PAX_MAX = 16 * 1024 * 1024;

/** Records in their order; GNU sparse maps repeat keys. */
export type Records = readonly (readonly [key: string, value: string])[];

/** What an extended header is called in messages. */
const STRUCTURE = 'pax header';

/**
 * Splits the body of an extended header.
 * @param offset of the header that it belongs to. @throws ArchiveError for a record that does not end where it says.
 */
export function parseRecords(body: Uint8Array, offset: number): Records {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const records: [string, string][] = [];
  for (let at = 0; at < bytes.length; ) {
    // Padding that some writers count in.
    if (bytes[at] === 0) break;
    const space = bytes.indexOf(0x20, at);
    const digits = bytes.toString('latin1', at, Math.min(space < 0 ? at : space, at + 20));
    const length = /^[0-9]{1,10}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length <= digits.length + 2 || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw bad(offset, 'record length', `${show(digits)} at byte ${at} of the header is wrong`);
    }
    const equals = bytes.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) {
      throw bad(offset, 'record', `at byte ${at} of the header has no "="`);
    }
    records.push([
      bytes.toString('latin1', space + 1, equals),
      bytes.toString('latin1', equals + 1, end - 1),
    ]);
    at = end;
  }
  return records;
}

/** What records say of a member; undefined: nothing. */
export interface Overrides {
  path?: string;
  linkPath?: string;
  size?: number;
  uid?: number;
  gid?: number;
  mtime?: readonly [seconds: number, nanoseconds: number];
  devMajor?: number;
  devMinor?: number;
  xattrs?: Map<string, Uint8Array>;
}

/**
 * Interprets records, global ones first; a later record overrides an earlier one, an empty value takes it back.
 * @param offset of the header, for messages.
 */
export function interpret(records: Records, offset: number): Overrides {
  const result: Overrides = {};
  for (const [key, value] of records) {
    switch (key) {
      case 'path':
        result.path = value === '' ? undefined : value;
        break;
      case 'linkpath':
        result.linkPath = value === '' ? undefined : value;
        break;
      case 'size':
        result.size = integer(key, value, offset);
        break;
      case 'uid':
        result.uid = integer(key, value, offset);
        break;
      case 'gid':
        result.gid = integer(key, value, offset);
        break;
      case 'SCHILY.devmajor':
        result.devMajor = integer(key, value, offset);
        break;
      case 'SCHILY.devminor':
        result.devMinor = integer(key, value, offset);
        break;
      case 'mtime':
        result.mtime = time(key, value, offset);
        break;
      default:
        attribute(result, key, value, offset);
    }
  }
  return result;
}

const ACLS: Readonly<Record<string, string>> = {
  'SCHILY.acl.access': 'system.posix_acl_access',
  'SCHILY.acl.default': 'system.posix_acl_default',
};

function attribute(result: Overrides, key: string, value: string, offset: number): void {
  if (key.startsWith('SCHILY.xattr.')) {
    // GNU tar escapes what would end the key too early.
    const name = key.slice(13).replace(/%3D/g, '=').replace(/%25/g, '%');
    put(result, name, Buffer.from(value, 'latin1'), offset);
  } else if (key.startsWith('LIBARCHIVE.xattr.')) {
    // Both forms may stand in one header; they say the same.
    const name = key
      .slice(17)
      .replace(/%([0-9a-fA-F]{2})/g, (_all, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      );
    put(result, name, Buffer.from(value, 'base64'), offset);
  } else if (key === 'RHT.security.selinux') {
    // The kernel's value ends with a NUL, the record's does not.
    put(result, 'security.selinux', Buffer.from(`${value.replace(/\0$/, '')}\0`, 'latin1'), offset);
  } else if (ACLS[key] !== undefined && value !== '') {
    const parsed = parseAclText(value);
    if (typeof parsed === 'string') throw bad(offset, key, parsed);
    // An access ACL without further entries is the mode.
    if (parsed.length > 0) put(result, ACLS[key] as string, parsed, offset);
  }
}

function put(result: Overrides, name: string, value: Buffer, offset: number): void {
  if (name === '' || name.length > 255 || name.includes('\0')) {
    throw bad(offset, 'xattr', `${show(name.slice(0, 300))} is no name`);
  }
  if (value.length > XATTR_SIZE_MAX) {
    throw bad(offset, 'xattr', `${show(name)} has a value of ${value.length} bytes`);
  }
  if (isRepeatedXattr(name)) return;
  result.xattrs ??= new Map();
  result.xattrs.set(name, value);
}

function integer(key: string, value: string, offset: number): number | undefined {
  if (value === '') return undefined;
  const number = Number(value);
  if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(number)) {
    throw bad(offset, key, `${show(value.slice(0, 40))} is no number in range`);
  }
  return number;
}

/** Seconds as a decimal fraction, which may be negative: -1.25 is 0.75 s after -2. */
function time(key: string, value: string, offset: number): [number, number] | undefined {
  if (value === '') return undefined;
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value);
  if (match === null) throw bad(offset, key, `${show(value.slice(0, 40))} is no time`);
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return [seconds, nanoseconds];
  return nanoseconds === 0 ? [-seconds || 0, 0] : [-seconds - 1, 1e9 - nanoseconds];
}

function bad(offset: number, field: string, problem: string): ArchiveError {
  return new ArchiveError(STRUCTURE, field, offset, problem);
}
